"""Turns: accepted, begun, stopped, finished. Each function is one part of one transaction.

Lock order is conversation, turn, message, tool execution, room: every writer takes them in this
order, so two of them never wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import exists, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, rooms
from store.access import Role
from store.database import clock
from store.errors import Busy, Conflict, NotFound, RateLimited
from store.limits import TenantLimits
from store.messages import settle_streaming
from store.principal import Principal
from store.shapes import ConversationShape, LiveShape, MessageShape
from store.tables import Conversation, Message, Project, Tenant, Turn, User
from store.texts import cut
from store.tool_executions import settle_open
from workflows.events import ConversationChanged, MessageCreated, RoomEvent, TurnStatusChanged
from workflows.types import OPEN_TURN_STATUSES, TurnCode, TurnRef, TurnStatus

DEFAULT_TITLE = "New conversation"
MESSAGES_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a user message.

    Attributes:
        status: The turn's status as stored.
        duplicate: The same `client_message_id` had been accepted before.
        start: The turn to start now; None when it waits behind another, or was started before.
        interrupted: Open turns that were asked to stop in this one's favour.
    """

    message_id: UUID
    turn_id: UUID
    conversation_id: UUID
    status: str
    duplicate: bool
    start: TurnRef | None = None
    interrupted: Sequence[UUID] = ()


async def lock_conversation(session: AsyncSession, conversation_id: UUID) -> Conversation:
    """The conversation's row, locked until the transaction ends.

    Raises:
        NotFound: There is none in this tenant.
    """
    row = await session.scalar(
        select(Conversation).where(Conversation.id == conversation_id).with_for_update()
    )
    if row is None:
        raise NotFound
    return row


async def accept(
    session: AsyncSession,
    principal: Principal,
    conversation_id: UUID,
    content: str,
    client_message_id: str | None,
    *,
    project_id: UUID | None = None,
    on_busy: str | None = None,
) -> Accepted:
    """Store a user message and its turn; the same `client_message_id` changes nothing twice.

    Args:
        project_id: Where the sender believes the conversation is; must be right if given.
        on_busy: What to do while another turn of the conversation is open; None leaves it to
            the project's setting.

    Raises:
        NotFound: No such conversation in a project of the principal.
        Forbidden: A viewer.
        Conflict: The same `client_message_id` came with other content.
        Busy: `on_busy` is ``reject`` and a turn is open.
        RateLimited: Too many messages in the last minute.
    """
    conversation = await lock_conversation(session, conversation_id)
    if project_id is not None and project_id != conversation.project_id:
        raise NotFound
    facts = await _facts(session, principal, conversation)
    access.check(facts.role, Role.EDITOR)
    if client_message_id is not None:
        earlier = await _earlier(session, conversation_id, client_message_id, principal, content)
        if earlier is not None:
            return earlier
    facts.check_rate()
    on_busy = on_busy or facts.on_busy
    open_turns = await _open_turns(session, conversation_id) if facts.busy else []
    if open_turns and on_busy == "reject":
        raise Busy("A turn is running here. Wait for it, stop it, or send to queue behind it.")

    number, now, limits = conversation.turn_count + 1, facts.now, facts.limits
    turn = Turn(
        id=uuid4(),
        tenant_id=principal.tenant_id,
        project_id=conversation.project_id,
        conversation_id=conversation_id,
        message_id=uuid4(),
        number=number,
        status=TurnStatus.QUEUED,
        asked_by=principal.user_id,
        created_at=now,
    )
    message = Message(
        id=turn.message_id,
        tenant_id=principal.tenant_id,
        conversation_id=conversation_id,
        turn_id=turn.id,
        turn_number=number,
        position=0,
        role="user",
        user_id=principal.user_id,
        client_message_id=client_message_id,
        content=content,
        status="complete",
        epoch=0,
        tool_calls=[],
        extra={},
        created_at=now,
    )
    session.add(turn)
    conversation.turn_count = number
    conversation.updated_at = now
    events: list[RoomEvent] = []
    if number == 1 and conversation.title == DEFAULT_TITLE:
        conversation.title = cut(" ".join(content.split()), 60) or DEFAULT_TITLE
        shape = ConversationShape.of(
            conversation, LiveShape(turn_id=turn.id, status=TurnStatus.QUEUED)
        )
        events.append(ConversationChanged(shape.wire()))
    interrupted = open_turns if on_busy == "interrupt" else ()
    for running in interrupted:
        _request_stop(running, principal.user_id, now)
    await session.flush()
    session.add(message)
    await session.flush()
    events += [
        MessageCreated(MessageShape.of(message, principal.name).wire(), client_message_id),
        _status_event(turn),
    ]
    await rooms.append(session, conversation.project_id, events)
    return Accepted(
        message_id=message.id,
        turn_id=turn.id,
        conversation_id=conversation_id,
        status=TurnStatus.QUEUED,
        duplicate=False,
        start=None if open_turns else _ref(turn, limits),
        interrupted=[running.id for running in interrupted],
    )


