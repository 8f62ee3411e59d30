"""Search over the conversations and messages of a project."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal
from api.bodies import DEFAULT_PAGE, Limit, storable
from api.state import CurrentEdge
from store import access, search
from store.access import Role
from store.errors import Invalid

router = APIRouter(prefix="/api", tags=["search"], route_class=AuditedRoute)


class Hit(BaseModel):
    """A message, or a conversation by its title (`message_id` is null then)."""

    conversation_id: UUID
    title: str
    message_id: UUID | None
    role: str | None
    excerpt: str


class Hits(BaseModel):
    """Newest first."""

    items: list[Hit]
    next_cursor: str | None = None


@router.get("/projects/{project_id}/search")
async def search_project(
    project_id: UUID,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Limit = DEFAULT_PAGE,
) -> Hits:
    """Messages and titles that contain the text, letter case aside."""
    try:
        storable(q)
    except ValueError as exc:
        raise Invalid(f"q {exc}.") from None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.VIEWER)
        found = await search.find(session, project_id, q, limit)
    return Hits(items=[Hit(**hit) for hit in found])
