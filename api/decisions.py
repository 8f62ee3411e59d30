"""What people say to tool calls that ask: stored first, then the turn's run is told."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from store import audit, decisions
from store.audit import Actor
from store.database import Database
from store.decisions import Decided, Word
from store.errors import Refusal
from store.fault_points import reach
from store.principal import Principal
from store.runs import TurnRuns
from store.shapes import TemporalLinks


@dataclass(frozen=True, slots=True)
class Decisions:
    """Hears decisions, the same for the socket and for REST."""

    database: Database
    runs: TurnRuns
    links: TemporalLinks

    async def decide(
        self, principal: Principal, execution_id: UUID, word: Word, address: str | None = None
    ) -> Decided:
        """Store a person's word; whoever comes second is told what the first one's led to.

        Raises:
            Refusal: See `store.decisions.decide`; each is on record.
        """
        try:
            async with self.database.tenant_session(principal.tenant_id) as session:
                decided = await decisions.decide(
                    session, principal, execution_id, word, self.links, address
                )
        except Refusal as refusal:
            await self._record(principal, execution_id, word, refusal, address)
            raise
        reach("K12")
        if decided.tell:
            row = decided.execution
            if await self.runs.tell_decided(decided.turn.id, row.id):
                async with self.database.tenant_session(principal.tenant_id) as session:
                    await decisions.told(session, row.id, row.question)
        return decided

    async def _record(
        self,
        principal: Principal,
        execution_id: UUID,
        word: Word,
        refusal: Refusal,
        address: str | None,
    ) -> None:
        async with self.database.tenant_session(principal.tenant_id) as session:
            await audit.record(
                session, principal.tenant_id, Actor.of(principal, address), "tool.decide",
                "tool_execution", execution_id, outcome="refused",
                reason=f"{word.decision}: {refusal.specific_code}: {_rule(refusal)}",
            )  # fmt: skip


def _rule(refusal: Refusal) -> Any:
    # What was wrong with arguments quotes them; where it was is enough.
    if refusal.errors:
        return ", ".join(error["field"] for error in refusal.errors[:5])
    return refusal.detail
