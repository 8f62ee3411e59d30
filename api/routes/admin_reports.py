"""What administrators look at: audit log, turns, tokens used; part of `admin`."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.audited import AuditedRoute
from api.auth import TenantAdmin
from api.bodies import DEFAULT_PAGE, Cursor, Items, Limit, cursor_of, place_of
from api.state import CurrentEdge
from store import reports
from store.errors import Invalid
from store.shapes import TemporalLinks, TurnShape
from store.tables import AuditEntry, ToolExecution
from workflows.types import OPEN_TURN_STATUSES, TurnStatus

router = APIRouter(route_class=AuditedRoute)

USAGE_DAYS = 30
MAX_USAGE_DAYS = 366


class ActorAnswer(BaseModel):
    """Who acted; a failed sign-in may name only an address."""

    user_id: UUID | None
    email: str | None


class ResourceAnswer(BaseModel):
    """What was acted on."""

    type: str
    id: str | None


class AuditAnswer(BaseModel):
    """An audit row."""

    id: UUID
    at: datetime
    actor: ActorAnswer | None
    address: str | None
    action: str
    resource: ResourceAnswer
    outcome: str
    reason: str | None
    project_id: UUID | None
    turn_id: UUID | None
    tool_execution_id: UUID | None

    @classmethod
    def of(cls, row: AuditEntry) -> "AuditAnswer":
        """Answer for a row."""
        known = row.user_id is not None or row.email is not None
        return cls(
            id=row.id, at=row.at,
            actor=ActorAnswer(user_id=row.user_id, email=row.email) if known else None,
            address=row.address, action=row.action,
            resource=ResourceAnswer(type=row.resource_type, id=row.resource_id),
            outcome=row.outcome, reason=row.reason, project_id=row.project_id,
            turn_id=row.turn_id, tool_execution_id=row.tool_execution_id,
        )  # fmt: skip


class OpenCall(BaseModel):
    """A tool execution that a turn waits for."""

    id: UUID
    tool_name: str
    status: str
    attempt: int
    created_at: datetime
    started_at: datetime | None

    @classmethod
    def of(cls, row: ToolExecution) -> "OpenCall":
        """Answer for a row."""
        return cls(
            id=row.id, tool_name=row.tool_name, status=row.execution_status, attempt=row.attempt,
            created_at=row.created_at, started_at=row.started_at,
        )  # fmt: skip


class TurnAnswer(TurnShape):
    """A turn and why it is where it is.

    Attributes:
        last_error: What the model's last failed attempt said.
        waits_for: Its tool calls that have no outcome yet.
    """

    project_id: UUID
    project_name: str
    conversation_title: str
    asked_by_name: str | None
    last_error: dict[str, Any] | None
    waits_for: list[OpenCall]

    @classmethod
    def report(cls, found: reports.TurnReport, links: TemporalLinks) -> "TurnAnswer":
        """Answer for a turn."""
        return cls(
            **TurnShape.of(found.turn, links).model_dump(),
            project_id=found.turn.project_id, project_name=found.project_name,
            conversation_title=found.conversation_title, asked_by_name=found.asker_name,
            last_error=found.turn.last_error,
            waits_for=[OpenCall.of(call) for call in found.open_calls],
        )  # fmt: skip


class UsageAnswer(BaseModel):
    """Tokens of one day (UTC), model and person."""

    day: date
    model: str
    user_id: UUID | None
    user_name: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int


@router.get("/audit")
async def list_audit(
    principal: TenantAdmin,
    edge: CurrentEdge,
    action: Annotated[str | None, Query(max_length=100, pattern=r"^[a-z0-9_.]+$")] = None,
    outcome: Literal["allowed", "refused", "failed"] | None = None,
    user: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[AuditAnswer]:
    """The audit log, newest first."""
    after = place_of(cursor, datetime, UUID)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        rows = await reports.audit_page(
            session, action=action, outcome=outcome, user_id=user, after=after, limit=limit
        )
    more, rows = len(rows) > limit, rows[:limit]
    return Items(
        items=[AuditAnswer.of(row) for row in rows],
        next_cursor=cursor_of(rows[-1].at, rows[-1].id) if more else None,
    )


@router.get("/turns")
async def list_turns(
    principal: TenantAdmin,
    edge: CurrentEdge,
    status: Annotated[list[TurnStatus] | None, Query(max_length=len(TurnStatus))] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[TurnAnswer]:
    """Turns of the whole tenant, newest first; the open ones unless statuses are named."""
    after = place_of(cursor, datetime, UUID)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        found = await reports.turns_page(
            session, status or OPEN_TURN_STATUSES, after=after, limit=limit
        )
    more, found = len(found) > limit, found[:limit]
    last = found[-1].turn if more else None
    return Items(
        items=[TurnAnswer.report(turn, edge.links) for turn in found],
        next_cursor=cursor_of(last.created_at, last.id) if last else None,
    )


@router.get("/usage")
async def list_usage(
    principal: TenantAdmin,
    edge: CurrentEdge,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
) -> Items[UsageAnswer]:
    """Tokens by day, model and person; the last 30 days unless days are named."""
    last = last or datetime.now(UTC).date()
    try:
        first = first or last - timedelta(days=USAGE_DAYS - 1)
        last + timedelta(days=1)
    except OverflowError as exc:
        raise Invalid("These days are not on the calendar.") from exc
    if not 0 <= (last - first).days < MAX_USAGE_DAYS:
        raise Invalid(f"Ask for 1 to {MAX_USAGE_DAYS} days, the first one first.")
    async with edge.database.tenant_session(principal.tenant_id) as session:
        sums = await reports.usage_sums(session, first, last)
    return Items(
        items=[
            UsageAnswer(
                day=row.day, model=row.model, user_id=row.user_id, user_name=row.user_name,
                calls=row.calls, prompt_tokens=row.prompt_tokens,
                completion_tokens=row.completion_tokens,
            )
            for row in sums
        ]
    )  # fmt: skip
