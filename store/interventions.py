"""What people do about a tool call: another run of it, or its end. Committed first, then signalled.

The row decides. Whatever an older run still does is not stored: another attempt is in the row, or
the call waits for one. Whoever may stop the turn is not asked; whose call it is, is.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, audit, rooms
from store.access import Role
from store.audit import Actor
from store.database import clock
from store.errors import Conflict, Forbidden, NotFound
from store.principal import Principal
from store.shapes import TemporalLinks
from store.tables import ToolExecution, ToolIntervention, Turn, User
from store.texts import clean
from store.tool_executions import UNKNOWN_TEXT, Outcome, apply, result_event
from workflows.types import OPEN_TOOL_STATUSES, OPEN_TURN_STATUSES, Effect, ToolStatus

DONE = {"retry": "asked for another attempt", "skip": "skipped it", "cancel": "cancelled it"}
RETRY_TWICE_TEXT = (
    "It may have taken effect already, and would then do so twice. Check first; to run it again"
    " all the same, send confirm: true with attempt: {attempt}."
)


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for.

    Attributes:
        action: ``retry``, ``skip`` or ``cancel``.
        attempt: The attempt he has seen; none other is touched.
        confirm: He knows that it may happen twice.
        client_id: The same one changes nothing twice.
    """

    action: str
    note: str | None = None
    attempt: int | None = None
    confirm: bool = False
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Intervened:
    """An intervention that is on record, now or from before."""

    execution: ToolExecution
    intervention: ToolIntervention


async def intervene(
    session: AsyncSession,
    principal: Principal,
    execution_id: UUID,
    request: Request,
    links: TemporalLinks,
    address: str | None = None,
) -> Intervened:
    """Put an intervention on record, with what it changes at once.

    Raises:
        NotFound: No such call in a project of the principal.
        Forbidden: A viewer, or an editor who has not asked for the turn.
        Conflict: It came too late, or somebody else was first, or it may happen twice.
    """
    turn, row = await _locked(session, principal, execution_id)
    earlier = await _of_client(session, row.id, request.client_id)
    if earlier is not None:
        same = (earlier.user_id, earlier.action, earlier.note) == (
            principal.user_id, request.action, request.note,
        )  # fmt: skip
        if not same:
            raise Conflict("This client_intervention_id was used for something else.")
        return Intervened(row, earlier)
    _check_time(turn, row, request)
    if request.action == "retry":
        await _check_retry(session, row, request)
    await _end_attempt(session, turn, row, principal)
    if request.action == "retry":
        row.execution_status, row.stalled = ToolStatus.PENDING, None
    else:
        apply(row, _outcome(row, principal, request), await clock(session))
    row.taken_over += 1
    intervention = ToolIntervention(
        id=uuid4(),
        tenant_id=row.tenant_id,
        tool_execution_id=row.id,
        number=row.taken_over,
        user_id=principal.user_id,
        action=request.action,
        note=request.note,
        attempt=row.attempt,
        client_intervention_id=request.client_id,
        created_at=await clock(session),
    )
    session.add(intervention)
    row.intervention = shape(intervention, principal.name)
    await session.flush()
    await audit.record(
        session,
        row.tenant_id,
        Actor.of(principal, address),
        f"tool.{request.action}",
        "tool",
        row.tool_name,
        project_id=turn.project_id,
        turn_id=turn.id,
        tool_execution_id=row.id,
    )
    await rooms.append(session, turn.project_id, [result_event(row, turn.conversation_id, links)])
    return Intervened(row, intervention)


def shape(intervention: ToolIntervention, name: str | None) -> dict[str, Any]:
    """An intervention as clients are shown it."""
    by = {"id": str(intervention.user_id), "name": name or ""} if intervention.user_id else None
    return {
        "action": intervention.action,
        "by": by,
        "note": intervention.note,
        "attempt": intervention.attempt,
        "at": intervention.created_at.isoformat(),
    }


async def of_execution(session: AsyncSession, execution_id: UUID) -> list[dict[str, Any]]:
    """All interventions in a call, first to last, as clients are shown them."""
    rows = await session.execute(
        select(ToolIntervention, User.name)
        .outerjoin(User, User.id == ToolIntervention.user_id)
        .where(ToolIntervention.tool_execution_id == execution_id)
        .order_by(ToolIntervention.number)
    )
    return [shape(intervention, name) for intervention, name in rows]


async def hear(session: AsyncSession, execution_id: UUID) -> ToolExecution:
    """The call as people have left it, for its turn's run; housekeeping is told that it knows.

    Raises:
        NoResultFound: The call is gone.
    """
    row = await session.get_one(ToolExecution, execution_id, with_for_update=True)
    await session.execute(
        update(ToolIntervention)
        .where(
            ToolIntervention.tool_execution_id == execution_id,
            ToolIntervention.heard_at.is_(None),
        )
        .values(heard_at=await clock(session))
    )
    return row


