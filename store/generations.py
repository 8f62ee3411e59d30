"""Answers that a model's server keeps while they are made, so that one cut off can be continued."""

from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import Draft, Message

MAX_NAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class Generation:
    """An answer that was cut off.

    Attributes:
        name: The server's name for it.
        text: Kept of it so far.
        cursor: The last event that `text` covers; None: nothing is kept, read from the beginning.
    """

    name: str
    text: str = ""
    cursor: int | None = None


async def cut_off(session: AsyncSession, message: Message) -> Generation | None:
    """What an earlier attempt at a message has left; None where nothing can be continued."""
    if not message.generation:
        return None
    draft = await session.get(Draft, message.id)
    if draft is None or draft.generation != message.generation or draft.cursor is None:
        # The table is unlogged: after a crash the whole answer is read again, not paid again.
        return Generation(message.generation)
    return Generation(message.generation, draft.content, draft.cursor)


async def remember(session: AsyncSession, message: Message, name: str) -> bool:
    """Note the generation that an attempt at `message` reads.

    Returns:
        Whether the attempt still owns the message.
    """
    if len(name) > MAX_NAME_CHARS:
        name = ""
    owned = await session.scalar(
        update(Message)
        .where(
            Message.id == message.id,
            Message.epoch == message.epoch,
            Message.status == "streaming",
        )
        .values(generation=name or None)
        .returning(Message.id)
    )
    return owned is not None
