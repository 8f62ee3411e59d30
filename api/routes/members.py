"""Who is in a project, and as what; and whom an owner could add."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api import control
from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import DEFAULT_PAGE, Body, Cursor, Items, Limit, cursor_of, place_of
from api.state import CurrentEdge
from store import access, audit, people, projects
from store.access import Role
from store.audit import Actor

router = APIRouter(prefix="/api", tags=["members"], route_class=AuditedRoute)


class MemberAnswer(BaseModel):
    """A person in a project; one who is not `active` cannot sign in."""

    user_id: UUID
    name: str
    email: str
    role: str
    active: bool
    created_at: datetime


class Colleague(BaseModel):
    """A person of the tenant, as everybody there may know him."""

    id: UUID
    name: str
    email: str


class RoleChange(Body):
    """What somebody is to be in the project."""

    role: Literal["owner", "editor", "viewer"]


def _answer(member: projects.Member) -> MemberAnswer:
    return MemberAnswer(
        user_id=member.user_id, name=member.name, email=member.email, role=member.role,
        active=member.active, created_at=member.created_at,
    )  # fmt: skip


@router.get("/users")
async def list_colleagues(
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[Colleague]:
    """Active people of one's tenant, by address: whom one can add to a project."""
    after = place_of(cursor, str, UUID)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        found = await people.page(session, after=after, limit=limit, active_only=True)
    more, found = len(found) > limit, found[:limit]
    return Items(
        items=[Colleague(id=user.id, name=user.name, email=user.email) for user in found],
        next_cursor=cursor_of(found[-1].email, found[-1].id) if more else None,
    )


@router.get("/projects/{project_id}/members")
async def list_members(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[MemberAnswer]:
    """Everybody in the project, by name."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.VIEWER)
        found = await projects.members(session, project_id)
    return Items(items=[_answer(member) for member in found])


@router.put("/projects/{project_id}/members/{user_id}")
async def put_member(
    project_id: UUID,
    user_id: UUID,
    body: RoleChange,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> MemberAnswer:
    """Add somebody of the tenant, or change his role (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        await projects.get(session, project_id, lock=True)
        role = Role[body.role.upper()]
        await projects.set_member(session, principal.tenant_id, project_id, user_id, role)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "member.set", "user", user_id, reason=body.role, project_id=project_id,
        )  # fmt: skip
        found = await projects.members(session, project_id)
    await control.membership(edge.publisher, project_id, user_id)
    return next(_answer(member) for member in found if member.user_id == user_id)


@router.delete("/projects/{project_id}/members/{user_id}", status_code=204)
async def remove_member(
    project_id: UUID,
    user_id: UUID,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> None:
    """Take somebody out of the project (owner); anybody may leave by himself."""
    needed = Role.VIEWER if user_id == principal.user_id else Role.OWNER
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, needed)
        await projects.get(session, project_id, lock=True)
        await projects.drop_member(session, project_id, user_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "member.remove", "user", user_id, project_id=project_id,
        )  # fmt: skip
    await control.membership(edge.publisher, project_id, user_id)
