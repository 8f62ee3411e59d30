"""The bus: wakes edges up and carries what need not be kept.

A room's channel carries two kinds of notice. ``S<seq>`` says that the log has grown; it is a hint,
and readers trust only the log. ``D…`` is a frame for the room's sockets (a delta, typing), signed
with a key only our processes have, so nobody who can merely run SQL, or reach the bus's server, can
speak in a room. Delivery is at most once; every loss is healed by the reader's own gap checks.

This module is the vocabulary. `store.postgres_bus` and `store.nats_bus` speak it, and `store.buses`
chooses between them.
"""

import base64
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from store.secrets import KeyRing

# NOTIFY takes 7,999 bytes (postgresql.org, NOTIFY); the signature and its mark take 23.
MAX_BODY_BYTES = 7_900
MAX_PAYLOAD_BYTES = 7_999
CONTROL_CHANNEL = "everturn_control"

Handler = Callable[[str | None], None]
"""Called with a payload, or with None after a reconnect, when anything may have been missed."""

Announce = Callable[[str, str], None]
"""Sends a payload to a channel after the commit it speaks of; never waits, never fails."""


def room_channel(project_id: UUID) -> str:
    """Channel of a project's room."""
    return f"room_{project_id.hex}"


def growth(head: int) -> str:
    """Payload that says how far a room's log has grown."""
    return f"S{head}"


class Publisher(Protocol):
    """Sends to whoever listens now."""

    @property
    def announce(self) -> Announce | None:
        """What `store.database.Database` calls with the notices of a transaction it has committed.

        None: the transaction itself sends them, with NOTIFY.
        """

    async def start(self) -> None:
        """Connect in the background and stay connected."""

    async def publish(self, channel: str, body: bytes) -> None:
        """Send a signed `body`; returns when it has been sent, or cannot be.

        A lost notice is healed by its readers, so a failure is logged and not raised.
        """

    async def close(self) -> None:
        """Stop sending and close the connection."""


class Listener(Protocol):
    """Hears channels, and comes back by itself."""

    @property
    def connected(self) -> bool:
        """Whether notices arrive now."""

    async def start(self) -> None:
        """Connect in the background and stay connected."""

    async def subscribe(self, channel: str, handler: Handler) -> None:
        """Call `handler` with every payload of `channel`.

        When it returns, the server listens, or the handler will be called with None once it does.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Stop calling the channel's handler."""

    async def close(self) -> None:
        """Stop listening."""


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
