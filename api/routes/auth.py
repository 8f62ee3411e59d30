"""Signing in and out. What belongs to the signed-in person is in `credentials` and `invites`."""

from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of, check_browser
from api.bodies import Address, Body, Password
from api.routes import credentials, invites
from api.sessions import (
    SignedIn,
    begin_session,
    clear_cookie,
    end_cookie_session,
    from_our_page,
    host_of,
    signed_in,
)
from api.state import CurrentEdge, Edge
from store import audit, people, tenants, tokens
from store.audit import Actor
from store.errors import Forbidden, RateLimited, Unauthenticated
from store.tables import User

router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=AuditedRoute)
router.include_router(credentials.router)
router.include_router(invites.router)

WRONG_TEXT = "The e-mail address or the password is wrong."


class Login(Body):
    """A sign-in."""

    email: Address
    password: Password


class Ticket(BaseModel):
    """A ticket for one socket; `expires_in` is in seconds."""

    ticket: str
    expires_in: int


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
    return await begin_session(request, response, edge, user, "session.begin")


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


@router.post("/logout", status_code=204)
async def logout(request: Request, response: Response, edge: CurrentEdge) -> None:
    """End the session and its sockets; no error when it has ended already."""
    check_browser(request, edge.settings)
    await end_cookie_session(request, edge, "logout")
    clear_cookie(response, edge)


@router.get("/me")
async def me(principal: CurrentPrincipal, edge: CurrentEdge) -> SignedIn:
    """Who the session or the token belongs to."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return signed_in(principal, await tenants.get(session))


@router.post("/ws-ticket")
async def ws_ticket(principal: CurrentPrincipal, edge: CurrentEdge) -> Ticket:
    """A ticket that opens one socket, for a page of another origin."""
    if principal.session_id is None:
        # A ticket would outlive the token and forget its scopes.
        raise Forbidden("An API token opens a socket itself: send it as Authorization: Bearer.")
    async with edge.database.tenant_session(principal.tenant_id) as session:
        ticket = await tokens.add_ticket(
            session, principal.tenant_id, principal.user_id, principal.session_id
        )
    return Ticket(ticket=ticket, expires_in=int(tokens.TICKET_LIFETIME.total_seconds()))