async def _locked(
    session: AsyncSession, principal: Principal, execution_id: UUID
) -> tuple[Turn, ToolExecution]:
    """A call the principal may intervene in, with its turn, locked in the order of all."""
    found = (
        await session.execute(
            select(Turn.id, Turn.project_id, Turn.asked_by)
            .join(ToolExecution, ToolExecution.turn_id == Turn.id)
            .where(ToolExecution.id == execution_id)
        )
    ).one_or_none()
    if found is None:
        raise NotFound
    role = await access.require(session, principal, found.project_id, Role.EDITOR)
    if role < Role.OWNER and found.asked_by != principal.user_id:
        raise Forbidden("An editor may act on the calls of his own turns; an owner on all.")
    turn = await session.get_one(Turn, found.id, with_for_update={"read": True})
    return turn, await session.get_one(ToolExecution, execution_id, with_for_update=True)


async def _of_client(
    session: AsyncSession, execution_id: UUID, client_id: str | None
) -> ToolIntervention | None:
    if client_id is None:
        return None
    return await session.scalar(
        select(ToolIntervention).where(
            ToolIntervention.tool_execution_id == execution_id,
            ToolIntervention.client_intervention_id == client_id,
        )
    )


def _check_time(turn: Turn, row: ToolExecution, request: Request) -> None:
    """Hold a request against what has happened meanwhile.

    Raises:
        Conflict: It comes too late.
    """
    if row.execution_status not in OPEN_TOOL_STATUSES:
        ended = (row.intervention or {}).get("action") in ("skip", "cancel")
        how = _by_whom(row) if ended else f"it has ended already ({row.execution_status})"
        raise Conflict(f"It is too late: {how}.")
    if turn.status not in OPEN_TURN_STATUSES or turn.stop_requested_at is not None:
        raise Conflict("It is too late: the turn is being stopped, and this call with it.")
    if request.attempt is not None and request.attempt != row.attempt:
        raise Conflict(
            f"You have seen attempt {request.attempt}; by now it is attempt {row.attempt}."
            f" {_by_whom(row, 'Nobody has intervened')}. Look again."
        )


async def _check_retry(session: AsyncSession, row: ToolExecution, request: Request) -> None:
    """Hold another run against what it may do.

    Raises:
        Conflict: One is on its way already, people are asked first, or it may happen twice.
    """
    if row.execution_status == ToolStatus.AWAITING_APPROVAL:
        raise Conflict("It waits for people to approve it. Approve or deny it, or skip it.")
    last = await session.scalar(
        select(ToolIntervention)
        .where(ToolIntervention.tool_execution_id == row.id)
        .order_by(ToolIntervention.number.desc())
        .limit(1)
    )
    waiting = row.execution_status == ToolStatus.PENDING
    if last is not None and waiting and last.attempt == row.attempt:
        raise Conflict(f"{_by_whom(row)} a moment ago, and it has not begun yet.")
    # A claim was made, so it may have happened; where none was, nothing has.
    risky = row.effect == Effect.ONCE and row.attempt > 0
    if risky and not (request.confirm and request.attempt is not None):
        raise Conflict(
            RETRY_TWICE_TEXT.format(attempt=row.attempt),
            errors=[{"field": "confirm", "message": "needed for a tool that must not run twice"}],
        )


def _by_whom(row: ToolExecution, nobody: str = "") -> str:
    done = row.intervention
    if done is None:
        return nobody
    return f"{(done['by'] or {}).get('name') or 'Somebody'} {DONE[done['action']]}"


async def _end_attempt(
    session: AsyncSession, turn: Turn, row: ToolExecution, principal: Principal
) -> None:
    """Every attempt has one row in the audit log; the one that runs now will write none."""
    if row.execution_status == ToolStatus.EXECUTING:
        await audit.record(
            session,
            row.tenant_id,
            Actor.of(principal),
            "tool.run",
            "tool",
            row.tool_name,
            outcome="failed",
            reason="taken over",
            project_id=turn.project_id,
            turn_id=turn.id,
            tool_execution_id=row.id,
        )


def _outcome(row: ToolExecution, principal: Principal, request: Request) -> Outcome:
    """How a call ends that somebody skips or cancels, in words for the model and for people.

    Skipping is an answer: the turn goes on as the note says. Cancelling is none: the model is told
    that there is nothing to rely on.
    """
    done = "Skipped" if request.action == "skip" else "Cancelled"
    text = f"{done} by {principal.name}"
    text += f": {clean(request.note).rstrip('.')}." if request.note else "."
    if row.effect != Effect.READ and row.attempt > 0:
        return Outcome(ToolStatus.UNKNOWN, code="outcome_unknown", message=f"{text} {UNKNOWN_TEXT}")
    end = (
        "Go on without its result." if request.action == "skip"
        else "There is no result; do not assume one."
    )  # fmt: skip
    return Outcome(ToolStatus.CANCELLED, code="cancelled", message=f"{text} {end}")
