"""The HTTP protocol of the server, less patient with silence."""

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A connection that has not sent a whole request head by then is closed.
HANDSHAKE_SECONDS = 10.0


class PatientlessHttp(HttpToolsProtocol):
    """Closes connections that open and say nothing, or say it byte by byte."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handshake: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._handshake = self.loop.call_later(HANDSHAKE_SECONDS, transport.abort)

    @override
    def on_headers_complete(self) -> None:
        self._patient()
        super().on_headers_complete()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._patient()
        super().connection_lost(exc)

    def _patient(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
