"""Who is asking. Mints the `Principal` from a cookie, a Bearer token or a socket ticket.

A browser's cookie is only believed together with an Origin of our own: browsers send the header
with every unsafe request and every socket, so another site's page gets nowhere with it. Programs
send no Origin; with a cookie they must at least send JSON, which no plain form can.
"""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import text
from starlette.requests import HTTPConnection

from api.lookups import Credential, Known, principal_of_row
from api.state import CurrentEdge, Edge
from store import tenants
from store.errors import Forbidden, Unauthenticated
from store.limits import TenantLimits
from store.principal import Principal
from store.secrets import hash_token
from store.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN_TEXT = "Sign in first: there is no session, or it has ended."

_TAKE_TICKET = text("SELECT * FROM take_socket_ticket(:hash)")


def cookie_name(settings: Settings) -> str:
    """``__Host-`` binds the cookie to the host and to https; plain http cannot carry it."""
    return "__Host-everturn" if is_https(settings) else "everturn"


def is_https(settings: Settings) -> bool:
    """Whether browsers reach us over https."""
    return any(origin.startswith("https://") for origin in settings.origins)


def address_of(connection: HTTPConnection) -> str:
    """The peer's address, as the server was told to trust it."""
    return connection.client.host if connection.client else "unknown"


def bearer_of(connection: HTTPConnection) -> str | None:
    """The Bearer token, if one was sent."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def known_by_session(edge: Edge, token: str) -> Known | None:
    """Whoever a session cookie belongs to, and the limits of his tenant."""
    return await edge.lookups.credentials.get(Credential("session", hash_token(token)))


async def known_by_api_token(edge: Edge, token: str) -> Known | None:
    """Whoever a personal API token belongs to, with its scopes, and the limits of his tenant."""
    return await edge.lookups.credentials.get(Credential("token", hash_token(token)))


async def known_by_ticket(edge: Edge, ticket: str) -> Known | None:
    """Whoever drew a socket ticket, and the limits of his tenant; the ticket is used up."""
    rows = await edge.database.ask(_TAKE_TICKET, {"hash": hash_token(ticket)})
    if not rows:
        return None
    principal = principal_of_row(rows[0])
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return Known(principal, TenantLimits.of((await tenants.get(session)).limits))


async def by_session(edge: Edge, token: str) -> Principal | None:
    """Whoever a session cookie belongs to."""
    known = await known_by_session(edge, token)
    return known.principal if known else None


async def by_api_token(edge: Edge, token: str) -> Principal | None:
    """Whoever a personal API token belongs to, with its scopes."""
    known = await known_by_api_token(edge, token)
    return known.principal if known else None


def check_browser(connection: HTTPConnection, settings: Settings) -> None:
    """Refuse a cookie that another site's page sent.

    Raises:
        Forbidden: The Origin is not one of ours, or the request is one a plain form can make.
    """
    origin = connection.headers.get("origin")
    if origin is not None:
        if origin.rstrip("/") not in settings.origins:
            raise Forbidden("This page's origin is not one of ours (PUBLIC_ORIGINS).")
        return
    if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("A request from another site may not use the session cookie.")
    length = connection.headers.get("content-length", "0")
    has_body = length != "0" or "transfer-encoding" in connection.headers
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind in ("", "text/plain", "application/x-www-form-urlencoded",
                             "multipart/form-data"):  # fmt: skip
        raise Forbidden("Send JSON (Content-Type: application/json) with the session cookie.")


async def principal_of(request: Request, edge: CurrentEdge) -> Principal:
    """Whoever sends this request.

    Raises:
        Unauthenticated: Nobody known.
        Forbidden: A cookie from another site, or a token without the scope.
    """
    token = bearer_of(request)
    if token is not None:
        principal = await by_api_token(edge, token)
        if principal is None:
            raise Unauthenticated("This API token is unknown, revoked or expired.")
        needed = "read" if request.method in SAFE_METHODS else "write"
        if not principal.scopes & {needed, "admin"}:
            raise Forbidden(f"This API token lacks the scope {needed}.")
        return principal
    cookie = request.cookies.get(cookie_name(edge.settings))
    principal = await by_session(edge, cookie) if cookie else None
    if principal is None:
        raise Unauthenticated(SIGN_IN_TEXT)
    if request.method not in SAFE_METHODS:
        check_browser(request, edge.settings)
    return principal


CurrentPrincipal = Annotated[Principal, Depends(principal_of)]


async def tenant_admin_of(principal: CurrentPrincipal) -> Principal:
    """The principal, if he administers his tenant.

    Raises:
        Forbidden: He does not, or his token may not.
    """
    if not principal.is_tenant_admin or "admin" not in principal.scopes:
        raise Forbidden("This needs a tenant administrator.")
    return principal


async def installation_admin_of(principal: CurrentPrincipal) -> Principal:
    """The principal, if he administers the installation.

    Raises:
        Forbidden: He does not, or his token may not.
    """
    if not principal.installation_admin or "admin" not in principal.scopes:
        raise Forbidden("This needs an administrator of the installation.")
    return principal


TenantAdmin = Annotated[Principal, Depends(tenant_admin_of)]
InstallationAdmin = Annotated[Principal, Depends(installation_admin_of)]
