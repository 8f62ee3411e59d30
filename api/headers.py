"""Response headers of every answer, and the refusal of bodies that are too large."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from store.errors import TooLarge

MAX_BODY_BYTES = 1024 * 1024

_FILE = re.compile(r"/api/projects/[^/]+/files/.*", re.DOTALL)

CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class SecureHeaders:
    """Adds the headers, and bounds request bodies.

    Args:
        https: Whether browsers reach us over https, so that they may be told to stay there.
    """

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        data = scope["path"].startswith("/api/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", CSP)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["X-Frame-Options"] = "DENY"
                if data:
                    headers["Cache-Control"] = "no-store"
                if self._https:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        if scope["method"] == "PUT" and _FILE.fullmatch(scope["path"]):
            # Streamed to the disk; the route holds it against the tenant's limits.
            await self._app(scope, receive, sending)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            refusal = TooLarge(f"A request body has at most {MAX_BODY_BYTES} bytes.")
            await problem(refusal)(scope, receive, sending)
            return
        await self._app(scope, _bounded(receive), sending)


def _bounded(receive: Receive) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            # The framework lets no other exception through from here.
            raise HTTPException(413, f"A request body has at most {MAX_BODY_BYTES} bytes.")
        return message

    return bounded
