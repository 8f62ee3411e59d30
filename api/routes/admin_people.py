"""People of the tenant, as its administrators see and change them; part of `admin`."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api import control
from api.audited import AuditedRoute
from api.auth import TenantAdmin, address_of
from api.bodies import (
    DEFAULT_PAGE,
    Body,
    Cursor,
    Email,
    Items,
    Limit,
    Name,
    NewPassword,
    cursor_of,
    place_of,
)
from api.invites import LIFETIMES, Invite, Purpose, public_origin
from api.state import CurrentEdge, Edge
from store import audit, people, tokens
from store.audit import Actor
from store.database import clock
from store.errors import Conflict, Forbidden
from store.principal import Principal
from store.tables import User

router = APIRouter(prefix="/users", route_class=AuditedRoute)


class UserAnswer(BaseModel):
    """A person; one without a password has not taken up his invitation yet."""

    id: UUID
    email: str
    name: str
    role: str
    active: bool
    installation_admin: bool
    has_password: bool
    created_at: datetime
    invite_url: str | None = None

    @classmethod
    def of(cls, row: User, invite_url: str | None = None) -> "UserAnswer":
        """Answer for a row."""
        return cls(
            id=row.id, email=row.email, name=row.name, role=row.role, active=row.active,
            installation_admin=row.installation_admin,
            has_password=row.password_hash is not None, created_at=row.created_at,
            invite_url=invite_url,
        )  # fmt: skip


class NewUser(Body):
    """A person to be added; without a password the answer carries a link to choose one."""

    email: Email
    name: Name
    role: Literal["admin", "member"] = "member"
    password: NewPassword | None = None


class UserChange(Body):
    """What to change."""

    role: Literal["admin", "member"] | None = None
    active: bool | None = None


class LinkAnswer(BaseModel):
    """A link with which its person sets his password once."""

    purpose: Purpose
    url: str
    expires_in: int


def invite_url(edge: Edge, user: User) -> str:
    """Link for somebody who has just been added and has no password yet."""
    return Invite.to(user, "invite", user.created_at).url(edge.keys, public_origin(edge.settings))


def _may_change(principal: Principal, user: User) -> None:
    # Or a tenant's administrator could make himself a way into the installation's account.
    if user.installation_admin and not principal.installation_admin:
        raise Forbidden("Only an administrator of the installation may change another one.")


@router.get("")
async def list_users(
    principal: TenantAdmin, edge: CurrentEdge, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Items[UserAnswer]:
    """Everybody of the tenant, by address."""
    after = place_of(cursor, str, UUID)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        found = await people.page(session, after=after, limit=limit)
    more, found = len(found) > limit, found[:limit]
    return Items(
        items=[UserAnswer.of(user) for user in found],
        next_cursor=cursor_of(found[-1].email, found[-1].id) if more else None,
    )


@router.post("", status_code=201)
async def create_user(
    body: NewUser, principal: TenantAdmin, request: Request, edge: CurrentEdge
) -> UserAnswer:
    """Add somebody to the tenant."""
    hashed = await edge.passwords.hash(body.password) if body.password else None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        user = await people.add(
            session, principal.tenant_id, body.email, body.name, body.role, password_hash=hashed
        )
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "user.create", "user", user.id, reason=body.role,
        )  # fmt: skip
    return UserAnswer.of(user, None if hashed else invite_url(edge, user))


@router.get("/{user_id}")
async def get_user(user_id: UUID, principal: TenantAdmin, edge: CurrentEdge) -> UserAnswer:
    """One person."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return UserAnswer.of(await people.get(session, user_id))


@router.patch("/{user_id}")
async def change_user(
    user_id: UUID,
    body: UserChange,
    principal: TenantAdmin,
    request: Request,
    edge: CurrentEdge,
) -> UserAnswer:
    """Change somebody's role, or let him in or keep him out; somebody must remain administrator."""
    ended: list[UUID] = []
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await people.lock_admins(session)
        user = await people.get(session, user_id, lock=True)
        _may_change(principal, user)
        if body.role is not None:
            user.role = body.role
        if body.active is not None:
            user.active = body.active
        await people.require_an_admin(session)
        if not user.active:
            if user.id == principal.user_id and user.installation_admin:
                raise Conflict("You administer the installation; you cannot shut yourself out.")
            ended = list(await tokens.end_sessions(session, user.id))
            await tokens.drop_api_tokens(session, user.id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "user.update", "user", user.id,
            reason=f"role={user.role} active={str(user.active).lower()}",
        )  # fmt: skip
    await control.session_ended(edge.publisher, ended, "deactivated")
    await control.user(edge.publisher, user_id)
    return UserAnswer.of(user)


@router.delete("/{user_id}/sessions", status_code=204)
async def end_user_sessions(
    user_id: UUID, principal: TenantAdmin, request: Request, edge: CurrentEdge
) -> None:
    """Sign somebody out everywhere."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        user = await people.get(session, user_id)
        ended = await tokens.end_sessions(session, user.id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "session.end", "user", user.id, reason="revoked",
        )  # fmt: skip
    await control.session_ended(edge.publisher, ended, "revoked")


@router.post("/{user_id}/link", status_code=201)
async def create_link(
    user_id: UUID, principal: TenantAdmin, request: Request, edge: CurrentEdge
) -> LinkAnswer:
    """A link to pass on: an invitation, or a new password for somebody who forgot his."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        user = await people.get(session, user_id)
        _may_change(principal, user)
        if not user.active:
            raise Conflict("This person is shut out. Let him in first.")
        now = await clock(session)
        purpose: Purpose = "invite" if user.password_hash is None else "reset"
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "user.link", "user", user.id, reason=purpose,
        )  # fmt: skip
    return LinkAnswer(
        purpose=purpose,
        url=Invite.to(user, purpose, now).url(edge.keys, public_origin(edge.settings)),
        expires_in=int(LIFETIMES[purpose].total_seconds()),
    )
