"""The place of a turn that waits for people goes to another turn of its tenant, at once."""

from uuid import UUID

from store import turns
from store.database import Database
from store.runs import TurnRuns


class Places:
    """Gives out free places; what it does not, housekeeping does."""

    def __init__(self, database: Database, runs: TurnRuns) -> None:
        self._database = database
        self._runs = runs

    async def give(self, tenant_id: UUID) -> None:
        """Start the turns that may run now."""
        async with self._database.tenant_session(tenant_id) as session:
            admitted = await turns.admit(session, tenant_id)
        for ref in admitted:
            await self._runs.start(ref)
