"""Steering: a message that joins the open turn of its conversation instead of waiting behind it.

A model call sees what stands before its own message, and nothing else: not when it is made, nor
when it is made again after a failure. A message that joins stands at the turn's end, so the call
in flight does not see it and the next one does. The order of a prompt, of a page and of what rooms
show is therefore one: `Message.position`. What a room is told of it is ``metadata.after``, the
message right before it, because the text of a call in flight may become known later than it.

Whether a call's text is the turn's answer is decided where it is stored, with the turn's row
locked (`steered_since`); joining takes the same lock. So a message either comes before the decision
and the turn goes on, or it finds the turn answered and does not join it.
"""

from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.limits import TenantLimits
from store.tables import Message, Turn
from workflows.types import OPEN_TURN_STATUSES


async def join(
    session: AsyncSession, turn_id: UUID, message: Message, limits: TenantLimits
) -> Turn | None:
    """Put a user message at the end of an open turn; call with the conversation locked.

    Args:
        turn_id: The first open turn of the conversation.
        message: Not yet in the session; its turn and place are filled in.

    Returns:
        The turn, locked; None when no further model call of it is to come.
    """
    turn = await session.get_one(Turn, turn_id, with_for_update=True, populate_existing=True)
    if (
        turn.status not in OPEN_TURN_STATUSES
        or turn.stop_requested_at is not None
        or turn.steps >= limits.steps_per_turn
    ):
        return None
    last = await session.scalar(
        select(Message).where(Message.turn_id == turn.id).order_by(Message.position.desc()).limit(1)
    )
    if last is None or _ends_its_turn(last):
        return None
    message.turn_id, message.turn_number = turn.id, turn.number
    message.position = last.position + 1
    message.extra = {"after": str(last.id)}
    session.add(message)
    await session.flush()
    return turn


def _ends_its_turn(last: Message) -> bool:
    """Whether a turn whose last message this is has been answered, or broken off."""
    if last.role != "assistant" or last.status == "streaming":
        return False
    return last.status != "complete" or not last.tool_calls


async def steered_since(session: AsyncSession, message: Message) -> bool:
    """Whether messages have joined that the call which wrote `message` has not seen.

    Exact while the turn's row is locked.
    """
    return bool(
        await session.scalar(
            select(
                exists().where(
                    Message.turn_id == message.turn_id,
                    Message.role == "user",
                    Message.position > message.position,
                )
            )
        )
    )
