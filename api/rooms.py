"""All rooms and sockets of this edge: joining, leaving, and the end of what is no longer allowed.

Authority is checked when a socket joins and again whenever something about it changes: revocations
come over the bus within seconds, and a sweep covers those that were lost.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.lookups import Lookups, overloaded
from api.room import Receiver, Room
from store import access
from store.access import Role
from store.bus import CONTROL_CHANNEL, Listener, Signer, room_channel
from store.database import Database, Lane
from store.live import frame

log = structlog.get_logger(__name__)

# A room outlives its last socket for a moment: a page that reloads finds it open.
LINGER_SECONDS = 10.0
SWEEP_SECONDS = 30.0
# A lost wake-up of a quiet room is noticed after this at the latest.
HEARTBEAT_SECONDS = 5.0
OPEN_TIMEOUT_SECONDS = 10.0
# A sweep that could not ask asks again this soon.
SWEEP_RETRY_SECONDS = 1.0
# So many sockets or rooms are looked at before the others get their turn.
SWEEP_BATCH = 500

T = TypeVar("T")

_LIVE_SESSIONS = text("SELECT live_sessions(:ids)")
_LIVE_API_TOKENS = text("SELECT live_api_tokens(:ids)")


class Socket(Receiver, Protocol):
    """A socket, as far as this module knows it."""

    address: str


class Rooms:
    """The rooms with members on this edge.

    Args:
        lane: What the rooms read through.
        listener: The bus; one subscription per room.
        replayed_events: A client that missed more than these gets a snapshot.
    """

    def __init__(
        self,
        database: Database,
        lane: Lane,
        lookups: Lookups,
        listener: Listener,
        signer: Signer,
        *,
        replayed_events: int,
    ) -> None:
        self._database = database
        self._lane = lane
        self._lookups = lookups
        self._listener = listener
        self._signer = signer
        self._replayed_events = replayed_events
        self._rooms: dict[UUID, Room] = {}
        self._opening: dict[UUID, asyncio.Lock] = {}
        self._sockets: dict[Receiver, set[Room]] = {}
        self._of_user: Counter[UUID] = Counter()
        self._of_address: Counter[str] = Counter()
        self._by_session: defaultdict[UUID, set[Receiver]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._notices = 0
        self._doubt = asyncio.Event()

    async def start(self) -> None:
        """Listen for revocations, and sweep for lost ones."""
        await self._listener.subscribe(CONTROL_CHANNEL, self._control)
        self._spawn(self._sweep_forever())
        self._spawn(self._heartbeat_forever())

    async def close(self) -> None:
        """Tell every socket to go elsewhere and stop following rooms."""
        for socket in list(self._sockets):
            socket.end(1001, "this server is going away")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for room in list(self._rooms.values()):
            await room.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- sockets --------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Open sockets of this process."""
        return len(self._sockets)

    def add(self, socket: Socket) -> None:
        """Know a socket, so that its rights are watched."""
        self._sockets[socket] = set()
        self._of_user[socket.principal.user_id] += 1
        self._of_address[socket.address] += 1
        if socket.principal.session_id is not None:
            self._by_session[socket.principal.session_id].add(socket)

    def remove(self, socket: Socket) -> None:
        """Forget a socket and take it out of its rooms."""
        for room in list(self._sockets[socket]):
            self._leave(room, socket)
        del self._sockets[socket]
        _count_down(self._of_user, socket.principal.user_id)
        _count_down(self._of_address, socket.address)
        session_id = socket.principal.session_id
        if session_id is not None:
            self._by_session[session_id].discard(socket)
            if not self._by_session[session_id]:
                del self._by_session[session_id]

    def count(self, user_id: UUID, address: str) -> tuple[int, int]:
        """Open sockets of a person, and of an address, on this edge."""
        return self._of_user[user_id], self._of_address[address]

    # --- membership -----------------------------------------------------------------------------

    async def join(
        self,
        socket: Socket,
        project_id: UUID,
        after_seq: int | None,
        deltas: Collection[str] | None,
    ) -> None:
        """Put a socket into a project's room; a second join starts it afresh.

        Raises:
            NotFound: The project is not the principal's to see.
            Unavailable: The room cannot be read now.
        """
        principal = socket.principal
        notices = self._notices
        role = await self._lookups.roles.get((project_id, principal.user_id))
        access.check(role, Role.VIEWER)
        room = await self._room(project_id, principal.tenant_id)
        room.joining += 1
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                wanted = None if deltas is None else frozenset(deltas)
                missed = await room.join(socket, after_seq, wanted)
        except TimeoutError:
            self._leave(room, socket)
            raise overloaded() from None
        finally:
            if socket in room.members:
                self._sockets[socket].add(room)
            room.joining -= 1
            self._retire_if_empty(room)
        await room.replay(socket, missed)
        if self._notices != notices:
            # What was allowed above may have been revoked before the socket was in the room, where
            # the notice would have found it.
            self._doubt.set()

    async def leave(self, socket: Socket, project_id: UUID) -> bool:
        """Take a socket out of a room; whether it was in it."""
        room = self._rooms.get(project_id)
        return room is not None and self._leave(room, socket)

    def _leave(self, room: Room, socket: Receiver) -> bool:
        self._sockets[socket].discard(room)
        if not room.leave(socket):
            return False
        self._retire_if_empty(room)
        return True

    async def _room(self, project_id: UUID, tenant_id: UUID) -> Room:
        room = self._rooms.get(project_id)
        if room is not None:
            return room
        async with self._turnstile(project_id):
            room = self._rooms.get(project_id)
            if room is None:
                room = Room(
                    project_id,
                    tenant_id,
                    self._lane,
                    self._signer,
                    replayed_events=self._replayed_events,
                )
                # Subscribe first, then load: nothing falls between.
                await self._listener.subscribe(room_channel(project_id), room.notice)
                room.open()
                self._rooms[project_id] = room
            return room

    @asynccontextmanager
    async def _turnstile(self, project_id: UUID) -> AsyncIterator[None]:
        """One at a time opens or retires a project's room."""
        while True:
            lock = self._opening.setdefault(project_id, asyncio.Lock())
            async with lock:
                # Whoever held it before may have retired the room, and the lock with it.
                if self._opening.get(project_id) is lock:
                    yield
                    return

    def _retire_if_empty(self, room: Room) -> None:
        if not room.members and not room.joining:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._retire_later, room)

    def _retire_later(self, room: Room) -> None:
        self._spawn(self._retire(room))

    async def _retire(self, room: Room) -> None:
        async with self._turnstile(room.project_id):
            if room.members or room.joining or self._rooms.get(room.project_id) is not room:
                return
            del self._rooms[room.project_id]
            await self._listener.unsubscribe(room_channel(room.project_id))
            await room.close()
            # Last: who comes now opens a room of its own, with its own subscription.
            self._opening.pop(room.project_id, None)

    # --- revocation -----------------------------------------------------------------------------

    def _control(self, payload: str | None) -> None:
        if payload is None:
            self._notices += 1
            self._doubt.set()
            return
        body = self._signer.open(CONTROL_CHANNEL, payload)
        if body is None:
            return
        notice = orjson.loads(body)
        self._notices += 1
        match notice.get("kind"):
            case "session_ended":
                for session_id in notice["session_ids"]:
                    for socket in list(self._by_session.get(UUID(session_id), ())):
                        self._end_session(socket, str(notice.get("reason", "signed out")))
            case "project_deleted":
                room = self._rooms.get(UUID(notice["project_id"]))
                for member in list(room.members) if room else ():
                    self._expel(room, member, "project_deleted")
            case _:
                # A role, a membership or a person changed: ask the database what holds now.
                self._doubt.set()

    def _end_session(self, socket: Receiver, reason: str) -> None:
        socket.send(frame("session_ending", {"reason": reason, "at": None}).decode())
        socket.end(4401, "session ended")

    def _expel(self, room: Room | None, socket: Receiver, reason: str) -> None:
        if room is not None and self._leave(room, socket):
            data = {"project_id": room.project_id, "reason": reason}
            socket.send(frame("project_left", data).decode())

    async def _sweep_forever(self) -> None:
        """Sweep every so often, and as soon as anything is in doubt; notices share a sweep."""
        pause = SWEEP_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._doubt.wait()
            # First: what comes into doubt while the database is being asked is asked again.
            self._doubt.clear()
            try:
                await self._sweep()
                pause = SWEEP_SECONDS
            except (OSError, TimeoutError, SQLAlchemyError) as exc:
                log.warning("sweep_failed", error=type(exc).__name__)
                pause = SWEEP_RETRY_SECONDS

    async def _sweep(self) -> None:
        """Hold every socket against the database: sessions, tokens, memberships."""
        for sockets in _batches(list(self._sockets)):
            await self._sweep_credentials(sockets)
        members = [(room, socket) for socket, rooms in self._sockets.items() for room in rooms]
        for pairs in _batches(members):
            await self._sweep_memberships(pairs)

    async def _sweep_credentials(self, sockets: Sequence[Receiver]) -> None:
        sessions = {s.principal.session_id for s in sockets if s.principal.session_id}
        tokens = {s.principal.token_id for s in sockets if s.principal.token_id}
        live = set[UUID]()
        for statement, ids in ((_LIVE_SESSIONS, sessions), (_LIVE_API_TOKENS, tokens)):
            if ids:
                rows = await self._database.ask(statement, {"ids": list(ids)})
                live.update(row[0] for row in rows)
        for socket in sockets:
            credential = socket.principal.session_id or socket.principal.token_id
            if credential is not None and credential not in live:
                self._end_session(socket, "the session has ended")

    async def _sweep_memberships(self, pairs: Sequence[tuple[Room, Receiver]]) -> None:
        asked = {(room.project_id, socket.principal.user_id) for room, socket in pairs}
        live = await self._lookups.memberships(list(asked))
        for room, socket in pairs:
            if (room.project_id, socket.principal.user_id) not in live and socket in self._sockets:
                self._expel(room, socket, "membership_removed")

    async def _heartbeat_forever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for rooms in _batches(list(self._rooms.values())):
                with contextlib.suppress(OSError, TimeoutError, SQLAlchemyError):
                    heads = await self._lookups.heads([room.project_id for room in rooms])
                    for room in rooms:
                        room.check(heads.get(room.project_id, 0))

    def people(self) -> Counter[UUID]:
        """Sockets per tenant, for metrics."""
        return Counter(socket.principal.tenant_id for socket in self._sockets)

    @property
    def listening(self) -> bool:
        """Whether the bus reaches this edge now."""
        return self._listener.connected


def _count_down(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SWEEP_BATCH):
        yield items[start : start + SWEEP_BATCH]
