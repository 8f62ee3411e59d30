"""Signing in and out; the session's owner, his sessions, tokens and password."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from api import control
from api.auth import (
    CurrentPrincipal,
    address_of,
    by_session,
    check_browser,
    cookie_name,
    is_https,
)
from api.bodies import Body, Items, Name, storable
from api.passwords import MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS
from api.state import CurrentEdge, Edge
from store import audit, people, tenants, tokens
from store.audit import Actor
from store.errors import Forbidden, Invalid, NotFound, RateLimited, Unauthenticated
from store.principal import Principal
from store.tables import ApiToken, Tenant, User

router = APIRouter(prefix="/api/auth", tags=["auth"])

WRONG_TEXT = "The e-mail address or the password is wrong."

Password = Annotated[str, Field(max_length=MAX_PASSWORD_CHARS), AfterValidator(storable)]
NewPassword = Annotated[Password, Field(min_length=MIN_PASSWORD_CHARS)]


class PersonAnswer(BaseModel):
    """Who is signed in."""

    id: UUID
    email: str
    name: str
    role: str
    installation_admin: bool


class TenantAnswer(BaseModel):
    """Where he is signed in."""

    id: UUID
    name: str
    slug: str


class SignedIn(BaseModel):
    """Answer to a sign-in, and to ``me``."""

    user: PersonAnswer
    tenant: TenantAnswer


class Login(Body):
    """A sign-in."""

    email: Annotated[str, Field(max_length=320), AfterValidator(storable)]
    password: Password


class Ticket(BaseModel):
    """A ticket for one socket; `expires_in` is in seconds."""

    ticket: str
    expires_in: int


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


def from_our_page(request: Request, edge: CurrentEdge) -> None:
    """Refuse what another site's page can send without asking: there is no session yet to protect.

    Raises:
        Forbidden: A foreign Origin, or a body that is not declared to be JSON.
    """
    check_browser(request, edge.settings)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Forbidden("Send JSON (Content-Type: application/json).")


def signed_in(user: User | Principal, tenant: Tenant) -> SignedIn:
    """Answer for somebody who is signed in."""
    return SignedIn(
        user=PersonAnswer(
            id=user.user_id if isinstance(user, Principal) else user.id,
            email=user.email,
            name=user.name,
            role=user.role,
            installation_admin=user.installation_admin,
        ),
        tenant=TenantAnswer(id=tenant.id, name=tenant.name, slug=tenant.slug),
    )


def set_cookie(response: Response, edge: Edge, token: str) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_name(edge.settings),
        token,
        max_age=int(edge.settings.session_lifetime.total_seconds()),
        path="/",
        secure=is_https(edge.settings),
        httponly=True,
        samesite="lax",
    )


async def end_cookie_session(request: Request, edge: Edge, reason: str) -> Principal | None:
    """End the session whose cookie came along, if it is one.

    Returns:
        Whose it was.
    """
    cookie = request.cookies.get(cookie_name(edge.settings))
    principal = await by_session(edge, cookie) if cookie else None
    if principal is None or principal.session_id is None:
        return None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        ended = await tokens.end_sessions(session, principal.user_id, only=principal.session_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "session.end", "session", principal.session_id, reason=reason,
        )  # fmt: skip
    await control.session_ended(edge.publisher, ended, reason)
    return principal


async def begin_session(
    request: Request, response: Response, edge: Edge, tenant_id: UUID, user_id: UUID, action: str
) -> SignedIn:
    """Sign somebody in who has proved who he is; a session the browser had before ends."""
    # A cookie value from before the sign-in must not become one from after it.
    await end_cookie_session(request, edge, "replaced")
    address = address_of(request)
    async with edge.database.tenant_session(tenant_id) as session:
        user = await people.get(session, user_id)
        token = await tokens.open_session(
            session, tenant_id, user_id, edge.settings.session_lifetime,
            address=address, user_agent=request.headers.get("user-agent"),
        )  # fmt: skip
        await audit.record(
            session, tenant_id, Actor(user.id, user.email, address), action, "user", user.id
        )
        tenant = await tenants.get(session)
    set_cookie(response, edge, token)
    return signed_in(user, tenant)


@router.post("/login", dependencies=[Depends(from_our_page)])
async def login(body: Login, request: Request, response: Response, edge: CurrentEdge) -> SignedIn:
    """Sign in with e-mail address and password; sets the session cookie."""
    email, address = body.email.strip().lower(), address_of(request)
    await edge.throttle.check(email, address)
    async with edge.database.session() as session:
        tenant_id = await people.tenant_of(session, host_of(request), email)
    user = None
    if tenant_id is not None:
        async with edge.database.tenant_session(tenant_id) as session:
            user = await people.by_email(session, email)
    stored = user.password_hash if user is not None and user.active else None
    fits = await edge.passwords.matches(body.password, stored)
    try:
        # Again: of many attempts at once, no more than the limit may learn their outcome.
        await edge.throttle.check(email, address)
    except RateLimited:
        await _record_failure(edge, tenant_id, user, email, address, "rate_limited")
        raise
    if not fits or user is None or tenant_id is None:
        await edge.throttle.failed(email, address)
        await _record_failure(edge, tenant_id, user, email, address, "wrong_credentials")
        raise Unauthenticated(WRONG_TEXT)
    return await begin_session(request, response, edge, tenant_id, user.id, "session.begin")


async def _record_failure(
    edge: Edge, tenant_id: UUID | None, user: User | None, email: str, address: str, reason: str
) -> None:
    if tenant_id is None:
        return  # nobody's audit log
    async with edge.database.tenant_session(tenant_id) as session:
        await audit.record(
            session, tenant_id, Actor(user.id if user else None, email, address),
            "session.begin", "user", user.id if user else None,
            outcome="refused", reason=reason,
        )  # fmt: skip


def host_of(request: Request) -> str:
    """Host name the browser asked for, without the port."""
    try:
        return (request.url.hostname or "").lower().rstrip(".")
    except ValueError:  # e.g. half a bracket
        return ""


@router.post("/logout", status_code=204)
async def logout(request: Request, response: Response, edge: CurrentEdge) -> None:
    """End the session and its sockets; no error when it has ended already."""
    check_browser(request, edge.settings)
    await end_cookie_session(request, edge, "logout")
    response.delete_cookie(
        cookie_name(edge.settings),
        path="/",
        secure=is_https(edge.settings),
        httponly=True,
        samesite="lax",
    )


@router.get("/me")
async def me(principal: CurrentPrincipal, edge: CurrentEdge) -> SignedIn:
    """Who the session or the token belongs to."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return signed_in(principal, await tenants.get(session))


@router.post("/ws-ticket")
async def ws_ticket(principal: CurrentPrincipal, edge: CurrentEdge) -> Ticket:
    """A ticket that opens one socket, for a page of another origin."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        ticket = await tokens.add_ticket(
            session, principal.tenant_id, principal.user_id, principal.session_id
        )
    return Ticket(ticket=ticket, expires_in=int(tokens.TICKET_LIFETIME.total_seconds()))


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
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise Invalid("`expires_at` is in the past.")
    async with edge.database.tenant_session(principal.tenant_id) as session:
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
