"""Tool calls as Temporal runs them: where each is, who has it, when it was last heard of.

The rows say what was claimed and what came of it; this says why nothing comes. Read from
Temporal's description of the turn, a call being found by its activity's id.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState as State
from temporalio.api.enums.v1 import TaskQueueType, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from store.runs import RPC_TIMEOUT
from workflows import policies
from workflows.types import tool_activity_id, turn_workflow_id

log = structlog.get_logger(__name__)

# Heartbeats come every half second; this many without one, and something is wrong.
SILENCE = timedelta(seconds=4)
# A call that has taken so many times as long as nine of ten, and so long in any case, is slow.
SLOW_FACTOR = 5
SLOW_AT_LEAST = timedelta(seconds=8)
# A tool that is over its deadline by this much does not end although it was told to.
OVERDUE = timedelta(seconds=2)
# A worker that waits for work asks anew at least every minute.
ASKS_EVERY = timedelta(seconds=65)

DESCRIBED_FOR_SECONDS = 1.0
AWAY_FOR_SECONDS = 2.0
MAX_DESCRIBED = 1_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LastFailure:
    """Why the attempt before failed, for people: no text of a target, nothing secret."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A call's activity as it stands.

    Attributes:
        workflow_run: Run id of the turn's workflow.
        state: ``scheduled`` (no worker has it), ``started``, ``backoff`` (until
            `next_attempt_at`), ``cancel_requested`` or ``paused``.
        attempt: Of the activity; after a retry by people it counts anew, unlike the row's.
        worker: Who has it, or had it last: host and process.
        since: Since when the state holds, as far as Temporal says.
        deadline_seconds: The tool's own.
        paused_by: Who paused it, and why, as he has put it.
    """

    workflow_run: str
    activity_id: str
    queue: str
    state: str
    attempt: int
    max_attempts: int
    worker: str | None
    since: datetime | None
    scheduled_at: datetime | None
    started_at: datetime | None
    heartbeat_at: datetime | None
    next_attempt_at: datetime | None
    deadline_seconds: float | None
    last_failure: LastFailure | None
    paused_by: str | None = None

    @property
    def heard_at(self) -> datetime | None:
        """When a worker last spoke of it, in any attempt, or else since when one could have."""
        return self.heartbeat_at or self.scheduled_at


@dataclass(frozen=True, slots=True)
class Stalled:
    """Why a call makes no progress, and since when."""

    reason: str
    since: datetime
    detail: str

    def wire(self) -> dict[str, str]:
        """As rows keep it and clients are shown it."""
        return {"reason": self.reason, "since": self.since.isoformat(), "detail": self.detail}


def diagnose(
    run: ToolRun,
    now: datetime,
    *,
    served: bool | None,
    claimed_at: datetime | None,
    usual_ms: float | None,
) -> Stalled | None:
    """What, if anything, keeps a call from its result.

    Args:
        now: By the database's clock; an edge's own may be wrong.
        served: Whether workers ask for work of its queue; None where that is not known.
        claimed_at: When its present attempt began to run, by its row.
        usual_ms: What nine of ten such calls took; None with too few to say.
    """
    if run.state == "paused":
        by = f" by {run.paused_by}" if run.paused_by else ""
        return Stalled("paused", run.since or now, f"An operator has paused it{by}.")
    heard = run.heard_at
    # Handed to a worker again and again, of which nobody ever hears.
    lost = run.heartbeat_at is None and run.attempt > 1 and _was_lost(run)
    if heard is not None and (lost or now - heard > SILENCE):
        if run.heartbeat_at is not None or run.worker is not None:
            return Stalled("worker_lost", heard, _lost(run))
        if served is False:
            return Stalled("no_worker", heard, f"No worker serves the queue {run.queue}.")
        return Stalled("waiting", heard, f"No worker of the queue {run.queue} has taken it yet.")
    if run.state != "started" or claimed_at is None:
        return None
    taken = now - claimed_at
    if run.deadline_seconds and taken > timedelta(seconds=run.deadline_seconds) + OVERDUE:
        limit = f"{run.deadline_seconds:.0f} s"
        return Stalled("overdue", claimed_at, f"It was to end after {limit}, and has not.")
    if usual_ms is not None:
        usual = timedelta(milliseconds=usual_ms)
        if taken > max(SLOW_AT_LEAST, SLOW_FACTOR * usual):
            return Stalled("slow", claimed_at, f"It usually takes {_words(usual)} at most.")
    return None


def _was_lost(run: ToolRun) -> bool:
    return run.last_failure is not None and run.last_failure.code == "worker_lost"


def _lost(run: ToolRun) -> str:
    return f"Its worker ({run.worker}) is silent." if run.worker else "Its worker is silent."


def _words(time: timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"


class Remembered(Generic[K, V]):
    """Answers to questions, each asked at most once within `seconds`, whoever asks."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._answers: dict[K, tuple[float, asyncio.Task[V]]] = {}

    async def get(self, key: K) -> V:
        """The answer; whatever asking raises, for all who wait for it."""
        now = time.monotonic()
        known = self._answers.get(key)
        if known is None or now - known[0] > self._seconds:
            while len(self._answers) >= MAX_DESCRIBED:
                del self._answers[next(iter(self._answers))]
            self._answers.pop(key, None)
            task = asyncio.ensure_future(self._ask(key))
            # Whoever asked may have gone: an error that nobody fetches is no fault.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            known = self._answers[key] = (now, task)
        return await asyncio.shield(known[1])


