"""One's own API tokens, browser sessions and password; part of `auth`."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, Field

from api import control
from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import Body, Items, Name, NewPassword, Password
from api.state import CurrentEdge
from store import audit, people, tokens
from store.audit import Actor
from store.database import clock
from store.errors import Forbidden, Invalid, NotFound
from store.principal import Principal
from store.tables import ApiToken

router = APIRouter(route_class=AuditedRoute)


class TokenAnswer(BaseModel):
    """A personal API token without its value."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, row: ApiToken) -> "TokenAnswer":
        """Answer for a row."""
        return cls(
            id=row.id,
            name=row.name,
            scopes=row.scopes,
            created_at=row.created_at,
            expires_at=row.expires_at,
        )


class NewTokenAnswer(TokenAnswer):
    """The one answer that carries the token itself."""

    token: str


class NewToken(Body):
    """A personal API token to be made."""

    name: Name
    scopes: list[Literal["read", "write", "admin"]] = Field(min_length=1, max_length=3)
    expires_at: AwareDatetime | None = None


class SessionAnswer(BaseModel):
    """A browser session; `current` is the asker's own."""

    id: UUID
    address: str | None
    user_agent: str | None
    created_at: datetime
    expires_at: datetime
    current: bool


class PasswordChange(Body):
    """The old password and the new."""

    current: Password
    new: NewPassword


@router.get("/tokens")
async def list_tokens(principal: CurrentPrincipal, edge: CurrentEdge) -> Items[TokenAnswer]:
    """One's own API tokens, without their values."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        rows = await tokens.api_tokens_of(session, principal.user_id)
        return Items(items=[TokenAnswer.of(row) for row in rows])


def by_browser(principal: CurrentPrincipal) -> Principal:
    """The principal, if he is at a browser: a token must not breed tokens or change the password.

    Raises:
        Forbidden: He came with a token.
    """
    if principal.session_id is None:
        raise Forbidden("Sign in with your password for this; an API token may not do it.")
    return principal


AtBrowser = Annotated[Principal, Depends(by_browser)]


@router.post("/tokens", status_code=201)
async def create_token(
    body: NewToken, principal: AtBrowser, request: Request, edge: CurrentEdge
) -> NewTokenAnswer:
    """Make an API token. Its value is in this answer and nowhere else."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        if body.expires_at is not None and body.expires_at <= await clock(session):
            raise Invalid("`expires_at` is in the past.")
        row, token = await tokens.add_api_token(
            session, principal.tenant_id, principal.user_id, body.name,
            sorted(set(body.scopes)), body.expires_at,
        )  # fmt: skip
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "token.create", "token", row.id, reason=" ".join(row.scopes),
        )  # fmt: skip
        return NewTokenAnswer(**TokenAnswer.of(row).model_dump(), token=token)


@router.delete("/tokens/{token_id}", status_code=204)
async def revoke_token(
    token_id: UUID, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> None:
    """Revoke one of one's own API tokens."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await tokens.drop_api_token(session, principal.user_id, token_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "token.revoke", "token", token_id,
        )  # fmt: skip
    await control.user(edge.publisher, principal.user_id)


@router.get("/sessions")
async def list_sessions(principal: CurrentPrincipal, edge: CurrentEdge) -> Items[SessionAnswer]:
    """One's own browser sessions."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        rows = await tokens.sessions_of(session, principal.user_id)
    return Items(
        items=[
            SessionAnswer(
                id=row.id, address=row.address, user_agent=row.user_agent,
                created_at=row.created_at, expires_at=row.expires_at,
                current=row.id == principal.session_id,
            )
            for row in rows
        ]
    )  # fmt: skip


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(
    session_id: UUID, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> None:
    """End one of one's own browser sessions and its sockets."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        if not await tokens.end_sessions(session, principal.user_id, only=session_id):
            raise NotFound
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "session.end", "session", session_id, reason="revoked",
        )  # fmt: skip
    await control.session_ended(edge.publisher, [session_id], "revoked")


@router.post("/password", status_code=204)
async def change_password(
    body: PasswordChange, principal: AtBrowser, request: Request, edge: CurrentEdge
) -> None:
    """Change one's password; every other session ends."""
    address = address_of(request)
    await edge.throttle.check(principal.email, address)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        stored = (await people.get(session, principal.user_id)).password_hash
    if not await edge.passwords.matches(body.current, stored):
        await edge.throttle.failed(principal.email, address)
        raise Invalid("`current` is not your password.")
    hashed = await edge.passwords.hash(body.new)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        user = await people.get(session, principal.user_id, lock=True)
        user.password_hash = hashed
        ended = await tokens.end_sessions(session, user.id, but=principal.session_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address), "password.change",
            "user", user.id,
        )  # fmt: skip
    await control.session_ended(edge.publisher, ended, "password_changed")
