"""Projects with their settings and members. Functions run within the tenant's transaction."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store.access import Role
from store.errors import Conflict, NotFound
from store.on_busy import OnBusy, OnBusyByRole
from store.principal import Principal
from store.tables import Conversation, Project, ProjectMember, Room, Turn, User
from workflows.types import OPEN_TURN_STATUSES

_HOST_PATTERN = re.compile(r"(?:\*\.)?[0-9a-z\u00a1-\uffef](?:[0-9a-z._:\u00a1-\uffef-]{0,251})")


def _host_pattern(value: str) -> str:
    value = value.strip().lower().rstrip(".")
    if not _HOST_PATTERN.fullmatch(value):
        raise ValueError("is not a host name, nor `*.` and a host name")
    return value


class ProjectSettings(BaseModel):
    """What a project decides for itself (docs/protocol.md §6).

    Attributes:
        on_busy: What a message does while a turn of its conversation is open.
        on_busy_by_role: What each role may choose instead, its default first; a role that is not
            named may choose anything.
        agent_replies: Which messages the agent answers; so far all of them.
        http_allowed_hosts: Names, or ``*.name`` for everything below one; none by default.
        http_allowed_ports: Ports `http_request` may use.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    on_busy: OnBusy = "enqueue"
    on_busy_by_role: OnBusyByRole = Field(default_factory=dict)
    agent_replies: Literal["always"] = "always"
    http_allowed_hosts: list[
        Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_host_pattern)]
    ] = Field(default_factory=list, max_length=100)
    http_allowed_ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default_factory=lambda: [80, 443], max_length=20
    )

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "ProjectSettings":
        """Settings of a project's row; what a newer version wrote and we do not know is ignored."""
        known = {name: value for name, value in stored.items() if name in cls.model_fields}
        try:
            return cls.model_validate(known)
        except ValidationError:
            return cls()


@dataclass(frozen=True, slots=True)
class Seen:
    """A project and what the asker is in it."""

    project: Project
    role: Role


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a project."""

    user_id: UUID
    name: str
    email: str
    role: str
    active: bool
    created_at: datetime


async def page(
    session: AsyncSession, principal: Principal, *, after: tuple[str, UUID] | None, limit: int
) -> list[Seen]:
    """Projects the principal may see, by name, one more than `limit` if there are more."""
    tenant_role = await session.scalar(
        select(User.role).where(User.id == principal.user_id, User.active)
    )
    if tenant_role is None:
        return []
    query = (
        select(Project, ProjectMember.role)
        .outerjoin(
            ProjectMember,
            (ProjectMember.project_id == Project.id) & (ProjectMember.user_id == principal.user_id),
        )
        .order_by(Project.name, Project.id)
        .limit(limit + 1)
    )
    if tenant_role != "admin":
        query = query.where(ProjectMember.user_id.is_not(None))
    if after is not None:
        query = query.where(tuple_(Project.name, Project.id) > tuple_(*after))
    return [
        Seen(project, Role.OWNER if tenant_role == "admin" else Role[role.upper()])
        for project, role in await session.execute(query)
    ]


async def get(session: AsyncSession, project_id: UUID, *, lock: bool = False) -> Project:
    """A project of the tenant; who may see it is `store.access`'s to say.

    Raises:
        NotFound: There is none.
    """
    query = select(Project).where(Project.id == project_id)
    if lock:
        query = query.with_for_update(key_share=True)
    row = await session.scalar(query)
    if row is None:
        raise NotFound
    return row


async def add(
    session: AsyncSession,
    tenant_id: UUID,
    owner_id: UUID,
    name: str,
    *,
    description: str = "",
    instructions: str = "",
    settings: dict[str, Any] | None = None,
    project_id: UUID | None = None,
) -> Project:
    """A new project with its room and its first owner."""
    project = Project(
        id=project_id or uuid4(),
        tenant_id=tenant_id,
        name=name,
        description=description,
        instructions=instructions,
        settings=settings or {},
    )
    session.add(project)
    await session.flush()
    session.add(Room(project_id=project.id, tenant_id=tenant_id, head=0))
    session.add(
        ProjectMember(
            project_id=project.id, user_id=owner_id, tenant_id=tenant_id, role=Role.OWNER.wire
        )
    )
    await session.flush()
    return project


async def drop(session: AsyncSession, project_id: UUID) -> Sequence[UUID]:
    """Delete a project with everything in it.

    Returns:
        Turns that were open: their runs have nothing left to work on and are to be cancelled.
    """
    # Whoever accepts a message locks its conversation first; so do we, or each would wait for
    # the other.
    await session.execute(
        select(Conversation.id)
        .where(Conversation.project_id == project_id)
        .order_by(Conversation.id)
        .with_for_update(key_share=True)
    )
    # Then its turns: a step that begins holds its turn and adds a message to the conversation.
    open_turns = (
        await session.scalars(
            select(Turn.id)
            .where(Turn.project_id == project_id, Turn.status.in_(OPEN_TURN_STATUSES))
            .with_for_update()
        )
    ).all()
    await session.execute(delete(Project).where(Project.id == project_id))
    return open_turns


async def members(session: AsyncSession, project_id: UUID) -> Sequence[Member]:
    """Everybody in a project, by name."""
    rows = await session.execute(
        select(ProjectMember, User.name, User.email, User.active)
        .join(User, User.id == ProjectMember.user_id)
        .where(ProjectMember.project_id == project_id)
        .order_by(User.name, User.id)
    )
    return [
        Member(row.user_id, name, email, row.role, active, row.created_at)
        for row, name, email, active in rows
    ]


async def set_member(
    session: AsyncSession, tenant_id: UUID, project_id: UUID, user_id: UUID, role: Role
) -> None:
    """Give a person of the tenant a role in a project; call with the project locked.

    Raises:
        NotFound: No such active person in the tenant.
        Conflict: The project would be left without an owner.
    """
    if await session.scalar(select(User.id).where(User.id == user_id, User.active)) is None:
        raise NotFound
    await session.execute(
        insert(ProjectMember)
        .values(project_id=project_id, user_id=user_id, tenant_id=tenant_id, role=role.wire)
        .on_conflict_do_update(index_elements=["project_id", "user_id"], set_={"role": role.wire})
    )
    await _require_an_owner(session, project_id)


async def drop_member(session: AsyncSession, project_id: UUID, user_id: UUID) -> None:
    """Take a person out of a project; call with the project locked.

    Raises:
        NotFound: He is not in it.
        Conflict: The project would be left without an owner.
    """
    dropped = await session.scalar(
        delete(ProjectMember)
        .where(ProjectMember.project_id == project_id, ProjectMember.user_id == user_id)
        .returning(ProjectMember.user_id)
    )
    if dropped is None:
        raise NotFound
    await _require_an_owner(session, project_id)


async def _require_an_owner(session: AsyncSession, project_id: UUID) -> None:
    owners = await session.scalar(
        select(func.count())
        .select_from(ProjectMember)
        .join(User, User.id == ProjectMember.user_id)
        .where(
            ProjectMember.project_id == project_id,
            ProjectMember.role == Role.OWNER.wire,
            User.active,
        )
    )
    if not owners:
        raise Conflict("A project keeps at least one owner. Make somebody else owner first.")
