"""Turns: accepted, begun, stopped, finished. Each function is one part of one transaction.

Lock order is conversation, turn, message, tool execution, the tenant's admission, turns that wait
for a place (`store.admission`), room: every writer takes them in this order, so two of them never
wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, admission, rooms, steering, waiting
from store.access import Role
from store.asking import Asking, asking
from store.database import clock
from store.errors import Busy, Conflict, NotFound
from store.limits import TenantLimits
from store.messages import settle_streaming
from store.on_busy import choose_on_busy
from store.principal import Principal
from store.shapes import ConversationShape, LiveShape, MessageShape
from store.tables import Conversation, Message, Tenant, Turn, User
from store.texts import cut
from store.tool_executions import settle_open
from workflows.events import ConversationChanged, MessageCreated, RoomEvent, TurnStatusChanged
from workflows.types import OPEN_TURN_STATUSES, TurnCode, TurnRef, TurnStatus

DEFAULT_TITLE = "New conversation"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a user message.

    Attributes:
        turn_id: The turn that answers it: its own, or the one it joined.
        status: The turn's status as stored.
        duplicate: The same `client_message_id` had been accepted before.
        start: Turns to start now: this one, unless it waits, was started before or joined another.
        interrupted: Running turns that were asked to stop in this one's favour.
    """

    message_id: UUID
    turn_id: UUID
    conversation_id: UUID
    status: str
    duplicate: bool
    start: Sequence[TurnRef] = ()
    interrupted: Sequence[UUID] = ()


