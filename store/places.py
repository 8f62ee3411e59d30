"""Places that became free outside of a turn's ending go to turns that wait, at once.

A turn that waits for people has none, nor has one that was deleted.
"""

from uuid import UUID

from store import turns
from store.database import Database
from store.runs import TurnRuns


class Places:
    """Gives out free places; what it does not, housekeeping does."""

    def __init__(self, database: Database, runs: TurnRuns) -> None:
        self._database = database
        self._runs = runs

    async def give(self, tenant_id: UUID) -> int:
        """Start the turns that may run now; how many were."""
        async with self._database.tenant_session(tenant_id) as session:
            admitted = await turns.admit(session, tenant_id)
        return sum([await self._runs.start(ref) for ref in admitted])
