"""One connection to a NATS server that comes back by itself.

nats-py's own reconnect waits for a server that hangs (it flushes and closes politely first), and
keeps what was published meanwhile, which for us is stale. So each `Client` here lives for one
connection: it is probed, dropped without a word when the answer stays away, and a new one is made.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from nats.aio.client import PING_PROTO, Client
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError
from nats.protocol.parser import PERMISSIONS_ERR
from typing_extensions import override

log = structlog.get_logger(__name__)

DEFAULT_PORT = 4222
CONNECT_SECONDS = 2
# A server that hangs is noticed after the two of them at the latest.
WATCHDOG_SECONDS = 2.0
PROBE_SECONDS = 2.0
RECONNECT_SECONDS = (0.05, 0.1, 0.3, 1.0)
# One line when it goes and one when it is back; in between a reminder now and then.
REMIND_ATTEMPTS = 60

FAILURES = (OSError, TimeoutError, NatsError)


class NatsClient(Client):
    """One connection's worth of client, with an ordered probe and an end that never waits."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refused = ""
        self._tls = tls

    async def end(self) -> None:
        """Mark the connection as ended."""
        if not self.ended.done():
            self.ended.set_result(None)

    @override
    def _connect_command(self) -> bytes:
        # The next thing to be sent is the password, and nats-py would send it in the clear to
        # whoever claims to be a server without TLS.
        if self._tls and not self._server_info.get("tls_required"):
            raise ConnectionError("the URL says tls:// and the server offers no TLS")
        return super()._connect_command()

    async def probe(self) -> None:
        """Wait until the server has read everything that was sent before.

        Raises:
            ConnectionError: It refused something, or did not answer within `PROBE_SECONDS`.
        """
        # `flush` would write its PING past what still waits to be written, and is content when the
        # reader has died.
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        await self._send_command(PING_PROTO)
        await self._flush_pending()
        await asyncio.wait(
            (pong, self.ended), timeout=PROBE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if self.refused or not pong.done():
            raise ConnectionError(self.refused or "no answer")

    async def discard(self) -> None:
        """End the connection now; what was not sent is lost."""
        # Closing politely would wait until a hanging server has read what is buffered.
        self._pending.clear()
        self._pending_data_size = 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(1):
                await self.close()


class NatsConnection:
    """Keeps one `NatsClient` connected for as long as it is open.

    Args:
        url: ``nats://`` or ``tls://[user:password@]host[:port]``; a user alone is a token.
        name: Shown by the server's monitoring.
        opened: Prepares a new connection before `client` shows it.
        missed: Called with the subject when the server sent more than could be taken in.
    """

    def __init__(
        self,
        url: str,
        name: str,
        opened: Callable[[NatsClient], Awaitable[None]],
        missed: Callable[[str], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "tls"
        # Once: loading the certificates of the world takes a while.
        self._context = ssl.create_default_context() if self._tls else None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._server = f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORT}"
        # nats-py neither decodes what stands in a URL nor keeps it out of its messages.
        user = unquote(parts.username or "")
        self._credentials: dict[str, Any] = {}
        if parts.password is not None:
            self._credentials = {"user": user, "password": unquote(parts.password)}
        elif user:
            self._credentials = {"token": user}
        self._name = name
        self._opened = opened
        self._missed = missed
        self._client: NatsClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._broken = asyncio.Event()
        self._failures = 0
        self._closing = False

    @property
    def client(self) -> NatsClient | None:
        """The connection, while there is one."""
        return self._client

    def start(self) -> None:
        """Connect in the background and stay connected."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    def drop(self, client: NatsClient) -> None:
        """Give a connection up, because something on it failed, and make a new one."""
        if self._client is client:
            self._client = None
            self._broken.set()

    async def close(self) -> None:
        """Disconnect for good."""
        self._closing = True
        self._broken.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._live()
            except Exception as exc:  # noqa: BLE001 -- whatever it was, the bus has to come back
                if self._failures % REMIND_ATTEMPTS == 0:
                    log.warning(
                        "bus_connection_lost",
                        connection=self._name,
                        error=type(exc).__name__,
                        reason=str(exc)[:200],
                    )
            wait = RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)]
            self._failures += 1
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter

    async def _live(self) -> None:
        """One connection, from its beginning to its failure."""
        client = NatsClient(tls=self._tls)
        self._broken.clear()
        try:
            # Twice: nats-py tries a server that refuses a second time before it says so.
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await client.connect(
                    [self._server],
                    name=self._name,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_SECONDS,
                    ping_interval=3600,  # `_watch` asks more often, and listens to the answer
                    pending_size=0,  # what cannot be sent now is not kept
                    error_cb=partial(self._note, client),
                    tls=self._context,
                    closed_cb=client.end,
                    **self._credentials,
                )
            await self._opened(client)
            self._client = client
            if self._failures:
                log.info("bus_connected", connection=self._name, attempts=self._failures)
            self._failures = 0
            await self._watch(client)
        finally:
            self._client = None
            await client.discard()

    async def _watch(self, client: NatsClient) -> None:
        # A dead peer sends no FIN: ask it regularly, so that silence is noticed.
        broken = asyncio.create_task(self._broken.wait())
        try:
            while not self._closing:
                await asyncio.wait(
                    (broken, client.ended),
                    timeout=WATCHDOG_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if client.ended.done():
                    raise ConnectionError("the server hung up")
                if broken.done():
                    raise ConnectionError("no answer")
                await client.probe()
        finally:
            broken.cancel()

    async def _note(self, client: NatsClient, error: Exception) -> None:
        # Whatever ends the connection is seen, and said once, by `_run`.
        if isinstance(error, SlowConsumerError):
            if self._missed is not None:
                self._missed(error.subject)
        elif PERMISSIONS_ERR in str(error):
            client.refused = str(error)
        elif not isinstance(error, FAILURES):
            log.warning("bus_handler_failed", error=type(error).__name__)
