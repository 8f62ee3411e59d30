"""Places: at most `concurrent_turns` turns of a tenant run at once; others wait, oldest first.

One rule. A turn may run when it holds a place (`turns.admitted_at`). A place is given to a turn
that is the first open one of its conversation, and among those to the one that was accepted first.
It is held until the turn ends; who waits for people (``awaiting_approval``) keeps nobody waiting.

It is exact because all who give places take turns: a lock serialises them per tenant, and the
statement that counts starts after the lock is held, so it sees every place given before. Both are
in the function ``admit_turns``, to hold the lock for no longer than the end of the transaction
takes. Whoever ends a turn, or makes one the first of its conversation, gives out what is free in
the same transaction; what nobody did (a worker died, a limit was raised) housekeeping does.

In the order of locks (`store.turns`) admission comes after the rows of turns that hold a place and
before those of turns that wait: who changes a waiting turn takes `lock` first. `admit` comes
before the events are appended, so nobody waits for a turn's row with a room locked.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import Turn
from workflows.types import TurnStatus

# A raised limit may free many places at once; who finds them starts so many, housekeeping the rest.
MOST_AT_ONCE = 10

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('admission ' || :tenant_id, 0))")
_ADMIT = text("SELECT * FROM admit_turns(:tenant_id, :places, :at_most)")


async def lock(session: AsyncSession, tenant_id: UUID) -> None:
    """Keep all others of the tenant from giving places until the transaction ends.

    Only for whoever changes turns that wait; `admit` takes it by itself.
    """
    await session.execute(_LOCK, {"tenant_id": str(tenant_id)})


async def admit(session: AsyncSession, tenant_id: UUID, places: int) -> Sequence[Turn]:
    """Give the free places to those who have waited longest.

    Args:
        places: How many the tenant has in all.

    Returns:
        The turns to start once the transaction has been committed, oldest first.
    """
    given = {"tenant_id": tenant_id, "places": places, "at_most": MOST_AT_ONCE}
    admitted = await session.scalars(
        select(Turn)
        .from_statement(_ADMIT.bindparams(**given))
        .execution_options(populate_existing=True)
    )
    return sorted(admitted, key=lambda turn: (turn.created_at, turn.id))


async def not_begun(session: AsyncSession, tenant_id: UUID) -> Sequence[Turn]:
    """Turns that hold a place and have not begun; starting one twice is harmless.

    For whoever repeats an ending whose answer was lost: among these are the successors it named.
    """
    return (
        await session.scalars(
            select(Turn)
            .where(
                Turn.tenant_id == tenant_id,
                Turn.admitted_at.is_not(None),
                Turn.status == TurnStatus.QUEUED,
            )
            .order_by(Turn.created_at, Turn.id)
            .limit(MOST_AT_ONCE)
        )
    ).all()
