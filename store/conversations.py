"""Conversations of a project: listed newest first with their live turn, created, deleted."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, rooms
from store.access import Role
from store.database import clock
from store.errors import Invalid, NotFound
from store.principal import Principal
from store.shapes import ConversationShape, LiveShape
from store.tables import Conversation, Turn
from workflows.events import ConversationChanged, ConversationCreated, ConversationDeleted
from workflows.types import OPEN_TURN_STATUSES


async def get(
    session: AsyncSession,
    principal: Principal,
    conversation_id: UUID,
    needed: Role = Role.VIEWER,
    *,
    lock: bool = False,
) -> Conversation:
    """A conversation in which the principal has a role.

    Raises:
        NotFound: There is none that he may see.
        Forbidden: His role is too small.
    """
    # Not the key: see `store.turns.lock_conversation`.
    locked = {"key_share": True} if lock else None
    row = await session.get(Conversation, conversation_id, with_for_update=locked)
    if row is None:
        raise NotFound
    await access.require(session, principal, row.project_id, needed)
    return row


async def live_of(session: AsyncSession, conversation_ids: Sequence[UUID]) -> dict[UUID, LiveShape]:
    """The first open turn of each of some conversations."""
    rows = await session.scalars(
        select(Turn)
        .where(Turn.conversation_id.in_(conversation_ids), Turn.status.in_(OPEN_TURN_STATUSES))
        .order_by(Turn.number.desc())
    )
    return {row.conversation_id: LiveShape(turn_id=row.id, status=row.status) for row in rows}


async def page(
    session: AsyncSession, project_id: UUID, *, before: UUID | None, limit: int
) -> tuple[list[ConversationShape], UUID | None]:
    """Conversations by their last change, newest first.

    Returns:
        The page and the cursor of the next, None at the end.

    Raises:
        Invalid: `before` is not a conversation of the project.
    """
    query = select(Conversation).where(Conversation.project_id == project_id)
    if before is not None:
        place = await session.get(Conversation, before)
        if place is None or place.project_id != project_id:
            raise Invalid("`cursor` is not a conversation of this project.")
        query = query.where(
            tuple_(Conversation.updated_at, Conversation.id) < tuple_(place.updated_at, place.id)
        )
    rows = (
        await session.scalars(
            query.order_by(Conversation.updated_at.desc(), Conversation.id.desc()).limit(limit + 1)
        )
    ).all()
    more, rows = len(rows) > limit, rows[:limit]
    live = await live_of(session, [row.id for row in rows])
    shapes = [ConversationShape.of(row, live.get(row.id)) for row in rows]
    return shapes, shapes[-1].id if more else None


async def create(
    session: AsyncSession, principal: Principal, project_id: UUID, title: str
) -> ConversationShape:
    """Begin a conversation and tell the room.

    Raises:
        NotFound: No such project for the principal.
        Forbidden: A viewer.
    """
    await access.require(session, principal, project_id, Role.EDITOR)
    now = await clock(session)
    row = Conversation(
        id=uuid4(),
        tenant_id=principal.tenant_id,
        project_id=project_id,
        user_id=principal.user_id,
        title=title,
        turn_count=0,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await session.flush()
    shape = ConversationShape.of(row)
    await rooms.append(session, project_id, [ConversationCreated(shape.wire())])
    return shape


async def rename(
    session: AsyncSession, principal: Principal, conversation_id: UUID, title: str
) -> ConversationShape:
    """Give a conversation another title.

    Raises:
        NotFound: No such conversation for the principal.
        Forbidden: A viewer.
    """
    row = await get(session, principal, conversation_id, Role.EDITOR, lock=True)
    row.title = title
    row.updated_at = await clock(session)
    await session.flush()
    shape = await shape_of(session, row)
    await rooms.append(session, row.project_id, [ConversationChanged(shape.wire())])
    return shape


async def shape_of(session: AsyncSession, row: Conversation) -> ConversationShape:
    """A conversation's shape with its live turn."""
    return ConversationShape.of(row, (await live_of(session, [row.id])).get(row.id))


async def delete(
    session: AsyncSession, principal: Principal, conversation_id: UUID
) -> Sequence[UUID]:
    """Delete a conversation with all its messages. Its author or an owner may.

    Returns:
        Turns that were open: their workflows are to be cancelled.

    Raises:
        NotFound: No such conversation for the principal.
        Forbidden: Somebody else's, for an editor.
    """
    row = await get(session, principal, conversation_id, Role.EDITOR, lock=True)
    if row.user_id != principal.user_id:
        await access.require(session, principal, row.project_id, Role.OWNER)
    # Locked: a step that begins holds its turn and adds a message to the conversation.
    open_turns = (
        await session.scalars(
            select(Turn.id)
            .where(Turn.conversation_id == row.id, Turn.status.in_(OPEN_TURN_STATUSES))
            .with_for_update()
        )
    ).all()
    shape = ConversationShape.of(row)
    await session.delete(row)
    await session.flush()
    await rooms.append(session, shape.project_id, [ConversationDeleted(shape.wire())])
    return open_turns