async def lock_conversation(session: AsyncSession, conversation_id: UUID) -> Conversation:
    """The conversation's row, locked until the transaction ends.

    Raises:
        NotFound: There is none in this tenant.
    """
    row = await session.scalar(
        select(Conversation)
        .where(Conversation.id == conversation_id)
        # Not the key: whoever holds a turn's lock may add messages to the conversation meanwhile.
        .with_for_update(key_share=True)
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
        on_busy: What to do while another turn of the conversation is open (`store.on_busy`); None
            leaves it to the project's settings.

    Raises:
        NotFound: No such conversation in a project of the principal.
        Forbidden: A viewer, or a choice that is not the sender's to make.
        Conflict: The same `client_message_id` came with other content.
        Busy: The choice is ``reject`` and a turn is open.
        RateLimited: Too many messages in the last minute.
    """
    conversation = await lock_conversation(session, conversation_id)
    if project_id is not None and project_id != conversation.project_id:
        raise NotFound
    facts = await asking(session, principal, conversation)
    role = access.check(facts.role, Role.EDITOR)
    if client_message_id is not None:
        earlier = await _earlier(session, conversation_id, client_message_id, principal, content)
        if earlier is not None:
            return earlier
    settings = facts.settings
    on_busy = choose_on_busy(on_busy, role, settings.on_busy, settings.on_busy_by_role)
    facts.check_rate()
    open_turns = await _open_turns(session, conversation_id) if facts.busy else []
    if open_turns and on_busy == "reject":
        raise Busy("A turn is running here. Wait for it, stop it, or send to queue behind it.")
    conversation.updated_at = facts.now
    message = Message(
        id=uuid4(),
        tenant_id=principal.tenant_id,
        conversation_id=conversation_id,
        role="user",
        user_id=principal.user_id,
        client_message_id=client_message_id,
        content=content,
        status="complete",
        epoch=0,
        tool_calls=[],
        extra={},
        created_at=facts.now,
    )
    if open_turns and on_busy == "steer":
        turn = await steering.join(session, open_turns[0].id, message, facts.limits)
        if turn is not None:
            await rooms.append(session, turn.project_id, [_created(message, principal)])
            # It may have been admitted a moment ago; a second start changes nothing.
            starts = turn.admitted_at is not None and turn.status == TurnStatus.QUEUED
            return Accepted(
                message_id=message.id,
                turn_id=turn.id,
                conversation_id=conversation_id,
                status=turn.status,
                duplicate=False,
                start=[_ref(turn, facts.limits)] if starts else (),
            )
    interrupt = open_turns if on_busy == "interrupt" else ()
    waits = bool(open_turns) and not interrupt
    return await _begin_turn(session, principal, conversation, message, facts, interrupt, waits)


async def _begin_turn(
    session: AsyncSession,
    principal: Principal,
    conversation: Conversation,
    message: Message,
    facts: Asking,
    interrupt: Sequence[Turn],
    waits: bool,
) -> Accepted:
    """A turn of its own for a message: in the place of those it interrupts, or behind the rest."""
    conversation.turn_count += 1
    turn = Turn(
        id=uuid4(),
        tenant_id=principal.tenant_id,
        project_id=conversation.project_id,
        conversation_id=conversation.id,
        message_id=message.id,
        number=conversation.turn_count,
        status=TurnStatus.QUEUED,
        asked_by=principal.user_id,
        created_at=facts.now,
    )
    message.turn_id, message.turn_number, message.position = turn.id, turn.number, 0
    session.add(turn)
    events: list[RoomEvent] = []
    if turn.number == 1 and conversation.title == DEFAULT_TITLE:
        conversation.title = cut(" ".join(message.content.split()), 60) or DEFAULT_TITLE
        live = LiveShape(turn_id=turn.id, status=TurnStatus.QUEUED)
        events.append(ConversationChanged(ConversationShape.of(conversation, live).wire()))
    interrupted: list[UUID] = []
    if interrupt:
        interrupted = await _interrupt(session, interrupt, principal.user_id, facts.now, events)
    await session.flush()
    session.add(message)
    await session.flush()
    admitted: Sequence[TurnRef] = ()
    if not waits and not interrupted:
        admitted = await _admit(session, principal.tenant_id, facts.limits)
    events += [_created(message, principal), _status_event(turn)]
    await rooms.append(session, conversation.project_id, events)
    return Accepted(
        message_id=message.id,
        turn_id=turn.id,
        conversation_id=conversation.id,
        status=TurnStatus.QUEUED,
        duplicate=False,
        start=admitted,
        interrupted=interrupted,
    )


def _created(message: Message, principal: Principal) -> MessageCreated:
    shape = MessageShape.of(message, principal.name).wire()
    return MessageCreated(shape, message.client_message_id)


async def _interrupt(
    session: AsyncSession,
    open_turns: Sequence[Turn],
    user_id: UUID,
    now: datetime,
    events: list[RoomEvent],
) -> list[UUID]:
    """Stop all open turns of a conversation; those that wait end at once.

    Returns:
        The turns whose runs are to be cancelled.
    """
    if any(turn.admitted_at is None for turn in open_turns):
        await admission.lock(session, open_turns[0].tenant_id)
    running = []
    for turn in open_turns:
        await session.refresh(turn, with_for_update=True)
        if turn.status not in OPEN_TURN_STATUSES:
            continue
        _request_stop(turn, user_id, now)
        if turn.admitted_at is None:
            events += await _settle(session, turn, TurnStatus.CANCELLED, TurnCode.STOPPED, None)
        else:
            running.append(turn.id)
    return running


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


async def _open_turns(session: AsyncSession, conversation_id: UUID) -> Sequence[Turn]:
    return (
        await session.scalars(
            select(Turn)
            .where(Turn.conversation_id == conversation_id, Turn.status.in_(OPEN_TURN_STATUSES))
            .order_by(Turn.number)
        )
    ).all()


def _ref(turn: Turn, limits: TenantLimits, wait_seconds: float = 0.0) -> TurnRef:
    return TurnRef(
        tenant_id=str(turn.tenant_id),
        project_id=str(turn.project_id),
        conversation_id=str(turn.conversation_id),
        turn_id=str(turn.id),
        max_steps=limits.steps_per_turn,
        timeout_seconds=limits.turn_seconds,
        wait_seconds=wait_seconds,
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
        start: Turns that may run now because this one waits no longer.
    """

    turn: Turn
    cancel: bool
    start: Sequence[TurnRef] = ()


async def request_stop(session: AsyncSession, principal: Principal, turn_id: UUID) -> StopRequested:
    """Put a stop on record. A turn that waits, for another or for a place, ends here and now.

    Raises:
        NotFound: No such turn in a project of the principal.
        Forbidden: A viewer.
    """
    found = await session.get(Turn, turn_id)
    if found is None:
        raise NotFound
    await access.require(session, principal, found.project_id, Role.EDITOR)
    turn = await _lock(session, found)
    if turn.status not in OPEN_TURN_STATUSES:
        return StopRequested(turn, cancel=False)
    _request_stop(turn, principal.user_id, await clock(session))
    if turn.admitted_at is not None:
        await session.flush()
        return StopRequested(turn, cancel=True)
    events = await _settle(session, turn, TurnStatus.CANCELLED, TurnCode.STOPPED, None)
    admitted = await admit(session, turn.tenant_id)
    await rooms.append(session, turn.project_id, events)
    return StopRequested(turn, cancel=False, start=admitted)


async def _lock(session: AsyncSession, turn: Turn) -> Turn:
    """The turn with all that its ending touches, locked in their order."""
    await lock_conversation(session, turn.conversation_id)
    if turn.admitted_at is None:
        await admission.lock(session, turn.tenant_id)
    return await session.get_one(Turn, turn.id, with_for_update=True, populate_existing=True)


async def finish(
    session: AsyncSession, turn_id: UUID, status: TurnStatus, code: str, detail: str | None = None
) -> list[TurnRef]:
    """Bring a turn to its terminal state, settle what it left open, and name its successors.

    Safe to repeat: a turn that is terminal stays as it is.

    Returns:
        The queued turns that may run now, of whatever conversation; seldom more than one.
    """
    found = await session.get(Turn, turn_id)
    if found is None:
        return []
    turn = await _lock(session, found)
    if turn.status not in OPEN_TURN_STATUSES:
        # Whoever was told of the successors may have died with the answer.
        limits = await _limits(session)
        await _admit(session, turn.tenant_id, limits)
        return [_ref(each, limits) for each in await admission.not_begun(session, turn.tenant_id)]
    events = await _settle(session, turn, status, code, detail)
    admitted = await admit(session, turn.tenant_id)
    await rooms.append(session, turn.project_id, events)
    return admitted


async def admit(session: AsyncSession, tenant_id: UUID) -> list[TurnRef]:
    """Give out the tenant's free places: after a deletion, or where somebody could not."""
    return await _admit(session, tenant_id, await _limits(session))


async def _admit(session: AsyncSession, tenant_id: UUID, limits: TenantLimits) -> list[TurnRef]:
    admitted = await admission.admit(session, tenant_id, limits)
    return [_ref(each.turn, limits, each.wait_seconds) for each in admitted]


async def _limits(session: AsyncSession) -> TenantLimits:
    return TenantLimits.of(await session.scalar(select(Tenant.limits)) or {})


async def _settle(
    session: AsyncSession, turn: Turn, status: TurnStatus, code: str, detail: str | None
) -> list[RoomEvent]:
    """End a turn and what it left open; the events that say so are the caller's to append."""
    events: list[RoomEvent] = []
    message_status = "stopped" if status is TurnStatus.CANCELLED else "failed"
    events += await settle_open(session, turn)
    events += await settle_streaming(session, turn, message_status)
    await waiting.close(session, turn)
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
    return [*events, _status_event(turn)]


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
    return _ref(turn, await _limits(session))


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
