"""Who is asking. Mints the `Principal` from a cookie, a Bearer token or a socket ticket.

A browser's cookie is only believed together with an Origin of our own: browsers send the header
with every unsafe request and every socket, so another site's page gets nowhere with it. Programs
send no Origin; with a cookie they must at least send JSON, which no plain form can.
"""

from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import text
from starlette.requests import HTTPConnection

from api.state import CurrentEdge, Edge
from store.errors import Forbidden, Unauthenticated
from store.principal import Principal
from store.secrets import hash_token
from store.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SIGN_IN_TEXT = "Sign in first: there is no session, or it has ended."


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


async def _find(edge: Edge, function: str, token: str) -> Any:
    async with edge.database.session() as session:
        statement = text(f"SELECT * FROM {function}(:hash)")  # noqa: S608 -- our own three names
        return (await session.execute(statement, {"hash": hash_token(token)})).one_or_none()


async def by_session(edge: Edge, token: str) -> Principal | None:
    """Whoever a session cookie belongs to."""
    row = await _find(edge, "find_session", token)
    return _principal(row, session_id=row.session_id) if row else None


async def by_api_token(edge: Edge, token: str) -> Principal | None:
    """Whoever a personal API token belongs to, with its scopes."""
    row = await _find(edge, "find_api_token", token)
    return _principal(row, token_id=row.token_id, scopes=frozenset(row.scopes)) if row else None


async def by_ticket(edge: Edge, ticket: str) -> Principal | None:
    """Whoever drew a socket ticket; the ticket is used up."""
    row = await _find(edge, "take_socket_ticket", ticket)
    return _principal(row, session_id=row.session_id) if row else None


def _principal(row: Any, **credential: Any) -> Principal:
    return Principal(
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        email=row.email,
        name=row.name,
        role=row.role,
        installation_admin=row.installation_admin,
        expires_at=row.expires_at,
        **credential,
    )


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
