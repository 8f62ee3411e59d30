"""Tool calls: what is stored of them, how they run, and a hand on them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import Body, storable
from api.state import CurrentEdge, Edge
from store import interventions, tool_executions
from store.database import clock
from store.interventions import Request as Intervention
from store.shapes import Shape, ToolExecutionShape
from store.tables import ToolExecution
from store.tool_runs import ToolRun
from workflows.types import OPEN_TOOL_STATUSES

router = APIRouter(prefix="/api", tags=["turns"], route_class=AuditedRoute)

MAX_NOTE_CHARS = 1_000


class FailureShape(Shape):
    """Why an attempt failed."""

    code: str
    message: str


class ToolRunShape(Shape):
    """How a call stands in Temporal; ages are the server's, so that no client's clock matters."""

    state: str
    since: datetime | None
    attempt: int
    max_attempts: int
    queue: str
    served: bool | None
    worker: str | None
    scheduled_at: datetime | None
    started_at: datetime | None
    heartbeat_at: datetime | None
    heartbeat_age_seconds: float | None
    next_attempt_at: datetime | None
    deadline_seconds: float | None
    last_failure: FailureShape | None
    paused_by: str | None
    workflow_run: str
    activity_id: str

    @classmethod
    def of(cls, run: ToolRun, now: datetime, served: bool | None) -> "ToolRunShape":
        """Shape of a run at a moment of the database's clock."""
        age = (now - run.heartbeat_at).total_seconds() if run.heartbeat_at else None
        failure = run.last_failure
        return cls(
            **{
                name: getattr(run, name)
                for name in cls.model_fields
                if name not in ("served", "heartbeat_age_seconds", "last_failure")
            },
            served=served,
            heartbeat_age_seconds=None if age is None else max(0.0, round(age, 1)),
            last_failure=FailureShape(code=failure.code, message=failure.message)
            if failure
            else None,
        )


class ToolExecutionDetail(ToolExecutionShape):
    """A call with all that is stored of it, every intervention, and its run while it is open."""

    started_at: datetime | None = None
    finished_at: datetime | None = None
    run: ToolRunShape | None = None
    interventions: list[Any]


Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS), AfterValidator(storable)]


class InterventionBody(Body):
    """What somebody wants done about a call."""

    action: Literal["retry", "skip", "cancel"]
    note: Note | None = None
    attempt: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    confirm: bool = False
    client_intervention_id: (
        Annotated[str, Field(min_length=1, max_length=64), AfterValidator(storable)] | None
    ) = None


@router.get("/tool-executions/{execution_id}")
async def get_tool_execution(
    execution_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> ToolExecutionDetail:
    """A tool execution with all that is stored of its result, and how it runs."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        row = await tool_executions.get(session, principal, execution_id)
        done = await interventions.of_execution(session, row.id) if row.taken_over else []
        now = await clock(session)
    return await _detail(edge, row, done, now)


@router.post("/tool-executions/{execution_id}/intervene")
async def intervene(
    execution_id: UUID,
    body: InterventionBody,
    request: Request,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
) -> ToolExecutionDetail:
    """Run a call anew, or end it; its turn goes on."""
    asked = Intervention(
        action=body.action,
        note=(body.note or "").strip() or None,
        attempt=body.attempt,
        confirm=body.confirm,
        client_id=body.client_intervention_id,
    )
    await edge.interventions.intervene(principal, execution_id, asked, address_of(request))
    return await get_tool_execution(execution_id, principal, edge)


async def _detail(
    edge: Edge, row: ToolExecution, done: list[dict[str, Any]], now: datetime
) -> ToolExecutionDetail:
    run: ToolRun | None = None
    served: bool | None = None
    if row.execution_status in OPEN_TOOL_STATUSES:
        run = await edge.tool_runs.of(row.turn_id, row.id)
        served = await edge.tool_runs.served(row.queue) if run else None
    shape = ToolExecutionShape.of(row, edge.links, full=True)
    url = edge.links.tool(row)
    if run is not None:
        url = edge.links.activity(row.turn_id, run.workflow_run)
    return ToolExecutionDetail(
        **{name: getattr(shape, name) for name in ToolExecutionShape.model_fields}
        | {"temporal_url": url},
        started_at=row.started_at,
        finished_at=row.finished_at,
        run=ToolRunShape.of(run, now, served) if run else None,
        interventions=done,
    )
