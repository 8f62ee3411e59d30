"""Routes whose refusals are on record: who was refused what, in the tenant's audit log.

Pass ``route_class=AuditedRoute`` to an `APIRouter`. Nothing is written for strangers, who have no
tenant, nor for requests that were merely malformed.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from typing_extensions import override

from api.auth import address_of, bearer_of, by_api_token, by_session, cookie_name
from api.state import Edge, edge_of
from store import audit
from store.audit import Actor
from store.errors import Refusal
from store.principal import Principal

# "refused" and the two after it are codes of datasources (docs/protocol.md §6).
RECORDED = frozenset({"forbidden", "not_found", "refused", "role_too_powerful", "own_database"})


class AuditedRoute(APIRoute):
    """Writes a row for each request it refuses."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def audited(request: Request) -> Response:
            try:
                return await handle(request)
            except Refusal as refusal:
                if refusal.specific_code in RECORDED:
                    reason = ": ".join(filter(None, (refusal.specific_code, refusal.rule)))
                    await _record(request, self.name, reason)
                raise

        return audited


async def _record(request: Request, name: str, reason: str) -> None:
    edge = edge_of(request)
    principal = await _asker(request, edge)
    if principal is None:
        return
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            f"request.{name}", "request", f"{request.method} {request.url.path}",
            outcome="refused", reason=reason,
        )  # fmt: skip


async def _asker(request: Request, edge: Edge) -> Principal | None:
    token = bearer_of(request)
    if token is not None:
        return await by_api_token(edge, token)
    cookie = request.cookies.get(cookie_name(edge.settings))
    return await by_session(edge, cookie) if cookie else None
