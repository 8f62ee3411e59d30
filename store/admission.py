"""Places: at most `concurrent_turns` turns of a tenant run at once; others wait, oldest first.

One rule. A turn may run when it holds a place (`turns.admitted_at`). A place is given to a turn
that is the first open one of its conversation, and among those to the one that was accepted first.
It is held until the turn ends; who waits for people (``awaiting_approval``) keeps nobody waiting.

It is exact because all who give places take turns: a lock serialises them per tenant, and the
statement that counts starts after the lock is held, so it sees every place given before. Both are
in the function ``admit_turns``, to hold the lock for no longer than the end of the transaction
takes. Whoever ends a turn, or makes one the first of its conversation, gives out what is free in
the same transaction; what nobody did (a worker died, a limit was raised) housekeeping does.

A place that is given while other tenants are at work comes with a moment: its turns begin at a
pace (`shared_turns_per_second`), because it is beginning and ending that costs, and a burst of both
would fill the machine. The place is held from now on, `admitted_at` is the moment, and the turn's
run waits for it by itself; nobody has to remember it.

In the order of locks (`store.turns`) admission comes after the rows of turns that hold a place and
before those of turns that wait: who changes a waiting turn takes `lock` first. `admit` comes
before the events are appended, so nobody waits for a turn's row with a room locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from store.limits import TenantLimits
from store.tables import Turn
from workflows.types import TurnStatus

# A raised limit may free many places at once; who finds them starts so many, housekeeping the rest.
MOST_AT_ONCE = 10
# Another tenant is at work when it has asked within the last minute.
AT_WORK_SECONDS = 60.0
# So many turns begin together before the pace holds: a few people who ask in the same moment.
TOGETHER = 3

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('admission ' || :tenant_id, 0))")
_ADMIT = text(
    "SELECT * FROM admit_turns(:tenant_id, :places, :at_most, :pace, :at_once,"
    " make_interval(secs => :within))"
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A turn that may run, and how many seconds its run is to wait before it begins."""

    turn: Turn
    wait_seconds: float


async def lock(session: AsyncSession, tenant_id: UUID) -> None:
    """Keep all others of the tenant from giving places until the transaction ends.

    Only for whoever changes turns that wait; `admit` takes it by itself.
    """
    await session.execute(_LOCK, {"tenant_id": str(tenant_id)})


async def admit(session: AsyncSession, tenant_id: UUID, limits: TenantLimits) -> Sequence[Admitted]:
    """Give the free places to those who have waited longest.

    Returns:
        The turns to start once the transaction has been committed, oldest first.
    """
    given = {
        "tenant_id": tenant_id,
        "places": limits.concurrent_turns,
        "at_most": MOST_AT_ONCE,
        "pace": limits.shared_turns_per_second,
        "at_once": TOGETHER,
        "within": AT_WORK_SECONDS,
    }
    waits = {row.turn_id: row.wait_seconds for row in await session.execute(_ADMIT, given)}
    if not waits:
        return []
    turns = await session.scalars(
        select(Turn)
        .where(Turn.id.in_(waits))
        .order_by(Turn.created_at, Turn.id)
        .execution_options(populate_existing=True)
    )
    return [Admitted(turn, waits[turn.id]) for turn in turns]


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
