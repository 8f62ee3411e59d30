"""A hand on a stuck run: people see that a tool hangs, and get their answer all the same.

What holds at every quiet moment is audited after each test, as for the other faults.
"""

import asyncio
import signal
from typing import Any

import httpx
import pytest

from embedded.processes import Child
from tests.client import RoomClient
from tests.faults.scene import Scene
from tests.hands.people import SEEN_WITHIN, TOOLS, act, audited, called, look, stalled, told

# --- seeing it ------------------------------------------------------------------------------------


async def test_a_stopped_worker_is_seen_and_skipped(scene: Scene, tools: Child) -> None:
    """P36: everybody sees it; the woken worker changes nothing."""
    async with scene.team.room("ada", 0) as ada, scene.team.room("grace", 1) as grace:
        turn = await scene.ask(ada, f"stopped {look('h1')}")
        call = await called(ada, turn)
        await scene.effects("look h1 1")
        scene.send(tools, signal.SIGSTOP)
        found = await stalled(ada, call, "worker_lost")
        await stalled(grace, call, "worker_lost")
        assert f":{tools.pid}" in found["detail"]
        shown = (await scene.team.ada.get(f"/api/tool-executions/{call}")).json()
        assert shown["status"] == "executing"
        assert shown["stalled"] == found
        assert shown["run"]["queue"] == TOOLS
        assert shown["run"]["worker"].endswith(f":{tools.pid}")
        assert shown["run"]["heartbeat_age_seconds"] > 3
        answer = await act(scene.team.ada, call, "skip", note="use last month's figures")
        assert answer["status"] == "cancelled"
        assert answer["stalled"] is None
        assert await ada.turn(turn, timeout=10) == "completed"
        scene.send(tools, signal.SIGCONT)
        await asyncio.sleep(2)
        for room in (ada, grace):
            row = room.state.executions[call]
            assert row["status"] == "cancelled"
            assert row["intervention"]["by"]["name"] == "Ada"
            assert row["intervention"]["note"] == "use last month's figures"
    assert "Skipped by Ada: use last month's figures." in told(scene, "stopped #tool")
    assert await audited(scene, call) == [
        ("tool.run", "failed", "taken over"), ("tool.skip", "allowed", None),
    ]  # fmt: skip


async def test_a_queue_that_nobody_serves(scene: Scene) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"unserved {look('h2')}")
        call = await called(ada, turn, "pending")
        found = await room_hears_of_no_worker(ada, call)
        assert TOOLS in found["detail"]
        answer = await act(scene.team.ada, call, "cancel")
        assert answer["error"] == {
            "code": "cancelled",
            "message": "Cancelled by Ada. There is no result; do not assume one.",
        }
        assert await ada.turn(turn, timeout=10) == "completed"
    assert "do not assume one" in told(scene, "unserved #tool")
    assert scene.counted()["look h2"] == 0


async def room_hears_of_no_worker(room: RoomClient, call: str) -> dict[str, Any]:
    """Whoever asked for work within a minute may still come for it."""

    def heard() -> bool:
        reason = (room.state.executions[call].get("stalled") or {}).get("reason")
        return reason in ("no_worker", "waiting")

    await room.until(heard, timeout=SEEN_WITHIN)
    return dict(room.state.executions[call]["stalled"])


async def test_what_takes_its_time_is_not_called_stalled(scene: Scene, tools: Child) -> None:
    """The control: a worker that lives and works."""
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"patient {look('h3', 9)}")
        call = await called(ada, turn)
        assert await ada.turn(turn, timeout=30) == "completed"
        events = [
            frame["data"]
            for frame in ada.frames
            if frame["type"] == "tool_result" and frame["data"]["tool_execution_id"] == call
        ]
        assert [event["status"] for event in events] == ["executing", "completed"]
        assert {event["stalled"] and event["stalled"]["reason"] for event in events} == {None}


async def test_what_is_slow_for_its_kind_is_seen(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        for number in range(5):
            quick = await scene.ask(ada, f"quick {number} {look(f'h4{number}', 0, 'glance')}")
            assert await ada.turn(quick) == "completed"
        turn = await scene.ask(ada, f"slow {look('h4', tool='glance')}")
        call = await called(ada, turn)
        await stalled(ada, call, "slow", within=SEEN_WITHIN + 3)
        await act(scene.team.ada, call, "skip")
        assert await ada.turn(turn, timeout=10) == "completed"


# --- another attempt ------------------------------------------------------------------------------


async def test_another_attempt_of_a_read(scene: Scene, tools: Child) -> None:
    """The one that hangs is told to end, and what it says is not stored."""
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"again {look('h5')}")
        call = await called(ada, turn)
        await scene.effects("look h5 1")
        await act(scene.team.ada, call, "retry", client_intervention_id="one")
        again = await act(scene.team.ada, call, "retry", client_intervention_id="one")
        assert len(again["interventions"]) == 1
        assert await ada.turn(turn, timeout=15) == "completed"
        row = ada.state.executions[call]
        assert (row["status"], row["attempt"]) == ("completed", 2)
        assert row["result"] == {"key": "h5", "attempt": 2}
        assert row["intervention"]["action"] == "retry"
        late = await act(scene.team.ada, call, "retry", expected=409)
        assert "too late" in late["detail"]
    assert scene.counted()["look h5"] == 2
    assert await audited(scene, call) == [
        ("tool.run", "failed", "taken over"), ("tool.retry", "allowed", None),
        ("tool.run", "allowed", None),
    ]  # fmt: skip


