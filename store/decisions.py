"""Decisions: what people say to a tool call that asks, and what follows from it.

One transaction holds the decision's row, the call's new state, the turn's and the events that tell
the room. The turn's row is locked before all else, so of two people who decide in the same moment
one is second, and hears what the first one's word led to.

An approval is one of certain arguments: the model's own, or those that came with it. Other
arguments than those approved so far are a new question, which begins with the approval that brought
them. An approval counts while whoever gave it may still approve; once enough have, it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, approvers, audit, grants, tool_executions
from store.access import Role
from store.audit import Actor
from store.changed_arguments import check_arguments, same
from store.database import clock
from store.errors import Conflict, Forbidden, Invalid, NotFound
from store.expiry import expire
from store.principal import Principal
from store.questions import shown, tell_room, terms_of
from store.shapes import ApprovalShape, AuthorShape, TemporalLinks, VoteShape
from store.tables import ToolDecision, ToolExecution, Turn
from store.terms import Terms
from store.tool_executions import Outcome
from workflows.types import OPEN_TURN_STATUSES, ToolStatus

MAX_NOTE_CHARS = 500
APPROVE, DENY = "approve", "deny"


@dataclass(frozen=True, slots=True)
class Word:
    """What one person says.

    Attributes:
        arguments: To run instead of the model's; None for the model's own.
        note: For the others, and, with a denial, for the model.
        scope: For how long an approval is to hold: ``once``, ``turn`` or ``conversation``.
    """

    decision: str
    arguments: dict[str, Any] | None = None
    note: str | None = None
    scope: str = "once"


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision led to.

    Attributes:
        duplicate: It changed nothing: this, or somebody else's word, had been heard before.
        tell: The turn's run is to be told, once the transaction has been committed.
    """

    execution: ToolExecution
    turn: Turn
    duplicate: bool = False
    tell: bool = False


async def decide(
    session: AsyncSession,
    principal: Principal,
    execution_id: UUID,
    word: Word,
    links: TemporalLinks,
    address: str | None = None,
) -> Decided:
    """Hear a person's word about a call.

    Raises:
        NotFound: No such call in a project of the principal.
        Forbidden: The question is not his to decide.
        Conflict: The call does not ask, asks no more, or for other arguments than he has seen.
        Invalid: The arguments do not fit the tool (code ``invalid_arguments``), or the word makes
            no sense.
    """
    _check(word)
    turn, row = await _locked(session, principal, execution_id)
    view = shown(row)
    if view is None or not row.requires_approval:
        raise Conflict("This call does not ask for anybody's approval.")
    if row.decided_at is not None:
        return Decided(row, turn, duplicate=True)
    if (
        row.execution_status != ToolStatus.AWAITING_APPROVAL
        or turn.status not in OPEN_TURN_STATUSES
        or turn.stop_requested_at is not None
    ):
        raise Conflict("The turn was stopped; there is nothing to decide any more.")
    now = await clock(session)
    if await expire(session, turn, row, now):
        await tell_room(session, turn, row, links)
        return Decided(row, turn, duplicate=True, tell=True)
    await _check_right(session, principal, turn, view, word)
    actor = Actor.of(principal, address)
    if word.decision == DENY:
        await _add(session, principal, row, word, None)
        _deny(principal, row, view, word, now)
        await _record(session, turn, row, actor, "deny")
        await tell_room(session, turn, row, links)
        return Decided(row, turn, tell=True)
    return await _approve(session, principal, turn, row, view, word, now, links, actor)


def _check(word: Word) -> None:
    if word.scope not in grants.SCOPES:
        raise Invalid(f"scope is one of {', '.join(grants.SCOPES)}.")
    if word.decision == DENY and (word.arguments is not None or word.scope != "once"):
        raise Invalid("A denial has no arguments, and no scope: the next call asks again.")
    if word.note is not None and len(word.note) > MAX_NOTE_CHARS:
        raise Invalid(f"note has at most {MAX_NOTE_CHARS} characters.")


async def _locked(
    session: AsyncSession, principal: Principal, execution_id: UUID
) -> tuple[Turn, ToolExecution]:
    found = (
        await session.execute(
            select(Turn.id, Turn.project_id)
            .join(ToolExecution, ToolExecution.turn_id == Turn.id)
            .where(ToolExecution.id == execution_id)
        )
    ).one_or_none()
    if found is None:
        raise NotFound
    await access.require(session, principal, found.project_id, Role.VIEWER)
    turn = await session.get(Turn, found.id, with_for_update=True)
    row = await session.get(ToolExecution, execution_id, with_for_update=True)
    if turn is None or row is None:
        raise NotFound
    return turn, row


async def _check_right(
    session: AsyncSession, principal: Principal, turn: Turn, view: ApprovalShape, word: Word
) -> None:
    able = await approvers.entitled(session, [principal.user_id], turn.project_id, view.approvers)
    if not able:
        raise Forbidden(f"This needs the role {view.approvers} in the project, by its policy.")
    if (
        view.not_asker
        and word.decision == APPROVE
        and await approvers.has_asked(session, turn, principal.user_id)
    ):
        raise Forbidden("By the project's policy, whoever asked may not approve it himself.")