class ToolRuns:
    """Looks into Temporal; what it found is good for a second.

    Args:
        client: Connected, or lazily connecting, Temporal client of its own: whoever looks while
            the server is away must not keep those waiting who start turns.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turns: Remembered[UUID, list[ToolRun]] = Remembered(
            self._describe, DESCRIBED_FOR_SECONDS
        )
        self._queues: Remembered[str, bool] = Remembered(self._polled, DESCRIBED_FOR_SECONDS)
        self._away_until = 0.0

    async def of(self, turn_id: UUID, execution_id: UUID) -> ToolRun | None:
        """The newest run of a call; None without one, or while Temporal is away."""
        runs = await self._asked(self._turns, turn_id)
        prefix = tool_activity_id(execution_id, 0)[:-1]
        return max(
            (run for run in runs or () if run.activity_id.startswith(prefix)),
            key=lambda run: int(run.activity_id.removeprefix(prefix)),
            default=None,
        )

    async def served(self, queue: str) -> bool | None:
        """Whether workers ask for the queue's work; None while Temporal is away."""
        return await self._asked(self._queues, queue)

    async def _asked(self, answers: Remembered[K, V], key: K) -> V | None:
        """An answer, or None while Temporal is away: then nobody waits for it in vain again."""
        if time.monotonic() < self._away_until:
            return None
        try:
            # A client that has yet to connect takes its time, whatever the call's own timeout.
            async with asyncio.timeout(2 * RPC_TIMEOUT.total_seconds()):
                return await answers.get(key)
        except (RPCError, RuntimeError, TimeoutError) as exc:
            self._away_until = time.monotonic() + AWAY_FOR_SECONDS
            log.debug("tool_runs_not_seen", error=type(exc).__name__)
            return None

    async def _describe(self, turn_id: UUID) -> list[ToolRun]:
        handle = self._client.get_workflow_handle(turn_workflow_id(turn_id))
        try:
            found = (await handle.describe(rpc_timeout=RPC_TIMEOUT)).raw_description
        except RPCError as exc:
            if exc.status is RPCStatusCode.NOT_FOUND:
                return []
            raise
        run_id = found.workflow_execution_info.execution.run_id
        return [
            _run(run_id, pending)
            for pending in found.pending_activities
            if pending.activity_type.name == "run_tool"
        ]

    async def _polled(self, queue: str) -> bool:
        described: DescribeTaskQueueResponse = (
            await self._client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=self._client.namespace,
                    task_queue=TaskQueue(name=queue),
                    task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                ),
                timeout=RPC_TIMEOUT,
            )
        )
        # The server lists who has asked within five minutes, also when he is gone.
        oldest = datetime.now(UTC) - ASKS_EVERY
        return any(
            asked is not None and asked > oldest
            for asked in (_time(poller.last_access_time) for poller in described.pollers)
        )


def _run(run_id: str, pending: PendingActivityInfo) -> ToolRun:
    now_paused = pending.paused or pending.state in (
        State.PENDING_ACTIVITY_STATE_PAUSED,
        State.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
    )
    next_at = _given(pending, "next_attempt_schedule_time")
    started = _given(pending, "last_started_time")
    scheduled = _given(pending, "scheduled_time")
    if now_paused:
        state, since = "paused", _given(pending.pause_info, "pause_time")
    elif pending.state == State.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
        state, since = "cancel_requested", started
    elif pending.state == State.PENDING_ACTIVITY_STATE_STARTED:
        state, since = "started", started
    elif next_at is not None and pending.attempt > 1:
        state, since = "backoff", _given(pending, "last_heartbeat_time")
    else:
        state, since = "scheduled", scheduled
    limit = pending.activity_options.start_to_close_timeout.ToTimedelta()
    deadline = limit - policies.TOOL_TIMEOUT_MARGIN
    return ToolRun(
        workflow_run=run_id,
        activity_id=pending.activity_id,
        queue=pending.activity_options.task_queue.name,
        state=state,
        attempt=pending.attempt,
        max_attempts=pending.maximum_attempts,
        worker=pending.last_worker_identity or None,
        since=since,
        scheduled_at=scheduled,
        started_at=started,
        heartbeat_at=_given(pending, "last_heartbeat_time"),
        next_attempt_at=next_at if state == "backoff" else None,
        deadline_seconds=deadline.total_seconds() if deadline > timedelta() else None,
        last_failure=_failure(pending.last_failure) if pending.HasField("last_failure") else None,
        paused_by=_paused_by(pending) if now_paused else None,
    )


def _failure(failure: Failure) -> LastFailure:
    """A failure in our words: those of a library may quote what it was given."""
    kind = failure.WhichOneof("failure_info")
    if kind == "timeout_failure_info":
        if failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT:
            seconds = policies.HEARTBEAT_TIMEOUT.total_seconds()
            return LastFailure("worker_lost", f"Its worker was not heard of for {seconds:.0f} s.")
        return LastFailure("timeout", "It did not end in time.")
    if kind == "application_failure_info":
        code = failure.application_failure_info.type or "failed"
        known = _KNOWN_FAILURES.get(code)
        return LastFailure(code, known or f"It broke on our side ({code}).")
    return LastFailure("failed", "It broke on our side.")


_KNOWN_FAILURES = {
    "ActivityPause": "It was interrupted by a pause.",
    "ActivityReset": "It was interrupted by a reset.",
    "Superseded": "Another attempt owned the call.",
}


def _paused_by(pending: PendingActivityInfo) -> str | None:
    manual = pending.pause_info.manual
    return ": ".join(part for part in (manual.identity, manual.reason) if part) or None


def _given(message: Any, field: str) -> datetime | None:
    return _time(getattr(message, field)) if message.HasField(field) else None


def _time(stamp: Timestamp) -> datetime | None:
    found = stamp.ToDatetime(UTC)
    return found if found.year > 1970 else None
