"""What administrators look at: the audit log, turns that run or are stuck, tokens used.

Functions run within the tenant's transaction and see nothing else.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Date, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import AuditEntry, Conversation, Project, ToolExecution, Turn, Usage, User
from workflows.types import OPEN_TOOL_STATUSES


async def audit_page(
    session: AsyncSession,
    *,
    action: str | None,
    outcome: str | None,
    user_id: UUID | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[AuditEntry]:
    """Audit rows, newest first, one more than `limit` if there are more."""
    query = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit + 1)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    if outcome is not None:
        query = query.where(AuditEntry.outcome == outcome)
    if user_id is not None:
        query = query.where(AuditEntry.user_id == user_id)
    if after is not None:
        query = query.where(tuple_(AuditEntry.at, AuditEntry.id) < tuple_(*after))
    return (await session.scalars(query)).all()


@dataclass(frozen=True, slots=True)
class TurnReport:
    """A turn with what tells why it is where it is.

    Attributes:
        open_calls: Tool executions it waits for.
    """

    turn: Turn
    project_name: str
    conversation_title: str
    asker_name: str | None
    open_calls: Sequence[ToolExecution]


async def turns_page(
    session: AsyncSession,
    statuses: Sequence[str],
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[TurnReport]:
    """Turns with one of some statuses, newest first, one more than `limit` if there are more."""
    query = (
        select(Turn, Project.name, Conversation.title, User.name)
        .join(Project, Project.id == Turn.project_id)
        .join(Conversation, Conversation.id == Turn.conversation_id)
        .outerjoin(User, User.id == Turn.asked_by)
        .where(Turn.status.in_(statuses))
        .order_by(Turn.created_at.desc(), Turn.id.desc())
        .limit(limit + 1)
    )
    if after is not None:
        query = query.where(tuple_(Turn.created_at, Turn.id) < tuple_(*after))
    rows = (await session.execute(query)).all()
    calls: defaultdict[UUID, list[ToolExecution]] = defaultdict(list)
    for call in await session.scalars(
        select(ToolExecution)
        .where(
            ToolExecution.turn_id.in_([turn.id for turn, *_ in rows]),
            ToolExecution.execution_status.in_(OPEN_TOOL_STATUSES),
        )
        .order_by(ToolExecution.created_at, ToolExecution.position)
    ):
        calls[call.turn_id].append(call)
    return [
        TurnReport(turn, project, title, asker, calls[turn.id])
        for turn, project, title, asker in rows
    ]


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Tokens of one day, model and person."""

    day: date
    model: str
    user_id: UUID | None
    user_name: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int


async def usage_sums(session: AsyncSession, first: date, last: date) -> list[UsageSum]:
    """Tokens used from `first` to `last`, both included, in UTC; the newest day first."""
    day = cast(func.timezone("UTC", Usage.at), Date)
    rows = await session.execute(
        select(
            day.label("day"),
            Usage.model,
            Usage.user_id,
            User.name,
            func.count(),
            func.sum(Usage.prompt_tokens),
            func.sum(Usage.completion_tokens),
        )
        .outerjoin(User, User.id == Usage.user_id)
        .where(
            Usage.at >= func.timezone("UTC", cast(first, Date)),
            Usage.at < func.timezone("UTC", cast(last + timedelta(days=1), Date)),
        )
        .group_by(day, Usage.model, Usage.user_id, User.name)
        .order_by(day.desc(), Usage.model, User.name)
    )
    return [UsageSum(*row) for row in rows]
