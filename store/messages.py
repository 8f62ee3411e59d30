"""Messages: pages for readers, drafts of what streams, and the settling of what was left open."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store.errors import Invalid
from store.shapes import MessageShape, TemporalLinks, ToolExecutionShape
from store.tables import Draft, Message, ToolExecution, Turn, User
from workflows.events import AssistantDone, RoomEvent

FINISH_REASONS = {"stopped": "cancelled", "failed": "error"}


def sha256(text: str) -> str:
    """Hex SHA-256 of a text's UTF-8, as clients compute it."""
    return hashlib.sha256(text.encode()).hexdigest()


def done_event(message: Message, usage: dict[str, object] | None = None) -> AssistantDone:
    """The event that settles an assistant message."""
    assert message.turn_id is not None  # noqa: S101 -- assistant messages always have a turn
    return AssistantDone(
        conversation_id=message.conversation_id,
        turn_id=message.turn_id,
        message_id=message.id,
        epoch=message.epoch,
        offset=len(message.content),
        length=len(message.content),
        sha256=sha256(message.content),
        status=message.status,
        finish_reason=str(message.extra.get("finish_reason", "")),
        usage=usage or {},
        created_at=message.created_at,
    )


async def save_draft(
    session: AsyncSession,
    message: Message,
    content: str,
    *,
    generation: str | None = None,
    cursor: int | None = None,
) -> None:
    """Checkpoint a streaming text; an older attempt never overwrites a newer one.

    Args:
        generation: Under which name the model's server can go on with it.
        cursor: The last event of that generation which `content` covers.
    """
    kept = {
        "epoch": message.epoch,
        "content": content,
        "generation": generation,
        "cursor": cursor,
    }
    statement = insert(Draft).values(message_id=message.id, tenant_id=message.tenant_id, **kept)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[Draft.message_id],
            set_={name: statement.excluded[name] for name in kept},
            where=Draft.epoch <= statement.excluded.epoch,
        )
    )


async def drop_draft(session: AsyncSession, message_id: UUID) -> None:
    """Remove a message's checkpoint."""
    await session.execute(delete(Draft).where(Draft.message_id == message_id))


async def settle_streaming(session: AsyncSession, turn: Turn, status: str) -> list[RoomEvent]:
    """End every message of the turn that still streams, with what its last checkpoint holds."""
    streaming = (
        await session.scalars(
            select(Message)
            .where(Message.turn_id == turn.id, Message.status == "streaming")
            .order_by(Message.position)
            .with_for_update()
        )
    ).all()
    events: list[RoomEvent] = []
    for message in streaming:
        draft = await session.get(Draft, message.id)
        if draft is not None and draft.epoch == message.epoch:
            message.content = draft.content
        message.status = status
        message.generation = None
        message.extra = {**message.extra, "finish_reason": FINISH_REASONS[status]}
        await drop_draft(session, message.id)
        events.append(done_event(message))
    return events


@dataclass(frozen=True, slots=True)
class LiveMessage:
    """A message that streams, as its last checkpoint has it."""

    message_id: UUID
    turn_id: UUID
    conversation_id: UUID
    epoch: int
    content: str


async def streaming_in(session: AsyncSession, turn_ids: Sequence[UUID]) -> list[LiveMessage]:
    """Streaming messages of some turns; the text is empty where no checkpoint has been made."""
    rows = await session.execute(
        select(Message, func.coalesce(Draft.content, ""))
        .outerjoin(Draft, (Draft.message_id == Message.id) & (Draft.epoch == Message.epoch))
        .where(Message.turn_id.in_(turn_ids), Message.status == "streaming")
    )
    return [
        LiveMessage(
            message.id,
            message.turn_id,
            message.conversation_id,
            message.epoch,
            content,
        )
        for message, content in rows
        if message.turn_id is not None
    ]


async def still_streaming(session: AsyncSession, message_ids: Sequence[UUID]) -> set[UUID]:
    """Which of some messages have not reached their final text."""
    return set(
        await session.scalars(
            select(Message.id).where(Message.id.in_(message_ids), Message.status == "streaming")
        )
    )


async def page(
    session: AsyncSession,
    conversation_id: UUID,
    links: TemporalLinks,
    *,
    before: UUID | None,
    limit: int,
) -> tuple[list[MessageShape], UUID | None]:
    """The newest `limit` messages, or those before one of them, oldest first.

    Returns:
        The messages and the cursor of the page before, None at the beginning.

    Raises:
        Invalid: `before` is not a message of the conversation.
    """
    query = (
        select(Message, User.name, Draft.content)
        .outerjoin(User, User.id == Message.user_id)
        .outerjoin(
            Draft,
            (Draft.message_id == Message.id)
            & (Draft.epoch == Message.epoch)
            & (Message.status == "streaming"),
        )
        .where(Message.conversation_id == conversation_id)
    )
    if before is not None:
        place = (
            await session.execute(
                select(Message.turn_number, Message.position).where(
                    Message.id == before, Message.conversation_id == conversation_id
                )
            )
        ).one_or_none()
        if place is None:
            raise Invalid("`before` is not a message of this conversation.")
        query = query.where(
            tuple_(Message.turn_number, Message.position)
            < tuple_(place.turn_number, place.position)
        )
    rows = (
        await session.execute(
            query.order_by(Message.turn_number.desc(), Message.position.desc()).limit(limit + 1)
        )
    ).all()
    more, rows = len(rows) > limit, rows[:limit]
    executions = await executions_of(session, [row[0].id for row in rows], links)
    shapes = [
        MessageShape.of(message, name, executions[message.id], draft)
        for message, name, draft in reversed(rows)
    ]
    return shapes, shapes[0].id if more else None


async def executions_of(
    session: AsyncSession, message_ids: Sequence[UUID], links: TemporalLinks
) -> defaultdict[UUID, list[ToolExecutionShape]]:
    """Tool executions of some messages, in the order of their calls, with bounded previews."""
    found: defaultdict[UUID, list[ToolExecutionShape]] = defaultdict(list)
    if message_ids:
        rows = await session.scalars(
            select(ToolExecution)
            .where(ToolExecution.message_id.in_(message_ids))
            .order_by(ToolExecution.position)
        )
        for row in rows:
            found[row.message_id].append(ToolExecutionShape.of(row, links))
    return found


async def next_position(session: AsyncSession, turn_id: UUID) -> int:
    """The place of a turn's next message; it stays free while the turn's row is locked."""
    last = await session.scalar(
        select(func.max(Message.position)).where(Message.turn_id == turn_id)
    )
    return 0 if last is None else last + 1
