"""The life of a turn, with scripted activities and skipped time."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio import activity
from temporalio.api.enums.v1 import EventType, ParentClosePolicy, WorkflowIdReusePolicy
from temporalio.api.history.v1 import History
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHistory
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from tests.workflows.world import (
    ANSWER,
    TOOL_QUEUES,
    World,
    a_call,
    a_turn,
    asks,
    until_stopped,
)
from workflows import policies
from workflows.turn import (
    CONVERSATION_ID,
    TENANT_ID,
    TOOL_NAME,
    TURN_STATUS,
    ConversationTurn,
)
from workflows.types import (
    FinishInput,
    Queue,
    StepInput,
    StepResult,
    ToolRunInput,
    ToolRunResult,
    TurnCode,
)

REJECT_DUPLICATE = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE


async def test_an_answer_without_tools(world: World) -> None:
    turn = a_turn()
    assert await world.run(turn) == "completed"
    assert world.log == ["model 1", "finish"]
    assert world.turns.endings == [FinishInput(turn, "completed", "")]
    described = await world.handle(turn).describe()
    assert described.typed_search_attributes.get(TURN_STATUS) == "completed"


async def test_tools_run_at_the_same_time_each_on_its_own_queue(world: World) -> None:
    everybody = asyncio.Barrier(len(TOOL_QUEUES) + 1)

    async def meet(_run: object) -> ToolRunResult:
        async with asyncio.timeout(5):
            await everybody.wait()
        return ToolRunResult("completed")

    calls = [a_call(queue, tool=f"on_{queue}") for queue in TOOL_QUEUES]
    calls.append(a_call(Queue.TOOLS_HTTP, tool="second_on_one"))
    world.model.script = [asks(*calls), ANSWER]
    world.tools.act = meet
    turn = a_turn()
    assert await world.run(turn) == "completed"
    assert {run.call.tool: queue for run, queue in world.tools.runs} == {
        call.tool: call.queue for call in calls
    }
    assert [run.turn for run, _ in world.tools.runs] == [turn] * len(calls)
    assert world.log[0] == "model 1"
    assert world.log[-2:] == ["model 2", "finish"]
    described = await world.handle(turn).describe()
    assert described.typed_search_attributes.get(TOOL_NAME) == calls[0].tool


async def test_calls_that_were_all_refused_lead_to_the_next_step(world: World) -> None:
    world.model.script = [asks(), ANSWER]
    assert await world.run(a_turn()) == "completed"
    assert world.log == ["model 1", "model 2", "finish"]


async def test_a_turn_that_never_answers_ends_at_its_step_cap(world: World) -> None:
    world.model.script = [asks(a_call())]
    turn = a_turn(max_steps=3)
    assert await world.run(turn) == "failed"
    assert world.endings == [("failed", "too_many_steps")]
    assert world.log.count("tool look_up") == 3
    assert [line for line in world.log if line.startswith("model")] == [
        "model 1", "model 2", "model 3",
    ]  # fmt: skip


# --- stopping -----------------------------------------------------------------------------------


async def test_a_stop_during_the_model_call(world: World) -> None:
    world.model.script = [lambda _step: until_stopped()]
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log == ["model 1", "model cancelled", "finish"]
    assert world.endings == [("cancelled", "stopped")]


async def test_a_stop_waits_for_every_tool_to_end_what_it_began(world: World) -> None:
    world.model.script = [asks(a_call(), a_call(Queue.TOOLS_HTTP), a_call(Queue.TOOLS_MCP))]
    world.tools.act = lambda _run: until_stopped()
    handle = await world.start(a_turn())
    await world.heard("tool look_up", times=3)
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log[4:] == ["tool cancelled"] * 3 + ["finish"]
    assert world.endings == [("cancelled", "stopped")]
    assert world.turns.settled == []


async def test_a_stop_while_one_tool_is_done_and_another_waits_for_a_worker(
    skipping: WorkflowEnvironment,
) -> None:
    world = World(skipping)
    async with world.serving(without=(Queue.TOOLS_MCP,)):
        world.model.script = [asks(a_call(), a_call(Queue.TOOLS_MCP))]
        handle = await world.start(a_turn())
        await world.completed(handle, 2)
        await handle.cancel()
        assert await handle.result() == "cancelled"
        assert world.endings == [("cancelled", "stopped")]


async def test_a_step_that_found_the_stop_before_the_run_did(world: World) -> None:
    world.model.script = [StepResult("", answered=False, stopped=True)]
    assert await world.run(a_turn()) == "cancelled"
    assert world.endings == [("cancelled", "stopped")]


async def test_a_stop_while_the_model_is_retried(world: World) -> None:
    world.model.script = [
        ApplicationError("busy", type="model_unavailable", next_retry_delay=timedelta(minutes=1))
    ]
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log == ["model 1", "finish"]


async def test_a_stop_before_anything_ran(skipping: WorkflowEnvironment) -> None:
    world = World(skipping)
    turn = a_turn()
    handle = await world.start(turn)
    await handle.cancel()
    async with world.serving():
        assert await handle.result() == "cancelled"
        assert world.endings == [("cancelled", "stopped")]


async def test_a_turn_waits_for_its_moment(world: World) -> None:
    turn = a_turn(wait_seconds=3.5)
    assert await world.run(turn) == "completed"
    described = await world.handle(turn).describe()
    assert described.close_time is not None
    assert described.close_time - described.start_time >= timedelta(seconds=3.5)
    # It was the run's to wait; what the turn is stays the same.
    assert world.turns.endings == [FinishInput(replace(turn, wait_seconds=0.0), "completed", "")]


async def test_a_stop_does_not_wait_for_the_turns_moment(world: World) -> None:
    turn = a_turn(wait_seconds=3600)
    handle = await world.start(turn)
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.log == ["finish"]
    described = await handle.describe()
    assert described.close_time is not None
    assert described.close_time - described.start_time < timedelta(minutes=10)


async def test_a_second_stop_changes_nothing(world: World) -> None:
    world.model.script = [asks(a_call())]
    world.tools.act = lambda _run: until_stopped()
    handle = await world.start(a_turn())
    await world.heard("tool look_up")
    for _ in range(3):
        await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.endings == [("cancelled", "stopped")]


async def test_a_stop_while_the_ending_is_written_changes_nothing(world: World) -> None:
    going_on = asyncio.Event()
    turn, following = a_turn(), a_turn()
    world.turns.act = lambda _finish: going_on.wait()
    world.turns.following = {turn.turn_id: following}
    handle = await world.start(turn)
    await world.heard("finish")
    for _ in range(2):
        await handle.cancel()
        await asyncio.sleep(0.1)
    going_on.set()
    assert await handle.result() == "completed"
    assert [end.status for end in world.turns.endings if end.turn == turn] == ["completed"]
    assert await world.handle(following).result() == "completed"


async def test_a_stop_is_a_stop_even_if_the_activity_fails_on_its_way_out(world: World) -> None:
    async def badly(_step: object) -> None:
        try:
            await until_stopped()
        finally:
            # The real server retries nothing once a stop was asked for; this one would.
            raise ApplicationError("database away", type="OperationalError", non_retryable=True)

    world.model.script = [badly]
    handle = await world.start(a_turn())
    await world.heard("model 1")
    await handle.cancel()
    assert await handle.result() == "cancelled"
    assert world.endings == [("cancelled", "stopped")]


async def test_a_stop_during_the_start_of_the_next_turn_is_not_handed_on_to_it(
    world: World,
) -> None:
    turn, following = a_turn(), a_turn()
    world.turns.following = {turn.turn_id: following}
    assert await world.run(turn) == "completed"
    assert await world.handle(following).result() == "completed"
    history = await world.handle(turn).fetch_history()
    # The same history, with a stop that arrives between the child's order and its start. A
    # workflow that passed the stop on, or ended by it, would not match the rest.
    started = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
    stopped = with_event(history, started, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    await Replayer(workflows=[ConversationTurn]).replay_workflow(stopped)


def with_event(
    history: WorkflowHistory, before: int, kind: "EventType.ValueType"
) -> WorkflowHistory:
    """`history` with an event put in, and every later number one higher."""
    raw = MessageToDict(History(events=history.events))
    place = next(n for n, event in enumerate(history.events) if event.event_type == before)
    first = history.events[place].event_id

    def renumber(value: Any) -> Any:
        if isinstance(value, list):
            return [renumber(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: str(int(item) + (int(item) >= first))
            if key.lower().endswith("eventid")
            else renumber(item)
            for key, item in value.items()
        }

    events = renumber(raw["events"])
    events.insert(
        place,
        {
            "eventId": str(first),
            "eventTime": events[place]["eventTime"],
            "eventType": EventType.Name(kind),
            "workflowExecutionCancelRequestedEventAttributes": {},
        },
    )
    return WorkflowHistory(history.workflow_id, ParseDict({"events": events}, History()).events)


# --- queued turns -------------------------------------------------------------------------------


async def test_an_ending_starts_every_turn_it_made_room_for(world: World) -> None:
    turn, following, *others = a_turn(), a_turn(), a_turn(), a_turn()
    world.turns.following = {turn.turn_id: following}
    # One of them was started by somebody else already.
    world.turns.also = {turn.turn_id: [others[0], following, others[1]]}
    assert await world.run(turn) == "completed"
    for each in (following, *others):
        assert await world.handle(each).result() == "completed"


async def test_an_answer_that_was_joined_is_a_step(world: World) -> None:
    world.model.script = [asks(), ANSWER]
    assert await world.run(a_turn()) == "completed"
    assert world.log == ["model 1", "model 2", "finish"]


async def test_a_queued_turn_starts_as_a_child_that_outlives_its_parent(world: World) -> None:
    turn, following = a_turn(), a_turn()
    world.turns.following = {turn.turn_id: following}
    waiting = asyncio.Event()

    async def wait(step: StepInput) -> StepResult:
        if step.turn == following:
            await waiting.wait()
        return ANSWER

    world.model.script = [wait]
    assert await world.run(turn) == "completed"
    parent = await world.handle(turn).describe()
    assert parent.status is WorkflowExecutionStatus.COMPLETED
    child = world.handle(following)
    described = await child.describe()
    assert child.id == f"turn-{following.turn_id}"
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert described.parent_id == turn.workflow_id
    assert described.typed_search_attributes.get(TENANT_ID) == following.tenant_id
    assert described.typed_search_attributes.get(CONVERSATION_ID) == following.conversation_id
    waiting.set()
    assert await child.result() == "completed"
    history = await world.handle(turn).fetch_history()
    (order,) = [
        event.start_child_workflow_execution_initiated_event_attributes
        for event in history.events
        if event.HasField("start_child_workflow_execution_initiated_event_attributes")
    ]
    assert order.parent_close_policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON
    assert order.workflow_id_reuse_policy == REJECT_DUPLICATE
    assert order.task_queue.name == Queue.TURNS
    assert order.priority.fairness_key == following.tenant_id


async def test_a_row_of_queued_turns_runs_one_after_the_other(world: World) -> None:
    row = [a_turn() for _ in range(6)]
    world.turns.following = {turn.turn_id: after for turn, after in pairwise(row)}
    await world.run(row[0])
    for turn in row[1:]:
        await world.exists(turn)
        assert await world.handle(turn).result() == "completed"
    assert [ending.turn for ending in world.turns.endings] == row
    assert world.log == ["model 1", "finish"] * len(row)


async def test_a_successor_that_was_started_by_somebody_else_is_left_alone(world: World) -> None:
    turn, following = a_turn(), a_turn()
    world.turns.following = {turn.turn_id: following}
    assert await world.run(following) == "completed"
    assert await world.run(turn) == "completed"
    assert [ending.turn for ending in world.turns.endings] == [following, turn]


@pytest.mark.parametrize("ending", ["stopped", "failed"])
async def test_a_turn_that_ends_badly_starts_the_next_all_the_same(
    world: World, ending: str
) -> None:
    turn, following = a_turn(), a_turn()
    world.turns.following = {turn.turn_id: following}

    async def badly(step: StepInput) -> StepResult:
        if step.turn == following:
            return ANSWER
        raise ApplicationError(
            "", type="stopped" if ending == "stopped" else "model_refused", non_retryable=True
        )

    world.model.script = [badly]
    await world.run(turn)
    await world.exists(following)
    assert await world.handle(following).result() == "completed"
    assert [end.turn for end in world.turns.endings] == [turn, following]


# --- what is lost -------------------------------------------------------------------------------


async def test_a_tool_lost_on_every_attempt_is_settled_and_the_turn_goes_on(world: World) -> None:
    lost, fine = a_call(tool="lost"), a_call(Queue.TOOLS_HTTP, tool="fine")

    async def act(run: ToolRunInput) -> ToolRunResult:
        if run.call == lost:
            raise RuntimeError("the worker's memory ran out")
        return ToolRunResult("completed")

    world.tools.act = act
    world.model.script = [asks(lost, fine), ANSWER]
    turn = a_turn()
    assert await world.run(turn) == "completed"
    assert world.log.count("tool lost") == lost.max_attempts
    assert world.log.count("tool fine") == 1
    assert world.turns.settled == [ToolRunInput(turn, lost)]
    assert world.log[-3:] == ["settle lost", "model 2", "finish"]


async def test_a_tool_that_may_run_once_is_tried_once(world: World) -> None:
    world.tools.act = RuntimeError("lost")
    world.model.script = [asks(a_call(max_attempts=1)), ANSWER]
    assert await world.run(a_turn()) == "completed"
    assert world.log == ["model 1", "tool look_up", "settle look_up", "model 2", "finish"]


async def test_a_tool_that_does_not_exist_any_more_is_settled_at_once(world: World) -> None:
    world.tools.act = ApplicationError("no such call", type="NotFound", non_retryable=True)
    world.model.script = [asks(a_call()), ANSWER]
    assert await world.run(a_turn()) == "completed"
    assert world.log == ["model 1", "tool look_up", "settle look_up", "model 2", "finish"]


async def test_the_ending_is_written_however_often_it_fails(world: World) -> None:
    failures = iter([RuntimeError("database away")] * 12)

    async def at_last(_finish: object) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    world.turns.act = at_last
    assert await world.run(a_turn()) == "completed"
    assert len(world.turns.endings) == 13


async def test_a_run_whose_ending_cannot_be_written_fails_and_is_left_to_housekeeping(
    world: World,
) -> None:
    world.turns.act = ApplicationError("gone for good", non_retryable=True)
    with pytest.raises(WorkflowFailureError) as failed:
        await world.run(a_turn())
    assert isinstance(failed.value.cause, ActivityError)


# --- retries, deadlines, codes ------------------------------------------------------------------


async def test_a_model_call_waits_as_long_as_it_was_told(world: World) -> None:
    delays = {1: 3.0, 2: 60.0, 3: 0.2}

    async def busy(_step: object) -> StepResult:
        attempt = activity.info().attempt
        if attempt in delays:
            raise ApplicationError(
                "busy",
                type="model_unavailable",
                next_retry_delay=timedelta(seconds=delays[attempt]),
            )
        return ANSWER

    world.model.script = [busy]
    assert await world.run(a_turn()) == "completed"
    times = [at for _, at in world.model.attempts]
    waited = [after - before for before, after in pairwise(times)]
    for told, took in zip(delays.values(), waited, strict=True):
        assert told - 0.1 <= took < told + 2


async def test_a_model_that_stays_away_is_given_up_after_six_attempts(world: World) -> None:
    world.model.script = [
        ApplicationError("busy", type="model_unavailable", next_retry_delay=timedelta(seconds=60))
    ]
    assert await world.run(a_turn()) == "failed"
    assert [attempt for attempt, _ in world.model.attempts] == [1, 2, 3, 4, 5, 6]
    assert world.endings == [("failed", "model_unavailable")]


async def test_what_will_not_pass_ends_the_turn_with_its_code(world: World) -> None:
    codes = {code: ("failed", code) for code in TurnCode}
    codes[TurnCode.STOPPED] = ("cancelled", "stopped")
    endings = {
        **codes,
        "SomethingElse": ("failed", "internal_error"),
        None: ("failed", "internal_error"),
    }
    for raised, ending in endings.items():
        world.model.script = [ApplicationError("", type=raised, non_retryable=True)]
        assert await world.run(a_turn()) == ending[0]
        assert world.endings[-1] == ending
    assert world.log == ["model 1", "finish"] * len(endings)


async def test_a_bug_in_an_activity_ends_the_turn_after_its_attempts(world: World) -> None:
    world.model.script = [ZeroDivisionError("of ours")]
    assert await world.run(a_turn()) == "failed"
    assert len(world.model.attempts) == policies.MODEL_RETRY.maximum_attempts
    assert world.endings == [("failed", "internal_error")]


async def test_the_deadline_is_the_whole_turns_and_not_each_steps(world: World) -> None:
    """Steps that take four minutes each, in a turn of ten."""

    async def slowly(_step: object) -> StepResult:
        if activity.info().attempt == 1:
            raise ApplicationError(
                "", type="model_unavailable", next_retry_delay=timedelta(minutes=4)
            )
        return asks()

    world.model.script = [slowly]
    turn = a_turn(timeout_seconds=600)
    assert await world.run(turn) == "failed"
    # The last retry would have come after the deadline, so the attempt's own failure counts.
    assert world.endings == [("failed", "model_unavailable")]
    left = [
        event.activity_task_scheduled_event_attributes.schedule_to_close_timeout.seconds
        for event in (await world.handle(turn).fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [round(seconds, -1) for seconds in left[:3]] == [600, 360, 120]


async def test_a_turn_of_three_days_may_take_three_days(world: World) -> None:
    async def tomorrow(_step: object) -> StepResult:
        if activity.info().attempt < 3:
            raise ApplicationError("", next_retry_delay=timedelta(days=1))
        return ANSWER

    world.model.script = [tomorrow]
    turn = a_turn(timeout_seconds=3 * 24 * 3600)
    assert await world.run(turn) == "completed"
    described = await world.handle(turn).describe()
    assert described.close_time is not None
    assert described.close_time - described.start_time >= timedelta(days=2)


async def test_a_worker_that_falls_silent_is_noticed_by_its_heartbeat(hasty: World) -> None:
    async def silent_at_first(_step: object) -> StepResult:
        if activity.info().attempt == 1:
            activity.raise_complete_async()
        return ANSWER

    hasty.model.script = [silent_at_first]
    assert await hasty.run(a_turn()) == "completed"
    assert [attempt for attempt, _ in hasty.model.attempts] == [1, 2]


async def test_a_model_that_falls_silent_on_every_attempt_is_unavailable(hasty: World) -> None:
    hasty.model.script = [_never_heard_of_again]
    assert await hasty.run(a_turn()) == "failed"
    assert hasty.log == ["model 1"] * 3 + ["finish"]
    assert hasty.endings == [("failed", "model_unavailable")]


async def test_a_tool_that_falls_silent_on_every_attempt_is_settled(hasty: World) -> None:
    hasty.model.script = [asks(a_call()), ANSWER]
    hasty.tools.act = _never_heard_of_again
    assert await hasty.run(a_turn()) == "completed"
    assert hasty.log == [
        "model 1", *["tool look_up"] * 3, "settle look_up", "model 2", "finish",
    ]  # fmt: skip


async def test_a_turn_that_nobody_serves_ends_at_its_deadline(
    skipping: WorkflowEnvironment,
) -> None:
    world = World(skipping)
    turn = a_turn(timeout_seconds=2)
    async with world.serving(without=(Queue.MODEL,)):
        assert await world.run(turn) == "failed"
    assert world.log == ["finish"]
    assert world.endings == [("failed", "timed_out")]


async def test_tools_that_nobody_serves_end_with_the_turn(hasty: World) -> None:
    hasty.model.script = [asks(a_call(), *(a_call(Queue.TOOLS_MCP) for _ in range(3)))]
    assert await hasty.run(a_turn(timeout_seconds=2)) == "failed"
    assert hasty.endings == [("failed", "timed_out")]
    assert hasty.turns.settled == [], "nothing is settled one by one when all is over"


async def test_a_tool_that_falls_silent_at_the_deadline_is_the_turns_timeout(
    hasty: World,
) -> None:
    hasty.model.script = [asks(a_call(max_attempts=1))]
    hasty.tools.act = _never_heard_of_again
    assert await hasty.run(a_turn(timeout_seconds=1)) == "failed"
    assert hasty.log == ["model 1", "tool look_up", "finish"]
    assert hasty.endings == [("failed", "timed_out")]


async def _never_heard_of_again(_given: object) -> None:
    activity.raise_complete_async()