async def _earlier(
    session: AsyncSession,
    conversation_id: UUID,
    client_message_id: str,
    principal: Principal,
    content: str,
) -> Accepted | None:
    row = (
        await session.execute(
            select(Message.id, Message.content, Message.user_id, Turn.id, Turn.status)
            .join(Turn, Turn.id == Message.turn_id)
            .where(
                Message.conversation_id == conversation_id,
                Message.client_message_id == client_message_id,
            )
        )
    ).one_or_none()
    if row is None:
        return None
    message_id, stored, author, turn_id, status = row
    if stored != content or author != principal.user_id:
        raise Conflict(
            "This client_message_id was used for another message; give every message its own."
        )
    return Accepted(message_id, turn_id, conversation_id, status, duplicate=True)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What accepting depends on, read in one query under the conversation's lock."""

    role: Role | None
    limits: TenantLimits
    on_busy: str | None
    busy: bool
    recent: int
    oldest_seconds: float
    now: datetime

    def check_rate(self) -> None:
        if self.recent >= self.limits.messages_per_minute:
            wait = max(1.0, MESSAGES_WINDOW_SECONDS - self.oldest_seconds)
            raise RateLimited(
                f"At most {self.limits.messages_per_minute} messages a minute; wait {wait:.0f} s.",
                retry_after=wait,
            )


async def _facts(session: AsyncSession, principal: Principal, conversation: Conversation) -> _Facts:
    window = func.now() - timedelta(seconds=MESSAGES_WINDOW_SECONDS)
    recent = (
        select(
            func.count().label("count"),
            func.extract("epoch", func.now() - func.min(Message.created_at)).label("oldest"),
        )
        .where(Message.user_id == principal.user_id, Message.created_at > window)
        .subquery()
    )
    busy = exists().where(
        Turn.conversation_id == conversation.id, Turn.status.in_(OPEN_TURN_STATUSES)
    )
    row = (
        await session.execute(
            select(
                Tenant.limits,
                Project.settings["on_busy"].astext.label("on_busy"),
                access.role_column(principal.user_id, conversation.project_id).label("role"),
                busy.label("busy"),
                recent.c.count.label("recent"),
                recent.c.oldest,
                func.clock_timestamp().label("now"),
            )
            .select_from(Project)
            .join(Tenant, Tenant.id == Project.tenant_id)
            .join(recent, true())
            .where(Project.id == conversation.project_id)
        )
    ).one()
    return _Facts(
        role=access.role_named(row.role),
        limits=TenantLimits.of(row.limits),
        on_busy=row.on_busy,
        busy=row.busy,
        recent=row.recent,
        oldest_seconds=float(row.oldest or 0),
        now=row.now,
    )


async def _open_turns(session: AsyncSession, conversation_id: UUID) -> Sequence[Turn]:
    return (
        await session.scalars(
            select(Turn)
            .where(Turn.conversation_id == conversation_id, Turn.status.in_(OPEN_TURN_STATUSES))
            .order_by(Turn.number)
        )
    ).all()


def _ref(turn: Turn, limits: TenantLimits) -> TurnRef:
    return TurnRef(
        tenant_id=str(turn.tenant_id),
        project_id=str(turn.project_id),
        conversation_id=str(turn.conversation_id),
        turn_id=str(turn.id),
        max_steps=limits.steps_per_turn,
        timeout_seconds=limits.turn_seconds,
    )


def _status_event(turn: Turn) -> TurnStatusChanged:
    return TurnStatusChanged(
        turn_id=turn.id,
        conversation_id=turn.conversation_id,
        message_id=turn.message_id,
        status=turn.status,
        code=turn.code,
        detail=turn.detail,
        by=turn.stopped_by,
    )


