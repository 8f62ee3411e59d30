"""Housekeeping: no turn is "thinking" for ever, whatever died and whoever terminated what.

Compares open turns in the database with their runs in Temporal. A turn without a run is started, a
turn whose run is over is settled, a stop that never reached its run is delivered again. Turns that
wait for a place have no run and are left alone; places that are free are given to them. What people
do about tool calls, and turns that should be over, are `activities.people`'s.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode
from typing_extensions import override

from activities.people import PeopleSweep
from store import turns
from store.database import Database
from store.places import Places
from store.runs import TurnRuns
from store.settings import Settings
from workflows.interfaces import HousekeepingActivities
from workflows.types import SweepResult, TurnCode, TurnStatus, turn_workflow_id

log = structlog.get_logger(__name__)

# Younger turns are still being started by whoever accepted them.
MIN_AGE = timedelta(seconds=5)
MAX_TURNS_PER_SWEEP = 500
MAX_TENANTS_PER_SWEEP = 100

OUTCOMES = ("started", "settled", "cancelled", "failed")

# A run that takes no notice of a stop for so long never will: its version has no workers any more,
# or its code does not fit its history.
DEAF_AFTER = timedelta(seconds=15)

OPERATOR_TEXT = "An operator ended this run."


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """An open turn as the sweep sees it."""

    tenant_id: UUID
    turn_id: UUID
    stop_requested: bool


async def _is_deaf(run: WorkflowHandle[Any, Any]) -> bool:
    """Whether a run has not noticed for `DEAF_AFTER` that it is to stop."""
    asked: datetime | None = None
    async for event in run.fetch_history_events():
        if event.HasField("workflow_execution_cancel_requested_event_attributes"):
            asked = asked or event.event_time.ToDatetime(UTC)
        elif asked and event.HasField("workflow_task_completed_event_attributes"):
            return False
    # The server's clock against ours: should they differ, a stop is carried out too early or late
    # by that much, and is a stop all the same.
    return asked is not None and datetime.now(UTC) - asked > DEAF_AFTER


class HousekeepingSweep(HousekeepingActivities):
    """Implements `sweep`."""

    def __init__(
        self, *, database: Database, settings: Settings, client: Client, runs: TurnRuns
    ) -> None:
        self._database = database
        self._settings = settings
        self._client = client
        self._runs = runs
        self._places = Places(database, runs)
        self._people = PeopleSweep(database, settings, client, runs)

    @override
    @activity.defn(name="sweep")
    async def sweep(self) -> SweepResult:
        done: Counter[str] = Counter()
        meter = activity.metric_meter()
        for turn in await self._open_turns():
            try:
                done[await self._reconcile(turn)] += 1
            except Exception as exc:  # noqa: BLE001 -- one turn must not keep the rest waiting
                done["failed"] += 1
                log.warning("sweep_failed", turn_id=str(turn.turn_id), error=type(exc).__name__)
        done["started"] += await self._admit()
        done.update(await self._people.sweep())
        pruned = await self._prune()
        turns_seen = meter.create_counter(
            "everturn_housekeeping_turns", "Turns that a sweep had to start, settle or cancel."
        )
        for outcome in OUTCOMES:
            turns_seen.add(done[outcome], {"outcome": outcome})
        meter.create_counter("everturn_housekeeping_sweeps", "Sweeps that came to their end.").add(
            1
        )
        return SweepResult(done["started"], done["settled"], done["cancelled"], pruned)

    async def _reconcile(self, turn: OpenTurn) -> str:
        """Bring a turn and its run together; says what was done."""
        run = await self._run(turn)
        if run is None:
            return await self._start(turn)
        if run.status is not WorkflowExecutionStatus.RUNNING:
            return await self._settle(turn, run.status)
        if not turn.stop_requested:
            return ""
        if await _is_deaf(self._handle(turn)):
            await self._handle(turn).terminate("stopped, and no worker could hear it")
            return await self._settle(turn, WorkflowExecutionStatus.TERMINATED)
        await self._runs.cancel(turn.turn_id)
        return "cancelled"

    async def _open_turns(self) -> list[OpenTurn]:
        async with self._database.session() as session:
            rows = await session.execute(
                text(
                    "SELECT tenant_id, turn_id, stop_requested"
                    " FROM open_turns(make_interval(secs => :age), :most)"
                ),
                {"age": MIN_AGE.total_seconds(), "most": MAX_TURNS_PER_SWEEP},
            )
            return [OpenTurn(*row) for row in rows]

    def _handle(self, turn: OpenTurn) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(turn_workflow_id(turn.turn_id))

    async def _run(self, turn: OpenTurn) -> WorkflowExecutionDescription | None:
        try:
            return await self._handle(turn).describe()
        except RPCError as exc:
            if exc.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _start(self, turn: OpenTurn) -> str:
        if turn.stop_requested:
            return await self._settle(turn, WorkflowExecutionStatus.CANCELED)
        async with self._database.tenant_session(turn.tenant_id) as session:
            ref = await turns.ref_of(session, turn.turn_id)
        if ref is None or not await self._runs.start(ref):
            return ""
        log.info("orphan_started", turn_id=str(turn.turn_id))
        return "started"

    async def _settle(self, turn: OpenTurn, status: WorkflowExecutionStatus | None) -> str:
        stopped = turn.stop_requested or status in (
            WorkflowExecutionStatus.CANCELED,
            WorkflowExecutionStatus.TERMINATED,
        )
        log.info("orphan_settled", turn_id=str(turn.turn_id), run=status.name if status else "")
        async with self._database.tenant_session(turn.tenant_id) as session:
            following = await turns.finish(
                session,
                turn.turn_id,
                TurnStatus.CANCELLED if stopped else TurnStatus.FAILED,
                TurnCode.STOPPED if stopped else TurnCode.INTERNAL_ERROR,
                None if turn.stop_requested else OPERATOR_TEXT if stopped else None,
            )
        for ref in following:
            await self._runs.start(ref)
        return "settled"

    async def _admit(self) -> int:
        """Give free places to turns that wait for one; how many were started."""
        async with self._database.session() as session:
            tenants = await session.scalars(
                text("SELECT * FROM tenants_waiting(make_interval(secs => :age), :most)"),
                {"age": MIN_AGE.total_seconds(), "most": MAX_TENANTS_PER_SWEEP},
            )
            waiting = tenants.all()
        started = 0
        for tenant_id in waiting:
            try:
                started += await self._places.give(tenant_id)
            except Exception as exc:  # noqa: BLE001 -- nor one tenant the others
                log.warning("admission_failed", tenant_id=str(tenant_id), error=type(exc).__name__)
        return started

    async def _prune(self) -> int:
        # The log keeps what is younger, and at least what a client that comes back is sent.
        keep = {
            "keep": self._settings.replay_seconds,
            "events": self._settings.replay_events,
        }
        async with self._database.session() as session:
            pruned = await session.scalar(
                text("SELECT prune(make_interval(secs => :keep), :events) + prune_tool_cache()"),
                keep,
            )
            return int(pruned or 0)
