"""Browser sessions: the cookie, how a session begins and how it ends."""

from uuid import UUID

from fastapi import Request, Response
from pydantic import BaseModel

from api import control
from api.auth import address_of, by_session, check_browser, cookie_name, is_https
from api.state import CurrentEdge, Edge
from store import audit, people, tenants, tokens
from store.audit import Actor
from store.errors import Forbidden, Unauthenticated
from store.principal import Principal
from store.tables import Tenant, User


class PersonAnswer(BaseModel):
    """Who is signed in."""

    id: UUID
    email: str
    name: str
    role: str
    installation_admin: bool


class SignedInTenant(BaseModel):
    """Where he is signed in."""

    id: UUID
    name: str
    slug: str


class SignedIn(BaseModel):
    """Answer to a sign-in, and to ``me``."""

    user: PersonAnswer
    tenant: SignedInTenant


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
        tenant=SignedInTenant(id=tenant.id, name=tenant.name, slug=tenant.slug),
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
    request: Request, response: Response, edge: Edge, user: User, action: str
) -> SignedIn:
    """Sign somebody in who has proved who he is; a session the browser had before ends.

    Args:
        user: His row as it was when he proved it.
        action: How, for the audit log.

    Raises:
        Unauthenticated: What he proved it with has been changed since.
    """
    # A cookie value from before the sign-in must not become one from after it.
    await end_cookie_session(request, edge, "replaced")
    address = address_of(request)
    async with edge.database.tenant_session(user.tenant_id) as session:
        now = await people.get(session, user.id, lock=True)
        if not now.active or now.password_hash != user.password_hash:
            raise Unauthenticated("The account was changed meanwhile. Sign in again.")
        token = await tokens.open_session(
            session, now.tenant_id, now.id, edge.settings.session_lifetime,
            address=address, user_agent=request.headers.get("user-agent"),
        )  # fmt: skip
        await audit.record(
            session, now.tenant_id, Actor(now.id, now.email, address), action, "user", now.id
        )
        tenant = await tenants.get(session)
    set_cookie(response, edge, token)
    return signed_in(now, tenant)


def clear_cookie(response: Response, edge: Edge) -> None:
    """Take the session from the browser."""
    response.delete_cookie(
        cookie_name(edge.settings),
        path="/",
        secure=is_https(edge.settings),
        httponly=True,
        samesite="lax",
    )


def host_of(request: Request) -> str:
    """Host name the browser asked for, without the port."""
    try:
        return (request.url.hostname or "").lower().rstrip(".")
    except ValueError:  # e.g. half a bracket
        return ""
