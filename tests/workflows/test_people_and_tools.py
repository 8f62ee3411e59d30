"""People and a turn's tools: the run waits for their word, and lets go of what they took over."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle

from tests.workflows.world import ANSWER, World, a_call, a_turn, asks
from workflows.turn import ConversationTurn
from workflows.types import ToolCallRef, ToolRunInput, ToolRunResult

DAYS = timedelta(days=3)


async def decided(handle: WorkflowHandle[Any, str], call: ToolCallRef) -> None:
    await handle.signal(ConversationTurn.tool_decided, call.tool_execution_id)


async def taken_over(handle: WorkflowHandle[Any, str], call: ToolCallRef, by: str) -> None:
    await handle.signal(ConversationTurn.tool_taken_over, args=[call.tool_execution_id, by])


async def lasted(handle: WorkflowHandle[Any, str]) -> timedelta:
    described = await handle.describe()
    assert described.close_time is not None
    return described.close_time - described.start_time


async def test_a_call_waits_for_its_decision_and_the_turns_time_stands_still(
    world: World,
) -> None:
    call = a_call(asks=True, patience_seconds=30 * 24 * 3600.0)
    world.model.script = [asks(call), ANSWER]
    handle = await world.start(a_turn(timeout_seconds=60))
    await world.heard("model 1")
    await world.env.sleep(DAYS)
    assert world.log == ["model 1"], "nothing runs before people have spoken"
    await decided(handle, call)
    assert await handle.result() == "completed"
    assert world.log == ["model 1", "tool look_up", "model 2", "finish"]
    assert await lasted(handle) >= DAYS
    # The calls after it have the turn's own minute, which nobody used.
    times = [
        event.activity_task_scheduled_event_attributes.schedule_to_close_timeout.seconds
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert all(seconds > 50 for seconds in times[:3])


async def test_others_run_while_one_waits(world: World) -> None:
    waits, runs = a_call(tool="pay", asks=True, patience_seconds=3600.0), a_call()
    world.model.script = [asks(waits, runs), ANSWER]
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    assert "tool pay" not in world.log
    await decided(handle, waits)
    assert await handle.result() == "completed"
    assert world.log.count("tool pay") == 1


async def test_a_question_that_expires_is_looked_at_then(world: World) -> None:
    call = a_call(asks=True, patience_seconds=600.0)
    world.model.script = [asks(call), ANSWER]
    world.tools.act = ToolRunResult("failed")
    handle = await world.start(a_turn(timeout_seconds=60))
    assert await handle.result() == "completed"
    assert timedelta(seconds=600) <= await lasted(handle) < timedelta(seconds=700)


async def test_what_still_waits_after_a_look_waits_on(world: World) -> None:
    """Two people must agree, or the policy was tightened since the call was asked for."""
    call = a_call()
    answers = [ToolRunResult("awaiting_approval"), ToolRunResult("awaiting_approval"),
               ToolRunResult("completed")]  # fmt: skip
    world.model.script = [asks(call), ANSWER]

    async def next_answer(_run: ToolRunInput) -> ToolRunResult:
        return answers.pop(0)

    world.tools.act = next_answer
    handle = await world.start(a_turn())
    for looks in (1, 2):
        await world.heard("tool look_up", looks)
        await decided(handle, call)
    assert await handle.result() == "completed"
    assert world.log.count("tool look_up") == 3


async def test_a_stop_ends_the_wait(world: World) -> None:
    call = a_call(asks=True, patience_seconds=3600.0)
    world.model.script = [asks(call)]
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log == ["model 1", "finish"]


async def test_a_run_that_hangs_is_left_for_another(world: World) -> None:
    """Retry: the first run never ends, and nobody waits for it."""
    call = a_call(deadline_seconds=3600.0)
    world.model.script = [asks(call), ANSWER]

    async def first_hangs(_run: ToolRunInput) -> ToolRunResult:
        if world.log.count("tool look_up") == 1:
            activity.raise_complete_async()
        return ToolRunResult("completed")

    world.tools.act = first_hangs
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    await taken_over(handle, call, "one")
    await taken_over(handle, call, "one")
    assert await handle.result() == "completed"
    assert world.log == ["model 1", "tool look_up", "tool look_up", "model 2", "finish"]


async def test_taking_over_a_run_again_and_again(world: World) -> None:
    call = a_call(deadline_seconds=3600.0)
    world.model.script = [asks(call), ANSWER]

    async def third_ends(_run: ToolRunInput) -> ToolRunResult:
        if world.log.count("tool look_up") < 3:
            activity.raise_complete_async()
        return ToolRunResult("cancelled")

    world.tools.act = third_ends
    handle = await world.start(a_turn())
    for number in (1, 2):
        await world.heard("tool look_up", number)
        await taken_over(handle, call, str(number))
    assert await handle.result() == "completed"
    assert world.log.count("tool look_up") == 3


async def test_hints_about_nothing_change_nothing(world: World) -> None:
    call = a_call()
    release = asyncio.Event()
    world.model.script = [asks(call), ANSWER]

    async def when_released(_run: ToolRunInput) -> ToolRunResult:
        await release.wait()
        return ToolRunResult("completed")

    world.tools.act = when_released
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    await decided(handle, call)
    await taken_over(handle, a_call(), "somewhere else")
    release.set()
    assert await handle.result() == "completed"
    assert world.log.count("tool look_up") == 1
