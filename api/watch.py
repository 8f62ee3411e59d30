"""Looks after tool calls that take long, and tells their rooms when one hangs.

Done by the edges: a worker that hangs could not say so, and may be the only one. Each call is
looked at by one edge at a time (``watch_tool_executions`` lends it), every two seconds, by one
description of its turn; while nothing takes long it costs one look at a small index.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, text

from api import problems
from store import tool_executions
from store.database import Database
from store.shapes import TemporalLinks
from store.tool_runs import Stalled, ToolRun, ToolRuns, diagnose

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=2)
# Most calls are over sooner and never looked at.
OLDER_THAN = timedelta(seconds=3)
LEASE = timedelta(seconds=1.5)
CALLS_AT_ONCE = 200
TURNS_AT_ONCE = 8

_WATCH = text(
    "SELECT * FROM watch_tool_executions("
    "make_interval(secs => :older_than), make_interval(secs => :lease), :most)"
)


class Watch:
    """The loop of one edge.

    Args:
        runs: Where the calls are in Temporal.
    """

    def __init__(self, database: Database, runs: ToolRuns, links: TemporalLinks) -> None:
        self._database = database
        self._runs = runs
        self._links = links
        self._slots = asyncio.Semaphore(TURNS_AT_ONCE)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="watch")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY.total_seconds())
            try:
                await self._look()
            except Exception as exc:  # noqa: BLE001 -- one odd call must not end the watch
                say = log.warning if problems.away(exc) is not None else log.error
                say("watch_failed", error=type(exc).__name__)

    async def _look(self) -> None:
        rows = await self._database.ask(
            _WATCH,
            {
                "older_than": OLDER_THAN.total_seconds(),
                "lease": LEASE.total_seconds(),
                "most": CALLS_AT_ONCE,
            },
        )
        turns: defaultdict[UUID, list[Row[Any]]] = defaultdict(list)
        for row in rows:
            turns[row.turn_id].append(row)
        await asyncio.gather(*(self._look_at(calls) for calls in turns.values()))

    async def _look_at(self, calls: Sequence[Row[Any]]) -> None:
        async with self._slots:
            for call in calls:
                run = await self._runs.of(call.turn_id, call.execution_id)
                if run is None:
                    continue
                stalled = diagnose(
                    run,
                    call.seen_at,
                    served=await self._runs.served(call.queue),
                    claimed_at=call.started_at if call.status == "executing" else None,
                    usual_ms=call.usual_ms,
                )
                if not _known(stalled, call.stalled, run):
                    await self._tell(call, stalled)

    async def _tell(self, call: Row[Any], stalled: Stalled | None) -> None:
        async with self._database.tenant_session(call.tenant_id) as session:
            await tool_executions.mark_stalled(
                session,
                call.execution_id,
                (call.status, call.attempt),
                stalled.wire() if stalled else None,
                self._links,
            )


def _known(found: Stalled | None, told: dict[str, Any] | None, run: ToolRun) -> bool:
    """Whether the room knows already: what tells one stall from the next is its reason and time.

    A call of which no worker has ever spoken hangs since it was told, whatever was tried since.
    """
    if found is None or told is None:
        return found is None and told is None
    wire = found.wire()
    never_heard = run.heartbeat_at is None
    return wire["reason"] == told["reason"] and (never_heard or wire["since"] == told["since"])
