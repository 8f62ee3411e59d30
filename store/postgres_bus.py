"""The bus over LISTEN and NOTIFY: no server beside the database.

A notice of the log's growth is sent by `store.rooms.append` in the transaction itself; here is what
is sent without one. LISTEN needs a direct connection: a transaction pooler drops it.
"""

import asyncio
import contextlib
from typing import Any

import asyncpg
import structlog
from typing_extensions import override

from store.bus import Announce, Handler, Listener, Publisher, Signer

log = structlog.get_logger(__name__)

WATCHDOG_SECONDS = 2.0
RECONNECT_SECONDS = (0.1, 0.3, 1.0, 2.0)

_NOTIFY = (
    "SELECT pg_notify(n.channel, n.payload)"
    " FROM unnest($1::text[], $2::text[]) AS n (channel, payload)"
)


def plain_dsn(url: str) -> str:
    """A URL asyncpg itself understands."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


class PostgresPublisher(Publisher):
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

    @property
    @override
    def announce(self) -> Announce | None:
        return None

    @override
    async def start(self) -> None:
        """Nothing to prepare: the first notice connects."""

    @override
    async def publish(self, channel: str, body: bytes) -> None:
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

    @override
    async def close(self) -> None:
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


class PostgresListener(Listener):
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
    @override
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    @override
    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="bus-listener")

    @override
    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await self._connection.close(timeout=2)

    @override
    async def subscribe(self, channel: str, handler: Handler) -> None:
        async with self._changed:
            self._handlers[channel] = handler
            if self._connection is not None and self.connected:
                try:
                    await self._listen(self._connection, channel)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    self._wake.set()

    @override
    async def unsubscribe(self, channel: str) -> None:
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
