"""Errors as ``application/problem+json`` (RFC 9457) with a stable ``code``."""

import math
import uuid

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from store.errors import Invalid, NotFound, Refusal, Unavailable

log = structlog.get_logger(__name__)

BY_STATUS = {404: "not_found", 405: "invalid", 413: "too_large", 401: "session_ended"}
AWAY = (PoolTimeout, OperationalError, InterfaceError, OSError, TimeoutError)


class Problem(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"


def problem(refusal: Refusal) -> Problem:
    """The answer that a refusal stands for."""
    body = {
        "type": "about:blank",
        "title": refusal.title,
        "status": refusal.status,
        "code": refusal.specific_code,
        "detail": refusal.detail,
    }
    if refusal.errors:
        body["errors"] = refusal.errors
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    return Problem(body, status_code=refusal.status, headers=headers)


def _out_of(exc: DBAPIError) -> bool:
    """Whether the server lacks space or memory, or its disk fails: SQLSTATE classes 53 and 58."""
    state = getattr(exc.orig, "sqlstate", None)
    return isinstance(state, str) and state[:2] in {"53", "58"}


def away(exc: BaseException) -> Unavailable | None:
    """`Unavailable` when the database, and not our code, is the reason."""
    if isinstance(exc, DBAPIError) and _out_of(exc):
        return Unavailable("The database has no room left; nothing was kept.", retry_after=5)
    lost = isinstance(exc, DBAPIError) and exc.connection_invalidated
    if lost or isinstance(exc, AWAY):
        return Unavailable("The database is away or busy; try again shortly.", retry_after=1)
    return None


def install(app: FastAPI) -> None:
    """Register the handlers; every error of the application leaves in this form."""

    async def refused(_request: Request, exc: Exception) -> Problem:
        assert isinstance(exc, Refusal)  # noqa: S101 -- registered for it
        return problem(exc)

    async def malformed(request: Request, exc: Exception) -> Problem:
        assert isinstance(exc, RequestValidationError)  # noqa: S101 -- registered for it
        # A malformed id in the path names nothing, like any unknown one.
        if any(error["loc"][:1] == ("path",) for error in exc.errors()):
            return problem(NotFound())
        # What was wrong, and where; never the value, which may be a password.
        errors = [
            {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in exc.errors()[:20]
        ]
        return problem(
            Invalid(
                "; ".join(f"{error['field']}: {error['message']}" for error in errors),
                errors=errors,
            )
        )

    async def http(_request: Request, exc: Exception) -> Problem:
        assert isinstance(exc, HTTPException)  # noqa: S101 -- registered for it
        if exc.status_code == 404:
            return problem(NotFound())
        body = {
            "type": "about:blank",
            "title": str(exc.detail),
            "status": exc.status_code,
            "code": BY_STATUS.get(exc.status_code, "invalid"),
            "detail": str(exc.detail),
        }
        return Problem(body, status_code=exc.status_code, headers=exc.headers)

    async def broken(request: Request, exc: Exception) -> Problem:
        refusal = away(exc)
        if refusal is not None:
            log.warning("dependency_away", path=request.url.path, error=type(exc).__name__)
            return problem(refusal)
        incident = uuid.uuid4().hex[:12]
        log.error("request_failed", incident=incident, path=request.url.path, exc_info=exc)
        return problem(Refusal(f"Something broke on our side. Incident {incident}."))

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    for kind in (Exception, *AWAY, DBAPIError):
        app.add_exception_handler(kind, broken)
