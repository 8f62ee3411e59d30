"""The server's protocols, less patient with silence and with peers that do not read."""

import asyncio
import socket
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# A connection that has not sent a whole request head by then is closed.
HANDSHAKE_SECONDS = 10.0
# A socket whose application has ended keeps its connection this long: the server waits 10 s for
# the peer's close frame, and for whoever reads nothing it would wait for ever.
ABORT_SECONDS = 11.0
# What waits in the kernel beyond what is on its way: whatever a slow reader leaves unread collects
# where it is counted (api.ws.MAX_QUEUED_BYTES), not in megabytes of the kernel's.
UNSENT_BYTES = 128 * 1024
GOING_AWAY = 1001


class PatientlessHttp(HttpToolsProtocol):
    """Closes connections that open and say nothing, or say it byte by byte."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handshake: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    @override
    def on_message_begin(self) -> None:
        # The next request of a connection that is kept has as long as the first.
        self._await_head()
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._patient()
        super().on_headers_complete()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._patient()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._handshake is None:
            self._handshake = self.loop.call_later(HANDSHAKE_SECONDS, self.transport.abort)

    def _patient(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None


class PatientlessSocket(WebSocketsSansIOProtocol):
    """Lets go of peers that do not read, and says where to go when the server stops."""

    _letting_go: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    @override
    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            # Kept for nothing, as long as the socket lives.
            self.request = self.response = None  # type: ignore[assignment]

    @override
    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._let_go()

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._let_go()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._letting_go is not None:
            self._letting_go.cancel()

    def _let_go(self) -> None:
        """Abort the connection if what was written to it is still unread by then."""
        if not self.disconnected and self._letting_go is None:
            self._letting_go = self.loop.call_later(ABORT_SECONDS, self.transport.abort)

    @override
    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY})
            self.conn.send_close(GOING_AWAY, "this server is going away")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()
