"""The conversation as a model call is shown it: its newest part, turns whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import Message, ToolExecution, Turn, User
from store.tool_executions import of_messages

# A prompt is built from at most this much of the conversation's end, cut between turns.
MAX_HISTORY_MESSAGES = 400
MAX_HISTORY_CHARS = 400_000


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """A message as the prompt builder needs it, with the executions of its calls."""

    message: Message
    executions: Sequence[ToolExecution]
    author: str = ""


async def before(session: AsyncSession, turn: Turn, now: Message) -> list[HistoryMessage]:
    """What a model call that writes `now` is shown, oldest first."""
    newest_first = (
        select(Message, User.name)
        .outerjoin(User, User.id == Message.user_id)
        .where(
            Message.conversation_id == turn.conversation_id,
            # A call sees what stands before its message, however often it is made.
            tuple_(Message.turn_number, Message.position) < tuple_(turn.number, now.position),
        )
        .order_by(Message.turn_number.desc(), Message.position.desc())
    )
    found = list((await session.execute(newest_first.limit(MAX_HISTORY_MESSAGES))).all())
    oldest: Message | None = found[-1][0] if len(found) == MAX_HISTORY_MESSAGES else None
    if oldest is not None and oldest.turn_id == turn.id:
        # So long a turn loses its oldest steps, never what it was asked.
        asked = newest_first.where(
            Message.turn_id == turn.id,
            Message.role == "user",
            Message.position < oldest.position,
        )
        found += (await session.execute(asked)).all()
    rows = [row for row, _ in found]
    names = {row.id: name or "" for row, name in found}
    kept: list[Message] = []
    size, cut_at = 0, -1
    for row in rows:
        size += len(row.content)
        if row.turn_number != turn.number and size > MAX_HISTORY_CHARS:
            cut_at = row.turn_number
            break
        kept.append(row)
    if len(rows) == MAX_HISTORY_MESSAGES and rows[-1].turn_number != turn.number:
        cut_at = max(cut_at, rows[-1].turn_number)
    # A turn is kept whole or not at all, so that no call stands without its result.
    kept = [row for row in kept if row.turn_number > cut_at]
    executions: dict[UUID, list[ToolExecution]] = {}
    with_calls = [row.id for row in kept if row.tool_calls]
    for execution in await of_messages(session, with_calls):
        executions.setdefault(execution.message_id, []).append(execution)
    return [
        HistoryMessage(row, executions.get(row.id, ()), names[row.id]) for row in reversed(kept)
    ]
