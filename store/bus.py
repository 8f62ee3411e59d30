"""The bus: wakes edges up and carries what need not be kept.

A room's channel carries two kinds of notice. ``S<seq>`` says that the log has grown; it is a hint,
sent by `store.rooms.append` in the transaction itself, and readers trust only the log. ``D…`` is a
frame for the room's sockets (a delta, typing), signed with a key only our processes have, so nobody
who can merely run SQL can speak in a room. Delivery is at most once; every loss is healed by the
reader's own gap checks. LISTEN needs a direct connection: a transaction pooler drops it.
"""

import asyncio
import base64
import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from store.secrets import KeyRing

log = structlog.get_logger(__name__)

# NOTIFY takes 7,999 bytes (postgresql.org, NOTIFY); the signature and its mark take 23.
MAX_BODY_BYTES = 7_900
WATCHDOG_SECONDS = 2.0
RECONNECT_SECONDS = (0.1, 0.3, 1.0, 2.0)
CONTROL_CHANNEL = "everturn_control"

_NOTIFY = (
    "SELECT pg_notify(n.channel, n.payload)"
    " FROM unnest($1::text[], $2::text[]) AS n (channel, payload)"
)

Handler = Callable[[str | None], None]
"""Called with a payload, or with None after a reconnect, when anything may have been missed."""


def room_channel(project_id: UUID) -> str:
    """Channel of a project's room."""
    return f"room_{project_id.hex}"


def plain_dsn(url: str) -> str:
    """A URL asyncpg itself understands."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


class Signer:
    """Signs bodies and opens signed payloads, per channel."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def seal(self, channel: str, body: bytes) -> str:
        """Payload that carries `body`."""
        signature = base64.urlsafe_b64encode(self._keys.sign(channel, body)).rstrip(b"=")
        return f"D{signature.decode()}{body.decode()}"

    def open(self, channel: str, payload: str) -> bytes | None:
        """Body of a payload we sealed for this channel; None for anything else."""
        signature, body = payload[1:23], payload[23:].encode()
        try:
            raw = base64.urlsafe_b64decode(signature + "==")
        except ValueError:
            return None
        return body if self._keys.verify(channel, body, raw) else None


class PostgresPublisher:
    """Sends signed bodies with NOTIFY over a connection of its own.

    Batches naturally: while one statement is in flight, bodies collect; then all go out in the
    next, in order. Commits that notify take turns in PostgreSQL, so one commit for many streams
    costs what one for each would.

    Args:
        url: Database URL of any role that may connect.
        signer: Signs what is sent.
    """

    def __init__(self, url: str, signer: Signer) -> None:
        self._url = plain_dsn(url)
        self._signer = signer
        self._waiting: list[tuple[str, str, asyncio.Future[None]]] = []
        self._filled = asyncio.Event()
        self._connection: asyncpg.Connection[Any] | None = None
        self._task: asyncio.Task[None] | None = None

    async def publish(self, channel: str, body: bytes) -> None:
        """Send `body` to whoever listens now; returns when it has been sent.

        A lost notice is healed by its readers, so a failure is logged and not raised.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="bus-publisher")
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((channel, self._signer.seal(channel, body), sent))
        self._filled.set()
        await sent

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            batch, self._waiting = self._waiting, []
            try:
                await self._send([item[0] for item in batch], [item[1] for item in batch])
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                log.warning("bus_publish_failed", error=type(exc).__name__, notices=len(batch))
                self._drop()
            for *_, sent in batch:
                if not sent.done():
                    sent.set_result(None)

    async def _send(self, channels: list[str], payloads: list[str]) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url,
                timeout=5,
                command_timeout=5,
                # Notices are not kept, so their commits need not reach the disk.
                server_settings={"application_name": "everturn-bus", "synchronous_commit": "off"},
            )
        await self._connection.execute(_NOTIFY, channels, payloads)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Stop sending and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for *_, sent in self._waiting:
            sent.cancel()
        if self._connection is not None:
            await self._connection.close(timeout=2)
            self._connection = None


class PostgresListener:
    """One LISTEN connection that comes back by itself.

    Args:
        url: Direct database URL.
    """

    def __init__(self, url: str) -> None:
        self._url = plain_dsn(url)
        self._handlers: dict[str, Handler] = {}
        self._connection: asyncpg.Connection[Any] | None = None
        self._changed = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether notices arrive now."""
        return self._connection is not None and not self._connection.is_closed()

    async def start(self) -> None:
        """Connect in the background and stay connected."""
        self._task = asyncio.create_task(self._run(), name="bus-listener")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await self._connection.close(timeout=2)

    async def subscribe(self, channel: str, handler: Handler) -> None:
        """Call `handler` with every payload of `channel`.

        When it returns, the server listens, or the handler will be called with None once it does.
        """
        async with self._changed:
            self._handlers[channel] = handler
            if self._connection is not None and self.connected:
                try:
                    await self._listen(self._connection, channel)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    self._wake.set()

    async def unsubscribe(self, channel: str) -> None:
        """Stop calling the channel's handler."""
        async with self._changed:
            known = self._handlers.pop(channel, None) is not None
            if known and self._connection is not None and self.connected:
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await self._connection.remove_listener(channel, self._receive)

    async def _listen(self, connection: "asyncpg.Connection[Any]", channel: str) -> None:
        async with asyncio.timeout(5):
            await connection.add_listener(channel, self._receive)

    def _receive(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        handler = self._handlers.get(channel)
        if handler is not None:
            handler(str(payload))

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                connection = await self._connect()
                attempt = 0
                await self._watch(connection)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                log.warning("bus_connection_lost", error=type(exc).__name__)
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            await asyncio.sleep(RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS) - 1)])
            attempt += 1

    async def _connect(self) -> "asyncpg.Connection[Any]":
        connection = await asyncpg.connect(
            self._url,
            timeout=5,
            command_timeout=5,
            server_settings={"application_name": "everturn-listen"},
        )
        async with self._changed:
            self._connection = connection
            for channel in list(self._handlers):
                await self._listen(connection, channel)
            for handler in list(self._handlers.values()):
                handler(None)
        return connection

    async def _watch(self, connection: "asyncpg.Connection[Any]") -> None:
        # A dead peer sends no FIN: ask it regularly, so that silence is noticed.
        while True:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCHDOG_SECONDS):
                    await self._wake.wait()
                    raise ConnectionError("a LISTEN failed")
            async with asyncio.timeout(5):
                await connection.execute("SELECT 1")
