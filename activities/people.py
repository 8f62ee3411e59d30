"""Housekeeping of what people are asked: questions, decisions, and time that stands still.

Each of five things is somebody else's to do at once, and is done here where nobody did: a run
closes a question whose time is over, an edge tells the run of a decision or of an intervention,
whoever changes a call reviews its turn, and a run ends its turn within its time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from store import decisions, expiry, turns, waiting
from store.database import Database
from store.limits import TenantLimits
from store.runs import TurnRuns
from store.settings import Settings
from store.shapes import TemporalLinks
from store.tables import ToolExecution
from workflows import policies
from workflows.types import TurnCode, TurnStatus, turn_workflow_id

log = structlog.get_logger(__name__)

# The run's own timer, or the edge's signal, is on its way for so long.
MIN_AGE = timedelta(seconds=5)
AT_MOST = 200
# A run has this long to write its turn's end, beyond the turn's own time.
OVERDUE_AFTER = policies.RUN_TIMEOUT_MARGIN
OVERDUE_TEXT = "This took longer than a turn may, and its run did nothing any more. Ask again."

# Takes a row of its query, which has a `turn_id`; says how what it did is counted.
Deed = Callable[..., Awaitable[str]]


class PeopleSweep:
    """A part of `sweep`."""

    def __init__(
        self, database: Database, settings: Settings, client: Client, runs: TurnRuns
    ) -> None:
        self._database = database
        self._client = client
        self._runs = runs
        self._links = TemporalLinks(settings.temporal_ui_base, settings.temporal_namespace)

    async def sweep(self) -> Counter[str]:
        """Do what was left undone; how often what was."""
        done: Counter[str] = Counter()
        young: dict[str, object] = {"age": MIN_AGE, "most": AT_MOST}
        every: dict[str, object] = {"most": AT_MOST}
        overdue: dict[str, object] = {
            "default": TenantLimits().turn_seconds, "margin": OVERDUE_AFTER, "most": AT_MOST,
        }  # fmt: skip
        for query, values, deed in (
            ("SELECT * FROM expired_questions(:age, :most)", young, self._expire),
            ("SELECT * FROM untold_decisions(:age, :most)", young, self._tell),
            ("SELECT * FROM unheard_interventions(:age, :most)", young, self._take_over),
            ("SELECT * FROM misstated_turns(:most)", every, self._review),
            ("SELECT * FROM overdue_turns(:default, :margin, :most)", overdue, self._end),
        ):
            await self._each(query, values, deed, done)
        return done

    async def _each(
        self, query: str, values: dict[str, object], deed: Deed, done: Counter[str]
    ) -> None:
        async with self._database.session() as session:
            found = (await session.execute(text(query), values)).all()
        for row in found:
            try:
                done[await deed(*row)] += 1
            except Exception as exc:  # noqa: BLE001 -- one turn must not keep the rest waiting
                done["failed"] += 1
                log.warning("sweep_failed", turn_id=str(row.turn_id), error=type(exc).__name__)

    async def _expire(self, tenant_id: UUID, turn_id: UUID, execution_id: UUID) -> str:
        async with self._database.tenant_session(tenant_id) as session:
            expired = await expiry.expire_now(session, execution_id, self._links)
        return await self._tell(tenant_id, turn_id, execution_id) if expired else ""

    async def _tell(self, tenant_id: UUID, turn_id: UUID, execution_id: UUID) -> str:
        async with self._database.tenant_session(tenant_id) as session:
            row = await session.get(ToolExecution, execution_id)
            question = row.question if row else 0
        if not await self._runs.tell_decided(turn_id, execution_id):
            return "failed"
        async with self._database.tenant_session(tenant_id) as session:
            await decisions.told(session, execution_id, question)
        return "told"

    async def _take_over(self, turn_id: UUID, execution_id: UUID, intervention_id: UUID) -> str:
        told = await self._runs.take_over(turn_id, execution_id, intervention_id)
        return "told" if told else "failed"

    async def _review(self, tenant_id: UUID, turn_id: UUID) -> str:
        async with self._database.tenant_session(tenant_id) as session:
            await waiting.review_now(session, turn_id)
        return "reviewed"

    async def _end(self, tenant_id: UUID, turn_id: UUID) -> str:
        """End a run that should have ended its turn long ago, and the turn."""
        handle = self._client.get_workflow_handle(turn_workflow_id(turn_id))
        try:
            await handle.terminate("its turn's time was over long ago")
        except RPCError as exc:
            if exc.status is not RPCStatusCode.NOT_FOUND:
                raise
        log.warning("overdue_turn_ended", turn_id=str(turn_id))
        async with self._database.tenant_session(tenant_id) as session:
            following = await turns.finish(
                session, turn_id, TurnStatus.FAILED, TurnCode.TIMED_OUT, OVERDUE_TEXT
            )
        for ref in following:
            await self._runs.start(ref)
        return "settled"
