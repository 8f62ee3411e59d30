"""People at the reference client: they come back by themselves and send again what had no ack."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass

import httpx
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.chaos.arena import Arena, Tenant
from tests.client import RoomClient

# How long a person keeps trying to get one message accepted.
PATIENCE_SECONDS = 90.0
WAIT_AGAIN = {"unavailable", "busy", "rate_limited", "internal_error"}
TROUBLE = (OSError, TimeoutError, WebSocketException, InvalidHandshake, httpx.HTTPError)


@dataclass
class Asked:
    """A message as its sender knows it; times are monotonic seconds.

    Attributes:
        tokens: How many tokens of text the answer has, None where that is not the point.
        expected: Turn statuses that are right for it.
        sends: How often it was sent until somebody acked it.
    """

    tenant: Tenant
    conversation: str
    client_message_id: str
    content: str
    tokens: int | None
    expected: frozenset[str]
    most_calls: int
    sent_at: float = 0.0
    acked_at: float = 0.0
    ended_at: float = 0.0
    message_id: str = ""
    turn_id: str = ""
    status: str = ""
    sends: int = 0
    refused: str = ""


class Person:
    """One member with one socket, kept open across whatever happens to the edges."""

    def __init__(self, arena: Arena, tenant: Tenant, who: str, edge: int) -> None:
        self.arena = arena
        self.tenant = tenant
        self.who = who
        self.edge = edge
        edges = arena.system.edges
        self.room = RoomClient(
            getattr(tenant.team, who), edges[edge % len(edges)].ws, tenant.team.project_id
        )
        self.returns: list[float] = []
        self.assertions: list[str] = []
        self._keeper: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    async def arrive(self) -> None:
        """Join, and from then on stay joined."""
        await self._connect(None)
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper-{self.who}")

    async def leave(self) -> None:
        """Go for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        with contextlib.suppress(*TROUBLE):
            await self.room.drop()

    async def _connect(self, after_seq: int | None) -> None:
        """Try edge after edge with growing, jittered waits, as a page does."""
        self._up.clear()
        lost = time.monotonic()
        wait = 0.1
        while True:
            edges = self.arena.system.edges
            try:
                async with asyncio.timeout(12):
                    await self.room.connect(
                        after_seq=after_seq, ws_url=edges[self.edge % len(edges)].ws
                    )
                break
            except AssertionError as wrong:
                self.assertions.append(str(wrong)[:200])
                raise
            except TROUBLE:
                with contextlib.suppress(*TROUBLE, AttributeError):
                    await self.room.drop()
                self.edge += 1
                await asyncio.sleep(random.uniform(0, wait))
                wait = min(wait * 2, 2.0)
        self._up.set()
        if after_seq is not None:
            self.returns.append(time.monotonic() - lost)

    async def _keep(self) -> None:
        while True:
            await self.room.gone()
            self.edge += 1
            await self._connect(self.room.state.seq)

    async def ask(self, asked: Asked) -> bool:
        """Send until it is acked; whether it ever was."""
        asked.sent_at = time.monotonic()
        while time.monotonic() - asked.sent_at < PATIENCE_SECONDS:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._up.wait()
                asked.sends += 1
                reply = await self.room.ask(
                    asked.conversation, asked.content, client_message_id=asked.client_message_id
                )
            except TROUBLE:
                await asyncio.sleep(0.2)
                continue
            data = reply["data"]
            if reply["type"] == "ack":
                asked.acked_at = time.monotonic()
                asked.message_id, asked.turn_id = data["message_id"], data["turn_id"]
                return True
            asked.refused = data["code"]
            if data["code"] not in WAIT_AGAIN:
                return False
            await asyncio.sleep((data.get("retry_after_ms") or 300) / 1000)
        return False

    async def see_end(self, asked: Asked, timeout: float) -> None:
        """Wait until this person's page shows that the turn has ended."""
        with contextlib.suppress(TimeoutError):
            asked.status = await self.room.turn(asked.turn_id, timeout=timeout)
            asked.ended_at = time.monotonic()

    async def stop(self, asked: Asked) -> bool:
        """Press stop until it is acked; whether it was."""
        for _ in range(100):
            try:
                await self._up.wait()
                frame_id = await self.room.send("stop_turn", {"turn_id": asked.turn_id})
                reply = await self.room.reply(frame_id)
            except TROUBLE:
                await asyncio.sleep(0.2)
                continue
            if reply["type"] == "ack":
                return True
            await asyncio.sleep(0.3)
        return False

    def frames_text(self) -> str:
        """Everything this person was ever shown, for scans."""
        return "\n".join(str(frame) for frame in self.room.frames)
