"""People and a turn's tools: the run waits for their word, and lets go of what they took over."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from tests.workflows.world import ANSWER, World, a_call, a_turn, asks, until_stopped
from workflows.turn import ConversationTurn
from workflows.types import ToolCallRef, ToolRunInput, ToolRunResult, tool_activity_id

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


def wanted(world: World, *rows: ToolRunResult) -> None:
    """What the call's row says, each time it is looked at."""
    found = list(rows)

    async def review(_run: ToolRunInput) -> ToolRunResult:
        return found.pop(0)

    world.turns.review = review


async def test_a_run_that_hangs_is_left_for_another(world: World) -> None:
    """Retry: the first run never ends, and nobody waits for it."""
    call = a_call(deadline_seconds=3600.0)
    world.model.script = [asks(call), ANSWER]

    async def first_hangs(run: ToolRunInput) -> ToolRunResult:
        if run.taken_over == 0:
            activity.raise_complete_async()
        return ToolRunResult("completed")

    world.tools.act = first_hangs
    wanted(world, ToolRunResult("pending", 1))
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    await taken_over(handle, call, "one")
    await taken_over(handle, call, "one")
    assert await handle.result() == "completed"
    assert world.log == [
        "model 1", "tool look_up", "review look_up", "tool look_up", "model 2", "finish",
    ]  # fmt: skip


async def test_every_run_of_a_call_has_a_name(world: World) -> None:
    call = a_call()
    world.model.script = [asks(call), ANSWER]
    names: list[str] = []

    async def twice(run: ToolRunInput) -> ToolRunResult:
        names.append(activity.info().activity_id)
        if run.taken_over == 0:
            activity.raise_complete_async()
        return ToolRunResult("completed")

    world.tools.act = twice
    wanted(world, ToolRunResult("pending", 1))
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    await taken_over(handle, call, "one")
    assert await handle.result() == "completed"
    assert names == [tool_activity_id(call.tool_execution_id, number) for number in (1, 2)]


async def test_a_call_that_people_ended_needs_no_worker_of_its_own(world: World) -> None:
    """Skip, on a queue that nobody serves."""
    call = a_call(queue="nobody's")
    world.model.script = [asks(call), ANSWER]
    wanted(world, ToolRunResult("cancelled", 1))
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await taken_over(handle, call, "one")
    assert await handle.result() == "completed"
    assert world.log == ["model 1", "review look_up", "model 2", "finish"]


async def test_a_call_that_waits_for_people_is_ended_by_them(world: World) -> None:
    call = a_call(asks=True, patience_seconds=3600.0)
    world.model.script = [asks(call), ANSWER]
    wanted(world, ToolRunResult("cancelled", 1))
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await taken_over(handle, call, "one")
    assert await handle.result() == "completed"
    assert world.log == ["model 1", "review look_up", "model 2", "finish"]


async def test_taking_over_a_run_again_and_again(world: World) -> None:
    call = a_call(deadline_seconds=3600.0)
    world.model.script = [asks(call), ANSWER]

    async def third_ends(run: ToolRunInput) -> ToolRunResult:
        if run.taken_over < 2:
            activity.raise_complete_async()
        return ToolRunResult("cancelled")

    world.tools.act = third_ends
    wanted(world, ToolRunResult("pending", 1), ToolRunResult("pending", 2))
    handle = await world.start(a_turn())
    for number in (1, 2):
        await world.heard("tool look_up", number)
        await taken_over(handle, call, str(number))
    assert await handle.result() == "completed"
    assert world.log.count("tool look_up") == 3


async def test_a_run_that_came_too_late_begins_nothing_and_ends_nothing(world: World) -> None:
    """The row was taken over and its hint is lost: the run finds out by itself."""
    call = a_call()
    world.model.script = [asks(call), ANSWER]

    async def late(run: ToolRunInput) -> ToolRunResult:
        return ToolRunResult("pending" if run.taken_over < 2 else "completed")

    world.tools.act = late
    wanted(world, ToolRunResult("pending", 2))
    assert await world.run(a_turn()) == "completed"
    assert world.log == [
        "model 1", "tool look_up", "review look_up", "tool look_up", "model 2", "finish",
    ]  # fmt: skip


async def test_a_lost_activity_is_not_settled_over_a_retry(world: World) -> None:
    call = a_call(max_attempts=1)
    world.model.script = [asks(call), ANSWER]

    async def first_breaks(run: ToolRunInput) -> ToolRunResult:
        if run.taken_over == 0:
            raise ApplicationError("broken", non_retryable=True)
        return ToolRunResult("completed")

    world.tools.act = first_breaks
    world.turns.settle = ToolRunResult("pending", 1)
    assert await world.run(a_turn()) == "completed"
    assert world.log == [
        "model 1", "tool look_up", "settle look_up", "tool look_up", "model 2", "finish",
    ]  # fmt: skip


async def test_a_hint_alone_ends_nothing(world: World) -> None:
    """Anybody can send a signal from Temporal's page; the row says that nothing was done."""
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
    for number in (1, 2):
        await taken_over(handle, call, f"by nobody {number}")
        await world.heard("review look_up", number)
    release.set()
    assert await handle.result() == "completed"
    assert world.log.count("tool look_up") == 1


async def test_a_stop_while_the_row_is_looked_at(world: World) -> None:
    """It ends what runs, as a stop at any other moment does."""
    call = a_call(deadline_seconds=3600.0)
    world.model.script = [asks(call)]

    async def review(_run: ToolRunInput) -> ToolRunResult:
        activity.raise_complete_async()

    async def runs(_run: ToolRunInput) -> ToolRunResult:
        await until_stopped()
        raise AssertionError

    world.turns.review, world.tools.act = review, runs
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    await taken_over(handle, call, "one")
    await world.heard("review look_up")
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log[-2:] == ["tool cancelled", "finish"]
