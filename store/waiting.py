"""Whether a turn waits for people, derived from its calls; one rule for whoever changes a call.

A turn is ``awaiting_approval`` while at least one of its calls waits for people and none of the
others is about to run or runs; otherwise it is ``running``. Its time stands still from the first
open question to the last, whatever runs beside it: so does the run's own clock.

Who changes a call with the turn's row locked reviews the turn in the same transaction. The worker
that ends a call does so in the next one, for which two workers need not lock one row for each
other; housekeeping finds what was left out.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from store import rooms
from store.database import clock
from store.tables import ToolExecution, Turn
from workflows.events import TurnStatusChanged
from workflows.types import OPEN_TOOL_STATUSES, ToolStatus, TurnStatus


async def anybody_is_asked(session: AsyncSession, turn_id: UUID) -> bool:
    """Whether a call of the turn waits for people."""
    return bool(
        await session.scalar(
            select(
                exists().where(
                    ToolExecution.turn_id == turn_id,
                    ToolExecution.execution_status == ToolStatus.AWAITING_APPROVAL,
                )
            )
        )
    )


async def review(session: AsyncSession, turn: Turn) -> list[TurnStatusChanged]:
    """Make a turn say what its calls do; call with its row locked and its calls flushed.

    Returns:
        What the room is to be told; the caller appends it.
    """
    if turn.status not in (TurnStatus.RUNNING, TurnStatus.AWAITING_APPROVAL):
        return []
    statuses = set(
        await session.scalars(
            select(ToolExecution.execution_status)
            .where(
                ToolExecution.turn_id == turn.id,
                ToolExecution.execution_status.in_(OPEN_TOOL_STATUSES),
            )
            .distinct()
        )
    )
    waits = ToolStatus.AWAITING_APPROVAL in statuses
    if waits and turn.waiting_since is None:
        turn.waiting_since = await clock(session)
    elif not waits:
        await close(session, turn)
    runs = statuses & {ToolStatus.PENDING, ToolStatus.EXECUTING}
    status = TurnStatus.AWAITING_APPROVAL if waits and not runs else TurnStatus.RUNNING
    changed = turn.status != status
    turn.status = status
    await session.flush()
    return [_event(turn)] if changed else []


async def close(session: AsyncSession, turn: Turn) -> None:
    """Nobody is waited for any more: add up for how long people were."""
    if turn.waiting_since is not None:
        waited = await clock(session) - turn.waiting_since
        turn.waited_seconds += waited.total_seconds()
        turn.waiting_since = None


async def review_now(session: AsyncSession, turn_id: UUID) -> Turn | None:
    """`review` in a transaction of its own; the turn, if it waits for people now."""
    turn = await session.get(Turn, turn_id, with_for_update=True, populate_existing=True)
    if turn is None:
        return None
    events: Sequence[TurnStatusChanged] = await review(session, turn)
    if events:
        await rooms.append(session, turn.project_id, events)
    return turn if turn.status == TurnStatus.AWAITING_APPROVAL else None


def _event(turn: Turn) -> TurnStatusChanged:
    return TurnStatusChanged(
        turn_id=turn.id,
        conversation_id=turn.conversation_id,
        message_id=turn.message_id,
        status=turn.status,
    )