async def _approve(
    session: AsyncSession,
    principal: Principal,
    turn: Turn,
    row: ToolExecution,
    view: ApprovalShape,
    word: Word,
    now: datetime,
    links: TemporalLinks,
    actor: Actor,
) -> Decided:
    wanted = word.arguments
    if wanted is not None:
        check_arguments(row.tool_name, row.argument_schema, wanted)
        wanted = None if same(wanted, row.tool_parameters) else wanted
    others = not same(wanted, view.arguments)
    if others and word.arguments is None:
        raise Conflict(
            f"{view.changed_by.name if view.changed_by else 'Somebody'} changed the arguments."
            " Look at them again, and approve those."
        )
    if others:
        # Other arguments than those approved so far: nobody has approved these.
        row.question += 1 if view.votes else 0
        view = view.model_copy(
            update={
                "question": row.question,
                "arguments": wanted,
                "changed_by": _author(principal) if wanted is not None else None,
                "votes": [],
            }
        )
    elif any(vote.user.id == principal.user_id for vote in view.votes):
        return Decided(row, turn, duplicate=True)
    vote = await _add(session, principal, row, word, wanted)
    view = view.model_copy(update={"votes": [*view.votes, vote]})
    able = await approvers.entitled(
        session, [each.user.id for each in view.votes], turn.project_id, view.approvers
    )
    counted = [each for each in view.votes if each.user.id in able]
    enough = len(counted) >= view.approvals
    if enough:
        scope = min((each.scope for each in counted), key=grants.SCOPES.index)
        view = view.model_copy(
            update={
                "decision": "approved",
                "decided_by": vote.user,
                "decided_at": now,
                "note": vote.note,
                "scope": scope,
            }
        )
        row.execution_status = ToolStatus.PENDING
        row.approved_arguments = orjson.dumps(wanted).decode() if wanted is not None else None
        row.decided_at = now
        if scope != "once":
            givers = [each.user.id for each in counted]
            grants.give(session, turn, row, terms_of(view), scope, givers)
    row.approval = view.wire()
    said = f"approve, {len(counted)} of {view.approvals}"
    said += ", with changed arguments" if wanted is not None else ""
    said += f", for this {vote.scope}" if vote.scope != "once" else ""
    await _record(session, turn, row, actor, said)
    await tell_room(session, turn, row, links)
    return Decided(row, turn, tell=enough)


def _author(principal: Principal) -> AuthorShape:
    return AuthorShape(id=principal.user_id, name=principal.name)


async def _add(
    session: AsyncSession,
    principal: Principal,
    row: ToolExecution,
    word: Word,
    arguments: dict[str, Any] | None,
) -> VoteShape:
    note = (word.note or "").strip() or None
    decision = ToolDecision(
        tenant_id=row.tenant_id,
        tool_execution_id=row.id,
        user_id=principal.user_id,
        decision=word.decision,
        arguments=arguments,
        note=note,
        question=row.question,
        scope=word.scope,
        created_at=await clock(session),
    )
    session.add(decision)
    await session.flush()
    return VoteShape(
        user=_author(principal),
        decision=word.decision,
        note=note,
        scope=word.scope,
        at=decision.created_at,
    )


def _deny(
    principal: Principal, row: ToolExecution, view: ApprovalShape, word: Word, now: datetime
) -> None:
    note = (word.note or "").strip() or None
    who = _author(principal)
    vote = VoteShape(user=who, decision=DENY, note=note, at=now)
    votes = [each for each in view.votes if each.user.id != who.id]
    changes = {
        "decision": "denied", "decided_by": who, "decided_at": now, "note": note,
        "votes": [*votes, vote],
    }  # fmt: skip
    row.approval = view.model_copy(update=changes).wire()
    row.decided_at = now
    said = f"Denied by {principal.name}: {note}" if note else f"Denied by {principal.name}."
    tool_executions.apply(row, Outcome(ToolStatus.FAILED, code="denied", message=said), now)


async def covers(session: AsyncSession, turn: Turn, row: ToolExecution, terms: Terms) -> bool:
    """Whether people have allowed a call to run as it would now, where a policy asks on `terms`.

    By the rows of those who approved it, or by a grant that holds now.
    """
    view = shown(row)
    if view is None or view.decision != "approved":
        return False
    if view.grant_id is not None:
        found = await grants.covering(session, turn, row.tool_name, row.effect, terms)
        return found is not None
    if not terms_of(view).satisfies(terms):
        return False
    rows: Sequence[ToolDecision] = (
        await session.scalars(
            select(ToolDecision).where(
                ToolDecision.tool_execution_id == row.id,
                ToolDecision.question == row.question,
                ToolDecision.decision == APPROVE,
            )
        )
    ).all()
    approved = orjson.loads(row.approved_arguments) if row.approved_arguments else None
    return sum(same(each.arguments, approved) for each in rows) >= terms.approvals


async def told(session: AsyncSession, execution_id: UUID, question: int) -> None:
    """Remember that the turn's run has been told how a question was decided."""
    row = await session.get(ToolExecution, execution_id, with_for_update=True)
    if row is None or row.question != question:
        return
    if row.decided_at is not None and row.told_at is None:
        row.told_at = await clock(session)


async def _record(
    session: AsyncSession, turn: Turn, row: ToolExecution, actor: Actor, said: str
) -> None:
    await audit.record(
        session, row.tenant_id, actor, "tool.decide", "tool", row.tool_name, reason=said,
        project_id=turn.project_id, turn_id=turn.id, tool_execution_id=row.id,
    )  # fmt: skip
