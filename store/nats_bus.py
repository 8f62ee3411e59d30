"""The bus over NATS: many more notices a second than one PostgreSQL carries, and no load on it.

Notices of the log's growth are sent right after the commit by whoever committed. Dying in between
loses one; the edges' regular look into the log finds what it spoke of.
"""

import asyncio
import contextlib

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from typing_extensions import override

from store.bus import MAX_PAYLOAD_BYTES, Announce, Handler, Listener, Publisher, Signer
from store.nats_connection import FAILURES, NatsClient, NatsConnection

log = structlog.get_logger(__name__)

SUBJECTS = "everturn."
# Growth that waits for the server to come back: the newest of each room, so few bytes each.
MAX_WAITING_ROOMS = 10_000
# Handlers only queue, so that more than this waits behind a loop that stood still.
MAX_QUEUED_NOTICES = 10_000
MAX_QUEUED_BYTES = 16 * 1024 * 1024


class NatsPublisher(Publisher):
    """Sends with natural batching: while one batch is on its way, the next one collects.

    Each batch ends with a round trip, so a server that hangs is noticed, and nothing piles up in
    front of it. While there is no server, signed bodies are dropped and growth is kept.

    Args:
        url: Where the server is; see `store.nats_connection.NatsConnection`.
        signer: Signs what is sent.
    """

    def __init__(self, url: str, signer: Signer) -> None:
        self._signer = signer
        self._connection = NatsConnection(url, "everturn-bus", self._opened)
        self._waiting: list[tuple[str, str, asyncio.Future[None]]] = []
        self._grown: dict[str, str] = {}
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    @override
    def announce(self) -> Announce | None:
        return self._announce

    def _announce(self, channel: str, payload: str) -> None:
        # The newest number says what the older ones would have said.
        self._grown.pop(channel, None)
        self._grown[channel] = payload
        if len(self._grown) > MAX_WAITING_ROOMS:
            del self._grown[next(iter(self._grown))]
        self._filled.set()

    @override
    async def start(self) -> None:
        self._connection.start()
        self._task = asyncio.create_task(self._run(), name="bus-publisher")

    @override
    async def publish(self, channel: str, body: bytes) -> None:
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((channel, self._signer.seal(channel, body), sent))
        self._filled.set()
        await sent

    async def _opened(self, client: NatsClient) -> None:
        # Nobody listens there: whoever may not publish is told so now, not with each notice.
        await client.publish(SUBJECTS + "hello")
        await client.probe()
        self._filled.set()

    async def _run(self) -> None:
        while not self._closing:
            await self._filled.wait()
            self._filled.clear()
            client = self._connection.client
            batch, self._waiting = self._waiting, []
            try:
                if client is not None:
                    await self._send(client, batch)
            except Exception as exc:  # noqa: BLE001 -- whatever it was, the next batch must go out
                log.warning("bus_publish_failed", error=type(exc).__name__, notices=len(batch))
                if client is not None:
                    self._connection.drop(client)
            finally:
                for *_, sent in batch:
                    if not sent.done():
                        sent.set_result(None)

    async def _send(
        self, client: NatsClient, batch: list[tuple[str, str, asyncio.Future[None]]]
    ) -> None:
        # Bodies first: a text's last piece goes out before the news of its end.
        grown = dict(self._grown)
        for channel, payload, _ in batch:
            await client.publish(SUBJECTS + channel, payload.encode())
        for channel, payload in grown.items():
            await client.publish(SUBJECTS + channel, payload.encode())
        await client.probe()
        for channel, payload in grown.items():
            if self._grown.get(channel) == payload:
                del self._grown[channel]

    @override
    async def close(self) -> None:
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        client = self._connection.client
        if client is not None and (self._waiting or self._grown):
            with contextlib.suppress(*FAILURES):
                await self._send(client, self._waiting)
        for *_, sent in self._waiting:
            sent.cancel()
        await self._connection.close()


class NatsListener(Listener):
    """One subscription per channel, on one connection.

    Args:
        url: Where the server is; see `store.nats_connection.NatsConnection`.
    """

    def __init__(self, url: str) -> None:
        self._connection = NatsConnection(url, "everturn-listen", self._opened, self._missed)
        self._handlers: dict[str, Handler] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = asyncio.Lock()

    @property
    @override
    def connected(self) -> bool:
        return self._connection.client is not None

    @override
    async def start(self) -> None:
        self._connection.start()

    @override
    async def close(self) -> None:
        await self._connection.close()

    @override
    async def subscribe(self, channel: str, handler: Handler) -> None:
        async with self._changed:
            self._handlers[channel] = handler
            client = self._connection.client
            if client is not None:
                try:
                    await self._listen(client, channel)
                    await client.probe()
                except FAILURES:
                    self._connection.drop(client)

    @override
    async def unsubscribe(self, channel: str) -> None:
        async with self._changed:
            self._handlers.pop(channel, None)
            subscription = self._subscriptions.pop(channel, None)
            if subscription is not None:
                with contextlib.suppress(*FAILURES):
                    await subscription.unsubscribe()

    async def _opened(self, client: NatsClient) -> None:
        async with self._changed:
            self._subscriptions.clear()
            for channel in list(self._handlers):
                await self._listen(client, channel)
            await client.probe()
            for handler in list(self._handlers.values()):
                handler(None)

    async def _listen(self, client: NatsClient, channel: str) -> None:
        self._subscriptions[channel] = await client.subscribe(
            SUBJECTS + channel,
            cb=self._receive,
            pending_msgs_limit=MAX_QUEUED_NOTICES,
            pending_bytes_limit=MAX_QUEUED_BYTES,
        )

    async def _receive(self, message: Msg) -> None:
        # Whoever reaches the server can send anything; what is not from us is longer or unsigned.
        handler = self._handlers.get(message.subject.removeprefix(SUBJECTS))
        if handler is not None and len(message.data) <= MAX_PAYLOAD_BYTES:
            handler(message.data.decode(errors="replace"))

    def _missed(self, subject: str) -> None:
        handler = self._handlers.get(subject.removeprefix(SUBJECTS))
        if handler is not None:
            handler(None)
