"""Interventions reach their turn's run: committed first, signalled after."""

from uuid import UUID

from store import interventions
from store.database import Database
from store.fault_points import reach
from store.interventions import Intervened, Request
from store.principal import Principal
from store.runs import TurnRuns
from store.shapes import TemporalLinks


class Interventions:
    """Carries out what people do about tool calls.

    Args:
        runs: Tells the workflows; housekeeping tells those that could not be told.
    """

    def __init__(self, database: Database, runs: TurnRuns, links: TemporalLinks) -> None:
        self._database = database
        self._runs = runs
        self._links = links

    async def intervene(
        self, principal: Principal, execution_id: UUID, request: Request, address: str | None
    ) -> Intervened:
        """Put an intervention on record and tell the run of it.

        Raises:
            Refusal: See `store.interventions.intervene`.
        """
        async with self._database.tenant_session(principal.tenant_id) as session:
            done = await interventions.intervene(
                session, principal, execution_id, request, self._links, address
            )
        reach("K11")
        if done.intervention.heard_at is None:
            await self._runs.take_over(
                done.execution.turn_id, done.execution.id, done.intervention.id
            )
        return done
