"""What operators do from Temporal's page or command line does not break a turn."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from temporalio.client import Client

from embedded.processes import Child
from tests.client import RoomClient
from tests.faults.scene import Scene
from tests.hands.people import act, called, look, stalled, told
from tests.model_server import expected
from workflows.types import tool_activity_id, turn_workflow_id

PROGRAM = Path(sys.executable).with_name("temporal")


async def temporal(scene: Scene, *command: str) -> str:
    """The operator's own command."""
    argv = [str(PROGRAM), *command, "--address", scene.system.temporal.address]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def on_activity(scene: Scene, verb: str, turn: str, activity_id: str, *more: str) -> None:
    target = ("--workflow-id", turn_workflow_id(turn), "--activity-id", activity_id)
    await temporal(scene, "activity", verb, *target, *more)


async def ended(scene: Scene, line: str, seconds: float = 1.5) -> None:
    """Give an attempt the time in which it would have gone on."""
    await scene.effects(line)
    await asyncio.sleep(seconds)


async def run_of(scene: Scene, call: str) -> dict[str, Any]:
    shown = (await scene.team.ada.get(f"/api/tool-executions/{call}")).json()
    return dict(shown["run"])


async def paused(scene: Scene, room: RoomClient, turn: str, call: str) -> None:
    await on_activity(
        scene, "pause", turn, tool_activity_id(call, 1),
        "--identity", "ops@desk", "--reason", "too much load",
    )  # fmt: skip
    found = await stalled(room, call, "paused")
    assert "ops@desk: too much load" in found["detail"]

    async def let_go() -> bool:
        run = await run_of(scene, call)
        return run["state"] == "paused" and run["attempt"] == 2

    await scene.system.until(let_go, timeout=10)
    assert room.state.executions[call]["status"] == "executing"


async def test_a_paused_read_runs_again(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"paused {look('o1')}")
        call = await called(ada, turn)
        await ended(scene, "look o1 1", 0.5)
        await paused(scene, ada, turn, call)
        await asyncio.sleep(3)
        assert scene.counted()["look o1"] == 1, "nothing runs while it is paused"
        await on_activity(scene, "unpause", turn, tool_activity_id(call, 1))
        assert await ada.turn(turn, timeout=20) == "completed"
        row = ada.state.executions[call]
        assert (row["status"], row["attempt"], row["stalled"]) == ("completed", 2, None)


async def test_a_paused_effect_is_not_run_again(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"paused once {look('o2', tool='pay')}")
        call = await called(ada, turn)
        await ended(scene, "pay o2 1", 0.5)
        await paused(scene, ada, turn, call)
        await on_activity(scene, "unpause", turn, tool_activity_id(call, 1))
        assert await ada.turn(turn, timeout=20) == "completed"
        assert ada.state.executions[call]["status"] == "unknown"
    assert "not known" in told(scene, "paused once")
    assert scene.counted()["pay o2"] == 1


async def test_people_may_skip_what_an_operator_paused(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"paused and skipped {look('o3')}")
        call = await called(ada, turn)
        await ended(scene, "look o3 1", 0.5)
        await paused(scene, ada, turn, call)
        await act(scene.team.ada, call, "skip")
        assert await ada.turn(turn, timeout=10) == "completed"


async def test_a_reset_activity_runs_again(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"reset {look('o4')}")
        call = await called(ada, turn)
        await ended(scene, "look o4 1", 0.5)
        await on_activity(scene, "reset", turn, tool_activity_id(call, 1))
        assert await ada.turn(turn, timeout=20) == "completed"
        row = ada.state.executions[call]
        assert (row["status"], row["attempt"]) == ("completed", 2)


async def test_a_model_call_that_is_paused_begins_anew(scene: Scene) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, "paused model #text:200:20:200")
        await ada.until(lambda: any(len(t.text) > 50 for t in ada.state.texts.values()))
        await on_activity(scene, "pause", turn, "1")
        await asyncio.sleep(2)
        (text,) = [t.text for t in ada.state.texts.values()]
        await asyncio.sleep(1)
        assert [t.text for t in ada.state.texts.values()] == [text], "nothing is said meanwhile"
        await on_activity(scene, "unpause", turn, "1")
        assert await ada.turn(turn, timeout=20) == "completed"
    _, (message,) = await scene.answer(turn)
    assert (message["epoch"], message["content"]) == (2, expected(2, 200))


async def test_a_workflow_reset_to_before_its_tool_runs_it_once(scene: Scene, tools: Child) -> None:
    """T08: the run begins again; what has an outcome has it."""
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"back {look('o5', 0, tool='pay')} #say:done")
        assert await ada.turn(turn, timeout=20) == "completed"
        before = await scene.answer(turn)
        calls = len(scene.system.model.calls)
        await temporal(
            scene, "workflow", "reset", "--workflow-id", turn_workflow_id(turn),
            "--event-id", "4", "--reason", "to see",
        )  # fmt: skip
        client = await Client.connect(scene.system.temporal.address)
        assert await client.get_workflow_handle(turn_workflow_id(turn)).result() == "completed"
        assert await scene.answer(turn) == before
    assert scene.counted()["pay o5"] == 1
    assert len(scene.system.model.calls) == calls, "nor was the model asked again"


async def test_a_workflow_reset_while_its_tool_runs(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        turn = await scene.ask(ada, f"back in between {look('o6', tool='pay')}")
        call = await called(ada, turn)
        await scene.effects("pay o6 1")
        await temporal(
            scene, "workflow", "reset", "--workflow-id", turn_workflow_id(turn),
            "--event-id", "4", "--reason", "to see",
        )  # fmt: skip
        assert await ada.turn(turn, timeout=30) == "completed"
        assert ada.state.executions[call]["status"] == "unknown"
    assert scene.counted()["pay o6"] == 1


async def test_cancel_and_terminate(scene: Scene, tools: Child) -> None:
    async with scene.team.room("ada", 0) as ada:
        for verb, key in (("cancel", "o7"), ("terminate", "o8")):
            turn = await scene.ask(ada, f"{verb} {look(key, tool='pay')}")
            call = await called(ada, turn)
            await scene.effects(f"pay {key} 1")
            await temporal(scene, "workflow", verb, "--workflow-id", turn_workflow_id(turn))
            assert await ada.turn(turn, timeout=30) == "cancelled"
            assert ada.state.executions[call]["status"] == "unknown"
