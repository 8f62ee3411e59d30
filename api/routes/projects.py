"""Projects: listed, made, changed, deleted."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api import control
from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import DEFAULT_PAGE, Body, Cursor, Items, Limit, Name, Text, cursor_of, place_of
from api.state import CurrentEdge
from store import access, audit, projects
from store.access import Role
from store.audit import Actor
from store.database import clock
from store.projects import ProjectSettings
from store.tables import Project

router = APIRouter(prefix="/api/projects", tags=["projects"], route_class=AuditedRoute)


class ProjectAnswer(BaseModel):
    """A project; `role` is the asker's."""

    id: UUID
    name: str
    description: str
    instructions: str
    settings: ProjectSettings
    role: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Project, role: Role) -> "ProjectAnswer":
        """Answer for a row."""
        return cls(
            id=row.id,
            name=row.name,
            description=row.description,
            instructions=row.instructions,
            settings=ProjectSettings.of(row.settings),
            role=role.wire,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class NewProject(Body):
    """A project to be made."""

    name: Name
    description: Text = ""
    instructions: Text = ""
    settings: ProjectSettings = Field(default_factory=ProjectSettings)


class ProjectChange(Body):
    """What to change; of `settings`, the fields that are sent."""

    name: Name | None = None
    description: Text | None = None
    instructions: Text | None = None
    settings: ProjectSettings | None = None


@router.get("")
async def list_projects(
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[ProjectAnswer]:
    """Projects one may see, by name; a tenant administrator sees all."""
    after = place_of(cursor, str, UUID)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        found = await projects.page(session, principal, after=after, limit=limit)
    more, found = len(found) > limit, found[:limit]
    last = found[-1].project if more else None
    return Items(
        items=[ProjectAnswer.of(seen.project, seen.role) for seen in found],
        next_cursor=cursor_of(last.name, last.id) if last else None,
    )


@router.post("", status_code=201)
async def create_project(
    body: NewProject, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> ProjectAnswer:
    """Make a project and become its owner."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        project = await projects.add(
            session, principal.tenant_id, principal.user_id, body.name,
            description=body.description, instructions=body.instructions,
            settings=body.settings.model_dump(exclude_unset=True),
        )  # fmt: skip
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "project.create", "project", project.id, project_id=project.id,
        )  # fmt: skip
        return ProjectAnswer.of(project, Role.OWNER)


@router.get("/{project_id}")
async def get_project(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> ProjectAnswer:
    """One project."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.VIEWER)
        return ProjectAnswer.of(await projects.get(session, project_id), role)


@router.patch("/{project_id}")
async def change_project(
    project_id: UUID,
    body: ProjectChange,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ProjectAnswer:
    """Change a project (owner)."""
    sent = body.model_dump(exclude_unset=True, exclude_none=True)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        project = await projects.get(session, project_id, lock=True)
        if "settings" in sent:
            sent["settings"] = {**project.settings, **sent["settings"]}
        for field, value in sent.items():
            setattr(project, field, value)
        project.updated_at = await clock(session)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "project.update", "project", project_id,
            reason=" ".join(sorted(sent)), project_id=project_id,
        )  # fmt: skip
        return ProjectAnswer.of(project, role)


@router.delete("/{project_id}", status_code=204)
async def delete_project(
    project_id: UUID, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> None:
    """Delete a project with everything in it (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        open_turns = await projects.drop(session, project_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "project.delete", "project", project_id, project_id=project_id,
        )  # fmt: skip
    await control.project_deleted(edge.publisher, project_id)
    await edge.turns.abandon(principal, open_turns)