async def test_what_must_not_happen_twice_asks_first(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"risky {look('h6', tool='post')}")
        call = await called(ada, turn)
        await scene.effects("post h6 1")
        for body in ({}, {"confirm": True}, {"attempt": 1}):
            refused = await act(scene.team.ada, call, "retry", expected=409, **body)
            assert "twice" in refused["detail"]
            assert "attempt: 1" in refused["detail"]
        assert scene.counted()["post h6"] == 1
        # Two people at once: one of them has it done.
        answers = await asyncio.gather(
            *(
                http.post(
                    f"/api/tool-executions/{call}/intervene",
                    json={"action": "retry", "confirm": True, "attempt": 1},
                )
                for http in (scene.team.ada, scene.team.admin)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert await ada.turn(turn, timeout=15) == "completed"
        assert ada.state.executions[call]["status"] == "completed"
    assert scene.counted()["post h6"] == 2


async def test_an_effect_that_is_skipped_stays_unknown(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"effect {look('h7', tool='pay')}")
        call = await called(ada, turn)
        await scene.effects("pay h7 1")
        answer = await act(scene.team.ada, call, "cancel", note="enough")
        assert (answer["status"], answer["error"]["code"]) == ("unknown", "outcome_unknown")
        assert answer["error"]["message"].startswith("Cancelled by Ada: enough. It was started")
        assert await ada.turn(turn, timeout=10) == "completed"
        assert ada.state.executions[call]["status"] == "unknown"
    assert scene.counted()["pay h7"] == 1


# --- races ----------------------------------------------------------------------------------------


async def test_skipped_at_the_moment_it_completes(scene: Scene, tools: Child) -> None:
    """One of the two is the outcome, for everybody, and whoever lost is told."""
    async with scene.team.room("ada", 0) as ada:

        async def one(number: int) -> tuple[int, str]:
            turn = await scene.ask(ada, f"race {look(f'r{number}', 0.5)}")
            call = await called(ada, turn)
            await asyncio.sleep(0.40 + 0.015 * number)
            path = f"/api/tool-executions/{call}/intervene"
            answer = await scene.team.ada.post(path, json={"action": "skip"})
            assert await ada.turn(turn, timeout=20) == "completed"
            return answer.status_code, ada.state.executions[call]["status"]

        outcomes = await asyncio.gather(*(one(number) for number in range(12)))
    assert set(outcomes) <= {(200, "cancelled"), (409, "completed")}


async def test_the_edge_dies_between_the_commit_and_the_signal(scene: Scene, tools: Child) -> None:
    """Housekeeping tells the run of it."""
    edge = await scene.system.start_edge(FAULT_POINT="K11:1")
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"unsignalled {look('h8')}")
        call = await called(ada, turn)
        path = f"{edge.url}/api/tool-executions/{call}/intervene"
        with pytest.raises(httpx.HTTPError):
            await scene.team.ada.post(path, json={"action": "skip"})
        await ada.until(lambda: ada.state.executions[call]["status"] == "cancelled", timeout=5)
        assert await ada.turn(turn, timeout=25) == "completed"


# --- too late, and not for everybody --------------------------------------------------------------


async def test_a_turn_that_is_being_stopped(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"stopping {look('h9')}")
        call = await called(ada, turn)
        await scene.effects("look h9 1")
        scene.send(tools, signal.SIGSTOP)
        await scene.team.ada.post(f"/api/turns/{turn}/stop")
        refused = await act(scene.team.ada, call, "skip", expected=409)
        assert "being stopped" in refused["detail"]
        scene.send(tools, signal.SIGCONT)
        assert await ada.turn(turn, timeout=30) == "cancelled"


async def test_whose_hand_it_may_be(scene: Scene, tools: Child) -> None:
    stranger = (await scene.system.team()).ada
    team = scene.team
    async with team.room("ada", 0) as ada, team.room("grace", 1) as grace:
        turn = await scene.ask(ada, f"whose {look('h10')}")
        call = await called(ada, turn)
        path = f"/api/tool-executions/{call}"
        assert (await stranger.get(path)).status_code == 404
        await act(stranger, call, "skip", expected=404)
        # An editor acts on what he has asked for; the owner and the tenant's admin on all.
        refused = await act(team.grace, call, "skip", expected=403)
        assert "his own turns" in refused["detail"]
        members = f"/api/projects/{team.project_id}/members/{team.people['grace']}"
        await team.ada.put(members, json={"role": "viewer"})
        await act(team.grace, call, "skip", expected=403)
        assert (await team.grace.get(path)).json()["run"]["state"] == "started"
        await team.ada.put(members, json={"role": "editor"})
        await act(team.admin, call, "skip")
        assert await ada.turn(turn, timeout=10) == "completed"
        turn = await scene.ask(grace, f"hers {look('h11')}")
        call = await called(grace, turn)
        await act(team.grace, call, "skip")
        assert await grace.turn(turn, timeout=10) == "completed"
    for body in ({"action": "explode"}, {"action": "skip", "note": "x" * 1001},
                 {"action": "skip", "note": "\0"}, {"action": "skip", "more": 1}):  # fmt: skip
        answer = await team.ada.post(f"{path}/intervene", json=body)
        assert answer.status_code == 422, body
    rows = await scene.system.sql(
        "SELECT reason FROM audit_log WHERE action = 'request.intervene' AND resource_id LIKE $1",
        f"%{path}%",
    )
    # The stranger's refusal is in his own tenant's log.
    assert sorted(row[0] for row in rows) == ["forbidden", "forbidden", "not_found"]