def _request_stop(turn: Turn, user_id: UUID | None, now: datetime) -> None:
    if turn.stop_requested_at is None:
        turn.stop_requested_at = now
        turn.stopped_by = user_id


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A stop that is on record.

    Attributes:
        cancel: Whether a workflow may be running that must be cancelled.
    """

    turn: Turn
    cancel: bool


async def request_stop(session: AsyncSession, principal: Principal, turn_id: UUID) -> StopRequested:
    """Put a stop on record. A turn that waits behind another ends here and now.

    Raises:
        NotFound: No such turn in a project of the principal.
        Forbidden: A viewer.
    """
    found = await session.get(Turn, turn_id)
    if found is None:
        raise NotFound
    await access.require(session, principal, found.project_id, Role.EDITOR)
    await lock_conversation(session, found.conversation_id)
    turn = await session.get_one(Turn, turn_id, with_for_update=True, populate_existing=True)
    if turn.status not in OPEN_TURN_STATUSES:
        return StopRequested(turn, cancel=False)
    _request_stop(turn, principal.user_id, await clock(session))
    first = await first_open(session, turn.conversation_id)
    if first is not None and first.id != turn.id:
        await _settle(session, turn, TurnStatus.CANCELLED, TurnCode.STOPPED, None)
        return StopRequested(turn, cancel=False)
    await session.flush()
    return StopRequested(turn, cancel=True)


async def first_open(session: AsyncSession, conversation_id: UUID) -> Turn | None:
    """The open turn whose move it is."""
    return await session.scalar(
        select(Turn)
        .where(Turn.conversation_id == conversation_id, Turn.status.in_(OPEN_TURN_STATUSES))
        .order_by(Turn.number)
        .limit(1)
    )


async def finish(
    session: AsyncSession, turn_id: UUID, status: TurnStatus, code: str, detail: str | None = None
) -> TurnRef | None:
    """Bring a turn to its terminal state, settle what it left open, and name its successor.

    Safe to repeat: a turn that is terminal stays as it is.

    Returns:
        The queued turn that may run now, if there is one.
    """
    turn = await session.get(Turn, turn_id)
    if turn is None:
        return None
    await lock_conversation(session, turn.conversation_id)
    turn = await session.get_one(Turn, turn_id, with_for_update=True, populate_existing=True)
    if turn.status in OPEN_TURN_STATUSES:
        await _settle(session, turn, status, code, detail)
    following = await first_open(session, turn.conversation_id)
    if following is None:
        return None
    limits = TenantLimits.of(await session.scalar(select(Tenant.limits)) or {})
    return _ref(following, limits)


async def _settle(
    session: AsyncSession, turn: Turn, status: TurnStatus, code: str, detail: str | None
) -> None:
    events: list[RoomEvent] = []
    message_status = "stopped" if status is TurnStatus.CANCELLED else "failed"
    events += await settle_open(session, turn)
    events += await settle_streaming(session, turn, message_status)
    now = await clock(session)
    turn.status = status
    turn.code = code or None
    turn.detail = detail or (turn.last_error or {}).get("message") if code else None
    turn.finished_at = now
    if status is not TurnStatus.CANCELLED:
        # A stop that came after the end changes nothing and is nobody's.
        turn.stopped_by = None
    await session.execute(
        update(Conversation).where(Conversation.id == turn.conversation_id).values(updated_at=now)
    )
    await session.flush()
    await rooms.append(session, turn.project_id, [*events, _status_event(turn)])


async def get(session: AsyncSession, principal: Principal, turn_id: UUID) -> Turn:
    """A turn the principal may see.

    Raises:
        NotFound: There is none.
    """
    turn = await session.get(Turn, turn_id)
    if turn is None:
        raise NotFound
    await access.require(session, principal, turn.project_id, Role.VIEWER)
    return turn


async def ref_of(session: AsyncSession, turn_id: UUID) -> TurnRef | None:
    """What starts a turn's workflow; None when the turn is gone or terminal."""
    turn = await session.get(Turn, turn_id)
    if turn is None or turn.status not in OPEN_TURN_STATUSES:
        return None
    return _ref(turn, TenantLimits.of(await session.scalar(select(Tenant.limits)) or {}))


async def live_turns(session: AsyncSession, project_id: UUID) -> Sequence[Turn]:
    """Open turns of a project, oldest first."""
    return (
        await session.scalars(
            select(Turn)
            .where(Turn.project_id == project_id, Turn.status.in_(OPEN_TURN_STATUSES))
            .order_by(Turn.created_at)
        )
    ).all()


async def asker_role(session: AsyncSession, turn: Turn) -> Role | None:
    """The role the turn's asker has now in its project; None when he may not be there."""
    asker = await session.get(User, turn.asked_by) if turn.asked_by else None
    if asker is None or not asker.active:
        return None
    principal = Principal(
        turn.tenant_id, asker.id, asker.email, asker.name, asker.role, asker.installation_admin
    )
    return await access.role_in(session, principal, turn.project_id)
