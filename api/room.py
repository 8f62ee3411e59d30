"""One room of this edge: the bus on one side, the sockets of its members on the other.

Durable events are read from the log, serialised once, and handed as the same text to every socket.
Deltas come in the notice itself. Whatever the bus loses is healed here: numbers show a hole in the
log, offsets show a hole in a text, and both are filled from the database before anything after
them is passed on. Sockets therefore see no hole, and nobody is ever waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.live import LiveRoom, LiveText, LiveTurn
from api.missed import MissedEvents
from api.presence import Presence
from store import messages, rooms, turns
from store.bus import Signer, growth, room_channel
from store.database import Lane
from store.live import frame
from store.principal import Principal
from store.rooms import StoredEvent

log = structlog.get_logger(__name__)

READ_BATCH = 500
RETRY_SECONDS = 0.5
CHECKPOINT_WAIT_SECONDS = 0.1
# After so many characters of a batch the sockets' writers get their turn: a healthy socket must
# not overflow because its edge has fallen behind.
BREATH_CHARS = 128 * 1024
# More than this piles up only behind a reader who cannot keep up with the room.
MAX_HELD_FRAMES = 5_000


class Receiver(Protocol):
    """A socket, as far as a room knows it."""

    principal: Principal

    def send(self, text: str) -> None:
        """Queue a frame; never waits."""

    async def drained(self) -> None:
        """Return when there is room for more."""

    def end(self, code: int, reason: str) -> None:
        """Close soon; never waits."""


@dataclass(slots=True)
class Member:
    """A socket in this room.

    Attributes:
        deltas: Conversations whose deltas it wants; None for all.
        held: Frames that wait while missed events are being sent to it; None otherwise.
    """

    socket: Receiver
    deltas: frozenset[str] | None = None
    held: list[str] | None = None

    def send(self, text: str) -> None:
        """Hand on a frame, in order."""
        if self.held is None:
            self.socket.send(text)
        elif len(self.held) < MAX_HELD_FRAMES:
            self.held.append(text)
        else:
            self.socket.end(4409, "slow consumer; rejoin with after_seq")


class Room:
    """A project's room on this edge.

    Attributes:
        joining: How many sockets are on their way in.

    Args:
        lane: Read for the log and for checkpoints.
        signer: Opens what came over the bus.
        replayed_events: A client that missed more than these gets a snapshot.
    """

    def __init__(
        self,
        project_id: UUID,
        tenant_id: UUID,
        lane: Lane,
        signer: Signer,
        *,
        replayed_events: int,
    ) -> None:
        self.project_id = project_id
        self.tenant_id = tenant_id
        self.members: dict[Receiver, Member] = {}
        self.seq = 0
        self.joining = 0
        self.ready = asyncio.Event()
        self._lane = lane
        self._missed = MissedEvents(project_id, tenant_id, lane, replayed_events)
        self._presence = Presence(lambda data: self.tell("presence", data))
        self._signer = signer
        self._channel = room_channel(project_id)
        self._live = LiveRoom()
        self._grown = asyncio.Event()
        self._head = 0
        self._early: list[str] = []
        self._stale = False
        self._healing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Load the state and follow the log; call after the bus has been subscribed."""
        self._spawn(self._run(), "room")

    async def close(self) -> None:
        """Stop following."""
        self._presence.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        await self._persist(self._load)
        await self._persist(self._drop_late)
        self.ready.set()
        for text in self._early:
            self._ephemeral(text)
        self._early.clear()
        while True:
            await self._grown.wait()
            self._grown.clear()
            await self._persist(self.catch_up)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (OSError, TimeoutError, SQLAlchemyError) as exc:
                log.warning("room_read_failed", room=str(self.project_id), error=type(exc).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _load(self) -> None:
        async with self._lane.tenant_session(self.tenant_id) as session:
            # The head first: whatever happens after it comes again as an event.
            self.seq = await rooms.head_of(session, self.project_id) or 0
            open_turns = await turns.live_turns(session, self.project_id)
            streaming = await messages.streaming_in(session, [turn.id for turn in open_turns])
        self._head = max(self._head, self.seq)
        for turn in open_turns:
            self._live.turns[str(turn.id)] = LiveTurn(
                str(turn.id), str(turn.conversation_id), turn.status
            )
        for message in streaming:
            self._text_of(message).set(message.epoch, message.content)

    async def _drop_late(self) -> None:
        """Know which deltas, heard while the state was being loaded, belong to ended texts."""
        envelopes = [orjson.loads(text) for text in self._early]
        heard = {e["data"]["message_id"] for e in envelopes if e["type"] == "assistant_response"}
        await self._drop_ended(heard - self._live.texts.keys())

    async def _drop_ended(self, message_ids: Collection[str]) -> None:
        if message_ids:
            async with self._lane.tenant_session(self.tenant_id) as session:
                live = await messages.still_streaming(session, [UUID(m) for m in message_ids])
            for message_id in message_ids:
                if UUID(message_id) not in live:
                    self._live.end(message_id)

    def _text_of(self, message: messages.LiveMessage) -> LiveText:
        return self._live.text_for(
            {
                "message_id": str(message.message_id),
                "conversation_id": str(message.conversation_id),
                "turn_id": str(message.turn_id),
            }
        )

    # --- the bus --------------------------------------------------------------------------------

    def notice(self, payload: str | None) -> None:
        """Take in a payload of the room's channel; None when some may have been lost."""
        if payload is None:
            self._stale = True
            self._grown.set()
        elif payload.startswith("S"):
            head = payload[1:]
            # Anybody may have sent it: isdigit() knows digits that int() does not.
            if head.isascii() and head.isdigit() and len(head) < 20 and int(head) > self.seq:
                self._head = max(self._head, int(head))
                self._grown.set()
        else:
            body = self._signer.open(self._channel, payload)
            if body is not None and self.ready.is_set():
                self._ephemeral(body.decode())
            elif body is not None:
                self._early.append(body.decode())

    def _ephemeral(self, text: str) -> None:
        envelope = orjson.loads(text)
        if envelope["type"] == "assistant_response":
            self._delta(envelope["data"], text)
        else:
            self._broadcast(text)

    def _delta(self, delta: dict[str, Any], text: str) -> None:
        message_id = delta["message_id"]
        if self._live.ended(message_id):
            return
        live = self._live.text_for(delta)
        if message_id in self._healing:
            live.held.append(delta)
            return
        applied = live.apply(delta)
        if applied:
            self._broadcast(text, delta["conversation_id"])
        elif applied is None:
            live.held.append(delta)
            self._heal(live)

    def _heal(self, live: LiveText) -> None:
        if live.message_id not in self._healing:
            self._healing.add(live.message_id)
            self._spawn(self._fill(live), "fill")

    async def _fill(self, live: LiveText) -> None:
        """Fill a hole in a text from its checkpoints; what came after the hole waits."""
        try:
            while live.message_id in self._live.texts:
                await self._persist(self._refresh_texts)
                live.held = [delta for delta in live.held if not self._resend(live, delta)]
                if not live.held:
                    return
                await self._drop_ended([live.message_id])
                await asyncio.sleep(CHECKPOINT_WAIT_SECONDS)
        finally:
            self._healing.discard(live.message_id)

    def _resend(self, live: LiveText, delta: dict[str, Any]) -> bool:
        """Fold a held delta and pass it on; whether it is done with."""
        applied = live.apply(delta)
        if applied:
            self._broadcast(frame("assistant_response", delta).decode(), live.conversation_id)
        return applied is not None

    async def _refresh_texts(self) -> None:
        async with self._lane.tenant_session(self.tenant_id) as session:
            streaming = await messages.streaming_in(
                session, [UUID(turn_id) for turn_id in self._live.turns]
            )
        for message in streaming:
            self._advance(message)

    def _advance(self, message: messages.LiveMessage) -> None:
        """Bring a text up to its checkpoint and tell the members what they missed."""
        if self._live.ended(str(message.message_id)):
            return
        live = self._text_of(message)
        ahead = message.epoch == live.epoch and len(message.content) > live.length
        if not ahead and message.epoch <= live.epoch:
            return
        offset = live.length if message.epoch == live.epoch else 0
        delta = {
            "project_id": str(self.project_id),
            "conversation_id": live.conversation_id,
            "turn_id": live.turn_id,
            "message_id": live.message_id,
            "epoch": message.epoch,
            "offset": offset,
            "content": message.content[offset:],
            "done": False,
        }
        if live.apply(delta):
            self._broadcast(frame("assistant_response", delta).decode(), live.conversation_id)

    # --- the log --------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Read and pass on everything the log has beyond `seq`."""
        while True:
            async with self._lane.tenant_session(self.tenant_id) as session:
                events = await rooms.read(session, self.project_id, self.seq, READ_BATCH)
            unbroken = 0
            for event in events:
                # Two readers may overlap (a join and the follower); each event passes once.
                if event.seq == self.seq + 1:
                    unbroken += self._durable(event)
                if unbroken > BREATH_CHARS:
                    unbroken = 0
                    await asyncio.sleep(0)
            if self._stale:
                self._stale = False
                await self._refresh_texts()
            if len(events) < READ_BATCH:
                return

    def check(self, head: int) -> None:
        """Look for what the bus may have lost unnoticed: events, and texts of open turns.

        Args:
            head: Number of the newest event, as the database has it.
        """
        if self._live.turns:
            self.notice(None)
        self.notice(growth(head))

    def _durable(self, event: StoredEvent) -> int:
        self.seq = event.seq
        self._live.fold(event.type, event.data)
        text = event.frame().decode()
        self._missed.remember(event.seq, text)
        self._broadcast(text)
        return len(text)

    def _broadcast(self, text: str, deltas_of: str | None = None) -> None:
        for member in self.members.values():
            if deltas_of is None or member.deltas is None or deltas_of in member.deltas:
                member.send(text)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Send every member something that is not kept."""
        self._broadcast(frame(kind, {"project_id": self.project_id, **data}).decode())

    # --- members --------------------------------------------------------------------------------

    async def join(
        self, socket: Receiver, after_seq: int | None, deltas: frozenset[str] | None
    ) -> list[str]:
        """Add a socket and send it the snapshot; until `replay`, nothing else.

        Args:
            after_seq: Number of the last event the client has; None for a fresh start.

        Returns:
            The events it has missed.
        """
        await self.ready.wait()
        if after_seq is not None and after_seq > self.seq:
            # It may have read further on another edge.
            await self._persist(self.catch_up)
        member = Member(socket, deltas, held=[])
        head = self.seq
        missed = None if after_seq is None else self._missed.recent(after_seq, head)
        self._add(member)
        joined: dict[str, Any] = {
            "project_id": self.project_id,
            "seq": head,
            "live": self._live.snapshot(),
            "presence": self._presence.users(),
        }
        if missed is None and after_seq is not None and self._missed.replayable(after_seq, head):
            missed = await self._missed.logged(after_seq, head)
        joined["recovered"] = missed is not None
        # If it was expelled meanwhile, it has been told so.
        if self.members.get(socket) is member:
            socket.send(frame("project_joined", joined).decode())
        return missed or []

    async def replay(self, socket: Receiver, missed: Sequence[str]) -> None:
        """Send what a socket has missed, and what came meanwhile, no faster than it reads."""
        member = self.members.get(socket)
        if member is None:
            return
        while True:
            for text in missed:
                socket.send(text)
                await socket.drained()
                if self.members.get(socket) is not member:
                    return
            if not member.held:
                member.held = None
                return
            missed, member.held = member.held, []

    def _add(self, member: Member) -> None:
        # Whoever joins again starts afresh, in the same place.
        if self.members.get(member.socket) is None:
            self._presence.enter(member.socket.principal)
        self.members[member.socket] = member

    def leave(self, socket: Receiver) -> bool:
        """Remove a socket; whether it was here."""
        if self.members.pop(socket, None) is None:
            return False
        self._presence.leave(socket.principal)
        return True
