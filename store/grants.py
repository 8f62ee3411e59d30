"""Grants: a tool that need not ask again, for one person's turns, in a turn or a conversation.

A grant is less than a policy. It holds for the same tool of the same effect, in turns in which
nobody but that person has written; while the policy asks for no more than was given; and while
everybody who gave it could give it again. A policy that denies is not reached by it.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, approvers, audit
from store.access import Role
from store.audit import Actor
from store.errors import NotFound
from store.principal import Principal
from store.shapes import ApprovalShape, AuthorShape, GrantShape
from store.tables import Conversation, ToolExecution, ToolGrant, Turn, User
from store.terms import Terms

SCOPES = ("once", "turn", "conversation")


def give(
    session: AsyncSession,
    turn: Turn,
    row: ToolExecution,
    terms: Terms,
    scope: str,
    granted_by: Sequence[UUID],
) -> None:
    """Remember that a call like `row` need not ask again within `scope`."""
    if turn.asked_by is None:
        return
    session.add(
        ToolGrant(
            tenant_id=turn.tenant_id,
            project_id=turn.project_id,
            conversation_id=turn.conversation_id,
            turn_id=turn.id if scope == "turn" else None,
            tool_execution_id=row.id,
            user_id=turn.asked_by,
            tool=row.tool_name,
            effect=row.effect,
            approvers=terms.approvers,
            approvals=terms.approvals,
            not_asker=terms.not_asker,
            granted_by=list(granted_by),
        )
    )


async def covering(
    session: AsyncSession, turn: Turn, tool: str, effect: str, terms: Terms
) -> ToolGrant | None:
    """The grant by which a call of the turn need not ask on these terms."""
    rows = await session.scalars(
        select(ToolGrant)
        .where(
            ToolGrant.conversation_id == turn.conversation_id,
            ToolGrant.user_id == turn.asked_by,
            ToolGrant.tool == tool,
            ToolGrant.effect == effect,
            or_(ToolGrant.turn_id.is_(None), ToolGrant.turn_id == turn.id),
        )
        .order_by(ToolGrant.created_at)
    )
    for row in rows.all():
        if Terms(row.approvers, row.approvals, row.not_asker).satisfies(terms):
            givers = set(row.granted_by)
            able = await approvers.entitled(session, givers, turn.project_id, terms.approvers)
            if able == givers and await approvers.is_alone(session, turn):
                return row
    return None


async def view(session: AsyncSession, grant: ToolGrant) -> dict[str, Any]:
    """What people are shown of a call that need not ask."""
    giver = grant.granted_by[-1]
    name = await session.scalar(select(User.name).where(User.id == giver))
    return ApprovalShape(
        question=0,
        approvers=grant.approvers,
        approvals=grant.approvals,
        not_asker=grant.not_asker,
        asked_at=grant.created_at,
        decision="approved",
        decided_by=AuthorShape(id=giver, name=name or ""),
        decided_at=grant.created_at,
        scope="turn" if grant.turn_id else "conversation",
        grant_id=grant.id,
    ).wire()


async def of_conversation(
    session: AsyncSession, principal: Principal, conversation_id: UUID
) -> list[GrantShape]:
    """What need not ask in a conversation, oldest first.

    Raises:
        NotFound: No such conversation in a project of the principal.
    """
    conversation = await session.get(Conversation, conversation_id)
    if conversation is None:
        raise NotFound
    await access.require(session, principal, conversation.project_id, Role.VIEWER)
    rows = (
        await session.scalars(
            select(ToolGrant)
            .where(ToolGrant.conversation_id == conversation_id)
            .order_by(ToolGrant.created_at)
        )
    ).all()
    wanted = {user for row in rows for user in (row.user_id, *row.granted_by)}
    people = await session.execute(select(User.id, User.name).where(User.id.in_(wanted)))
    names = {person.id: person.name for person in people}

    def person(user_id: UUID) -> AuthorShape:
        return AuthorShape(id=user_id, name=names.get(user_id, ""))

    return [
        GrantShape(
            id=row.id,
            conversation_id=row.conversation_id,
            turn_id=row.turn_id,
            user=person(row.user_id),
            tool=row.tool,
            effect=row.effect,
            granted_by=[person(user_id) for user_id in row.granted_by],
            created_at=row.created_at,
        )
        for row in rows
    ]


async def withdraw(session: AsyncSession, principal: Principal, grant_id: UUID) -> None:
    """Have a tool ask again. Whoever may work in the project may tighten it.

    Raises:
        NotFound: No such grant in a project of the principal.
        Forbidden: A viewer.
    """
    grant = await session.get(ToolGrant, grant_id, with_for_update=True)
    if grant is None:
        raise NotFound
    await access.require(session, principal, grant.project_id, Role.EDITOR)
    await session.delete(grant)
    await audit.record(
        session, grant.tenant_id, Actor.of(principal), "tool_grant.withdraw", "tool", grant.tool,
        project_id=grant.project_id, tool_execution_id=grant.tool_execution_id,
    )  # fmt: skip
