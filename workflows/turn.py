"""A turn: call the model, run the tools it asks for, again, until it answers.

The workflow carries ids, counts and decisions. Texts, arguments and results are rows that the
activities read and write. Stopping a turn is cancelling its workflow, from the room or from the
Temporal UI alike; whatever happens, `_finish` writes the terminal state.
"""

import asyncio
import builtins
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import (
    Priority,
    RetryPolicy,
    SearchAttributeKey,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    TimeoutType,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ActivityCancellationType, ActivityHandle, ParentClosePolicy

from workflows import policies
from workflows.interfaces import ModelActivities, ToolActivities, TurnActivities
from workflows.types import (
    Carried,
    FinishInput,
    Queue,
    StepInput,
    StepResult,
    ToolCallRef,
    ToolRunInput,
    ToolRunResult,
    ToolStatus,
    TurnCode,
    TurnRef,
    TurnStatus,
    tool_activity_id,
)

TENANT_ID = SearchAttributeKey.for_keyword("TenantId")
PROJECT_ID = SearchAttributeKey.for_keyword("ProjectId")
CONVERSATION_ID = SearchAttributeKey.for_keyword("ConversationId")
TURN_STATUS = SearchAttributeKey.for_keyword("TurnStatus")
TOOL_NAME = SearchAttributeKey.for_keyword("ToolName")
SEARCH_ATTRIBUTES = (TENANT_ID, PROJECT_ID, CONVERSATION_ID, TURN_STATUS, TOOL_NAME)


def search_attributes(turn: TurnRef) -> TypedSearchAttributes:
    """What operators find a turn's run by."""
    from temporalio.common import SearchAttributePair

    return TypedSearchAttributes(
        [
            SearchAttributePair(TENANT_ID, turn.tenant_id),
            SearchAttributePair(PROJECT_ID, turn.project_id),
            SearchAttributePair(CONVERSATION_ID, turn.conversation_id),
            SearchAttributePair(TURN_STATUS, TurnStatus.RUNNING),
        ]
    )


def priority(turn: TurnRef) -> Priority:
    """Shares the queues fairly between tenants."""
    return Priority(fairness_key=turn.tenant_id)


def run_timeout(turn: TurnRef) -> timedelta:
    """When the server ends the turn's run, should neither the run nor housekeeping do so."""
    return _run_timeout(timedelta(seconds=turn.timeout_seconds))


def _run_timeout(own: timedelta) -> timedelta:
    # People may be waited for in between, for as long as their question stands.
    return own + policies.RUN_TIMEOUT_MARGIN + policies.LONGEST_WAIT_FOR_PEOPLE


@workflow.defn(name="ConversationTurn")
class ConversationTurn:
    """One turn, from its first model call to its terminal state.

    Signals are hints that a tool call's row was changed by people; what they said is in the row.
    """

    def __init__(self) -> None:
        self._decided: set[str] = set()
        self._taken_over: dict[str, set[str]] = {}
        # Of those, how many had been heard of when the call's row was last looked at.
        self._looked_at: Counter[str] = Counter()
        self._starts: Counter[str] = Counter()
        self._waiting = 0
        self._waiting_since = datetime.max.replace(tzinfo=UTC)

    @workflow.signal
    def tool_decided(self, tool_execution_id: str) -> None:
        """Enough people have said yes, or one has said no."""
        self._decided.add(tool_execution_id)

    @workflow.signal
    def tool_taken_over(self, tool_execution_id: str, intervention_id: str) -> None:
        """Somebody ended the call, or wants another run of it; hearing it twice is harmless."""
        self._taken_over.setdefault(tool_execution_id, set()).add(intervention_id)

    @workflow.run
    async def run(self, turn: TurnRef) -> str:
        """Run the turn, or what an earlier run left of it; returns its terminal status."""
        first = 1
        self._deadline: datetime = workflow.now() + timedelta(seconds=turn.timeout_seconds)
        if turn.carried is not None:
            first = turn.carried.step
            self._deadline = datetime.fromtimestamp(turn.carried.deadline, UTC)
        self._turn = replace(turn, carried=None, wait_seconds=0.0)
        try:
            if turn.wait_seconds > 0:
                await workflow.sleep(turn.wait_seconds, summary="its tenant's pace")
            status, code = await self._loop(first)
        except BaseException as exc:
            if not (is_cancelled_exception(exc) or isinstance(exc, ActivityError)):
                raise
            status, code = self._ending_of(exc)
        return await self._finish(status, code)

    async def _loop(self, first: int) -> tuple[TurnStatus, str]:
        for step in range(first, self._turn.max_steps + 1):
            self._hand_over_if_long(step)
            reply = await self._generate(step)
            if reply.stopped:
                return TurnStatus.CANCELLED, TurnCode.STOPPED
            if reply.answered:
                return TurnStatus.COMPLETED, ""
            await self._run_tools(reply.tool_calls)
        return TurnStatus.FAILED, TurnCode.TOO_MANY_STEPS

    def _hand_over_if_long(self, step: int) -> None:
        """Continue in a new run, with an empty history, when this one's has grown long."""
        events = workflow.info().get_current_history_length()
        if events > policies.MAX_RUN_EVENTS and workflow.patched("hand over"):
            workflow.continue_as_new(
                replace(self._turn, carried=Carried(step, self._deadline.timestamp())),
                run_timeout=_run_timeout(self._remaining()),
                task_timeout=policies.WORKFLOW_TASK_TIMEOUT,
            )

    async def _generate(self, step: int) -> StepResult:
        return await workflow.execute_activity_method(
            ModelActivities.generate_reply,
            StepInput(self._turn, step),
            task_queue=Queue.MODEL,
            start_to_close_timeout=policies.MODEL_CALL_TIMEOUT,
            schedule_to_close_timeout=self._remaining(),
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.MODEL_RETRY,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"model call {step}",
            priority=priority(self._turn),
        )

    async def _run_tools(self, calls: list[ToolCallRef]) -> None:
        if not calls:
            return
        workflow.upsert_search_attributes([TOOL_NAME.value_set(calls[0].tool)])
        runs = [asyncio.create_task(self._run_tool(call)) for call in calls]
        try:
            await asyncio.gather(*runs)
        except BaseException as exc:
            # Each activity ends what it began at its target before the turn is settled. A stop
            # comes out of the first one that has ended, as its `ActivityError`.
            if isinstance(exc, asyncio.CancelledError) or workflow.patched("all tools end"):
                await asyncio.gather(*runs, return_exceptions=True)
            raise

    async def _run_tool(self, call: ToolCallRef) -> str:
        patience = timedelta(seconds=call.patience_seconds) or policies.LONGEST_WAIT_FOR_PEOPLE
        until = workflow.now() + patience
        if call.asks:
            await self._until_decided(call, until)
        while (status := await self._run_decided_tool(call)) == ToolStatus.AWAITING_APPROVAL:
            await self._until_decided(call, until)
        return status

    async def _until_decided(self, call: ToolCallRef, until: datetime) -> None:
        """Wait for people, however long it takes; the turn's own time stands still meanwhile."""
        if workflow.cancellation_reason() is not None:
            # A stop that came in the same moment as an activity's result is not raised any more.
            raise asyncio.CancelledError
        if not self._waiting:
            self._waiting_since = workflow.now()
        self._waiting += 1
        try:
            await workflow.wait_condition(
                lambda: call.tool_execution_id in self._decided or self._hinted(call),
                timeout=max(until - workflow.now(), _LAST_MOMENT),
                timeout_summary=f"{call.tool} waits for a decision",
            )
            self._decided.discard(call.tool_execution_id)
        except builtins.TimeoutError:
            # The call's next run finds that the question has expired, and says so.
            return
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._deadline += workflow.now() - self._waiting_since

    async def _run_decided_tool(self, call: ToolCallRef) -> str:
        run = ToolRunInput(self._turn, call)
        while True:
            try:
                hinted = self._hinted(call)
                result = await (self._review(run) if hinted else self._attended(run))
            except ActivityError as exc:
                if is_cancelled_exception(exc) or self._remaining() <= _LAST_MOMENT:
                    raise
                # The activity itself was lost, every attempt of it. The model is told, and goes on.
                result = await workflow.execute_activity_method(
                    TurnActivities.settle_tool,
                    run,
                    task_queue=Queue.TURNS,
                    start_to_close_timeout=policies.DATABASE_ACTIVITY_TIMEOUT,
                    schedule_to_close_timeout=self._remaining(),
                    retry_policy=policies.FINISH_RETRY,
                    summary=f"{call.tool} was lost",
                    priority=priority(self._turn),
                )
            if result.status not in (ToolStatus.PENDING, ToolStatus.EXECUTING):
                return result.status
            run = replace(run, taken_over=result.taken_over)

    async def _attended(self, run: ToolRunInput) -> ToolRunResult:
        """Run a tool call; where its row says that people took it over, let go of that run.

        A hint alone ends nothing: the row is looked at, by an activity of the queue that is served
        whatever has become of the tool's own.
        """
        running = self._start_tool(run)
        try:
            while not running.done():
                await workflow.wait_condition(lambda: running.done() or self._hinted(run.call))
                if running.done():
                    break
                found = await self._review(run)
                if found.taken_over > run.taken_over:
                    running.cancel()
                    # Nobody waits for it any more, however it ends: it may hang, and its result
                    # would not be stored.
                    running.add_done_callback(lambda left: left.cancelled() or left.exception())
                    return found
        except BaseException as exc:
            # The activity ends what it began at its target; how it ended is what counts.
            running.cancel()
            if not is_cancelled_exception(exc):
                running.add_done_callback(lambda left: left.cancelled() or left.exception())
                raise
            return await running
        result = running.result()
        # A run that came late to a call that was taken over meanwhile has done nothing.
        return await self._review(run) if result.status == ToolStatus.PENDING else result

    def _hinted(self, call: ToolCallRef) -> bool:
        """Whether there are hints about a call that nobody has looked into."""
        key = call.tool_execution_id
        return len(self._taken_over.get(key, ())) > self._looked_at[key]

    async def _review(self, run: ToolRunInput) -> ToolRunResult:
        key = run.call.tool_execution_id
        self._looked_at[key] = len(self._taken_over.get(key, ()))
        return await workflow.execute_activity_method(
            TurnActivities.review_tool,
            run,
            task_queue=Queue.TURNS,
            start_to_close_timeout=policies.DATABASE_ACTIVITY_TIMEOUT,
            schedule_to_close_timeout=self._remaining(),
            retry_policy=policies.FINISH_RETRY,
            summary=f"{run.call.tool} was taken over",
            priority=priority(self._turn),
        )

    def _start_tool(self, run: ToolRunInput) -> ActivityHandle[ToolRunResult]:
        call = run.call
        activity_id = None
        if workflow.patched("tools have names"):
            self._starts[call.tool_execution_id] += 1
            activity_id = tool_activity_id(
                call.tool_execution_id, self._starts[call.tool_execution_id]
            )
        return workflow.start_activity_method(
            ToolActivities.run_tool,
            run,
            activity_id=activity_id,
            task_queue=call.queue,
            start_to_close_timeout=timedelta(seconds=call.deadline_seconds)
            + policies.TOOL_TIMEOUT_MARGIN,
            schedule_to_close_timeout=self._remaining(),
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=RetryPolicy(
                initial_interval=policies.TOOL_RETRY_INTERVAL,
                maximum_attempts=call.max_attempts,
            ),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{call.tool} · {call.tool_execution_id}",
            priority=priority(self._turn),
        )

    async def _finish(self, status: TurnStatus, code: str) -> str:
        """Write the terminal state and start the next queued turn; a stop cannot interrupt it."""
        finishing = asyncio.create_task(self._end(status, code))
        while not finishing.done():
            try:
                await asyncio.shield(finishing)
            except asyncio.CancelledError:
                # Also while the successor starts: the stop would be handed on to it.
                continue
        finishing.result()
        return status

    async def _end(self, status: TurnStatus, code: str) -> None:
        ended = await workflow.execute_activity_method(
            TurnActivities.finish_turn,
            FinishInput(self._turn, status, code),
            task_queue=Queue.TURNS,
            start_to_close_timeout=policies.DATABASE_ACTIVITY_TIMEOUT,
            retry_policy=policies.FINISH_RETRY,
            summary=f"finish: {status}",
            priority=priority(self._turn),
        )
        workflow.upsert_search_attributes([TURN_STATUS.value_set(status)])
        if ended.next_turn is not None:
            await start_turn(ended.next_turn)
        for turn in ended.also:
            await start_turn(turn)

    def _ending_of(self, exc: BaseException) -> tuple[TurnStatus, str]:
        """Terminal state that an exception out of the loop stands for."""
        # A stop may end an activity that fails on its way out; it is a stop all the same.
        if is_cancelled_exception(exc) or workflow.cancellation_reason() is not None:
            return TurnStatus.CANCELLED, TurnCode.STOPPED
        cause = exc.__cause__
        if isinstance(cause, ApplicationError) and cause.type == TurnCode.STOPPED:
            return TurnStatus.CANCELLED, TurnCode.STOPPED
        if isinstance(cause, ApplicationError) and cause.type in set(TurnCode):
            return TurnStatus.FAILED, TurnCode(cause.type)
        if isinstance(cause, TimeoutError):
            # Whatever ran out first: at the turn's deadline it is the turn that took too long.
            over = cause.type == TimeoutType.SCHEDULE_TO_CLOSE or self._remaining() <= _LAST_MOMENT
            return TurnStatus.FAILED, TurnCode.TIMED_OUT if over else TurnCode.MODEL_UNAVAILABLE
        return TurnStatus.FAILED, TurnCode.INTERNAL_ERROR

    def _remaining(self) -> timedelta:
        now = self._waiting_since if self._waiting else workflow.now()
        return max(self._deadline - now, _LAST_MOMENT)


_LAST_MOMENT = timedelta(seconds=1)


async def start_turn(turn: TurnRef) -> None:
    """Start a turn's workflow as a child that outlives its parent; nothing if it was started."""
    try:
        _child = await workflow.start_child_workflow(
            ConversationTurn.run,
            turn,
            id=turn.workflow_id,
            task_queue=Queue.TURNS,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            parent_close_policy=ParentClosePolicy.ABANDON,
            run_timeout=run_timeout(turn),
            task_timeout=policies.WORKFLOW_TASK_TIMEOUT,
            search_attributes=search_attributes(turn),
            static_summary=f"turn in conversation {turn.conversation_id}",
            priority=priority(turn),
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("turn %s was started already", turn.turn_id)
