"""A question to people outlives every process, and needs no tab of whoever asked."""

import httpx

from tests.client import essence, fetch
from tests.faults.scene import Scene
from tests.system import checked


async def test_a_question_outlives_everything(scene: Scene) -> None:
    system, team = scene.system, scene.team
    rules = {"items": [{"tool": "look", "policy": "ask"}, {"tool": "pay", "policy": "ask"}]}
    checked(await team.ada.put(f"/api/projects/{team.project_id}/tool-policies", json=rules))
    async with team.room("ada", 0) as ada:
        text = (
            'patient #tool:look:{"key":"q1","seconds":0} #tool:pay:{"key":"q1","seconds":0}'
            " #say:looked"
        )
        turn_id = await scene.ask(ada, text)
        await ada.until(
            lambda: ada.state.turns.get(turn_id, {}).get("status") == "awaiting_approval"
        )
        calls = list(ada.state.executions)
    for child in (*(edge.child for edge in system.edges), *system.workers):
        await system.kill(child)
    await system.kill_temporal()
    await system.crash_postgres()
    await scene.heal()
    other = httpx.AsyncClient(base_url=system.edges[1].url, cookies=team.grace.cookies, timeout=30)
    async with other, team.room("grace", 1) as grace:
        for call in calls:
            path = f"/api/tool-executions/{call}/decision"
            checked(await other.post(path, json={"decision": "approve"}))
        assert await grace.turn(turn_id, timeout=40) == "completed"
        assert essence(grace.state) == essence(await fetch(team.ada, team.project_id))
    assert scene.counted()["look q1"] == scene.counted()["pay q1"] == 1


async def test_a_worker_that_dies_with_an_approved_call(scene: Scene) -> None:
    """Its claim stands: what was approved once is not done twice."""
    system, team = scene.system, scene.team
    rules = {"items": [{"tool": "pay", "policy": "ask"}]}
    checked(await team.ada.put(f"/api/projects/{team.project_id}/tool-policies", json=rules))
    async with team.room("ada", 0) as ada:
        turn_id = await scene.ask(ada, 'approved #tool:pay:{"key":"q2","seconds":60} #say:paid')
        await ada.until(
            lambda: ada.state.turns.get(turn_id, {}).get("status") == "awaiting_approval"
        )
        (call,) = ada.state.executions
        path = f"/api/tool-executions/{call}/decision"
        checked(await team.grace.post(path, json={"decision": "approve"}))
        await scene.effects("pay q2 1")
        await scene.kill(system.workers[0])
        await scene.hire()
        assert await ada.turn(turn_id, timeout=45) == "completed"
        assert ada.state.executions[call]["status"] == "unknown"
    assert scene.counted()["pay q2"] == 1
