"""Places: at most `concurrent_turns` turns of a tenant run at once; others wait, oldest first.

One rule. A turn may run when it holds a place (`turns.admitted_at`). A place is given to a turn
that is the first open one of its conversation, and among those to the one that was accepted first.
It is held until the turn ends; who waits for people (``awaiting_approval``) keeps nobody waiting.

It is exact because all who give places take turns: `lock` serialises them per tenant, and the
statement that counts starts after the lock is held, so it sees every place given before. Whoever
ends a turn, or makes one the first of its conversation, gives out what is free in the same
transaction; what nobody did (a worker died, a limit was raised) housekeeping does.

In the order of locks (`store.turns`) the lock stands between conversation and turn, and rows of
waiting turns are changed only under it; so `admit` comes before the events are appended.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from store.tables import Turn
from workflows.types import OPEN_TURN_STATUSES, TurnStatus

HOLDING = (TurnStatus.QUEUED, TurnStatus.RUNNING)
# A raised limit may free many places at once; who finds them starts so many, housekeeping the rest.
MOST_AT_ONCE = 10

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('admission ' || :tenant_id, 0))")


async def lock(session: AsyncSession, tenant_id: UUID) -> None:
    """Keep all others of the tenant from giving places until the transaction ends."""
    await session.execute(_LOCK, {"tenant_id": str(tenant_id)})


async def admit(session: AsyncSession, tenant_id: UUID, places: int) -> Sequence[Turn]:
    """Give the free places to those who have waited longest.

    Args:
        places: How many the tenant has in all.

    Returns:
        The turns to start once the transaction has been committed, oldest first.
    """
    await lock(session, tenant_id)
    held, ahead, waits = aliased(Turn), aliased(Turn), aliased(Turn)
    taken = (
        select(func.count())
        .select_from(held)
        .where(
            held.tenant_id == tenant_id,
            held.admitted_at.is_not(None),
            held.status.in_(HOLDING),
        )
        .scalar_subquery()
    )
    waiting = (
        select(waits.id)
        .where(
            waits.tenant_id == tenant_id,
            waits.admitted_at.is_(None),
            waits.status.in_(OPEN_TURN_STATUSES),
            ~exists().where(
                ahead.conversation_id == waits.conversation_id,
                ahead.number < waits.number,
                ahead.status.in_(OPEN_TURN_STATUSES),
            ),
        )
        .order_by(waits.created_at, waits.id)
        .limit(func.greatest(0, func.least(MOST_AT_ONCE, places - taken)))
    )
    admitted = await session.scalars(
        update(Turn)
        .where(Turn.id.in_(waiting))
        .values(admitted_at=func.clock_timestamp())
        .returning(Turn)
        .execution_options(synchronize_session=False, populate_existing=True)
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
