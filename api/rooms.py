"""All rooms and sockets of this edge: joining, leaving, and the end of what is no longer allowed.

Authority is checked when a socket joins and again whenever something about it changes: revocations
come over the bus within seconds, and a sweep covers those that were lost.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.room import Receiver, Room
from store import access
from store.access import Role
from store.bus import CONTROL_CHANNEL, Listener, Signer, room_channel
from store.database import Database
from store.errors import Unavailable
from store.live import frame

log = structlog.get_logger(__name__)

# A room outlives its last socket for a moment: a page that reloads finds it open.
LINGER_SECONDS = 10.0
SWEEP_SECONDS = 30.0
# A lost wake-up of a quiet room is noticed after this at the latest.
HEARTBEAT_SECONDS = 5.0
OPEN_TIMEOUT_SECONDS = 5.0


class Socket(Receiver, Protocol):
    """A socket, as far as this module knows it."""

    address: str


class Rooms:
    """The rooms with members on this edge.

    Args:
        listener: The bus; one subscription per room.
    """

    def __init__(self, database: Database, listener: Listener, signer: Signer) -> None:
        self._database = database
        self._listener = listener
        self._signer = signer
        self._rooms: dict[UUID, Room] = {}
        self._opening: dict[UUID, asyncio.Lock] = {}
        self._sockets: set[Socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._notices = 0

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
        self._sockets.add(socket)

    def remove(self, socket: Socket) -> None:
        """Forget a socket and take it out of its rooms."""
        self._sockets.discard(socket)
        for room in list(self._rooms.values()):
            self._leave(room, socket)

    def count(self, user_id: UUID, address: str) -> tuple[int, int]:
        """Open sockets of a person, and of an address, on this edge."""
        of_user = sum(socket.principal.user_id == user_id for socket in self._sockets)
        of_address = sum(socket.address == address for socket in self._sockets)
        return of_user, of_address

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
        async with self._database.tenant_session(principal.tenant_id) as session:
            await access.require(session, principal, project_id, Role.VIEWER)
        room = await self._room(project_id, principal.tenant_id)
        before = {entry["id"] for entry in room.presence()}
        room.leave(socket)
        room.joining += 1
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                wanted = None if deltas is None else frozenset(deltas)
                missed = await room.join(socket, after_seq, wanted)
        except TimeoutError:
            room.leave(socket)
            raise Unavailable("The room cannot be read now; try again.", retry_after=1) from None
        finally:
            room.joining -= 1
            self._retire_if_empty(room)
        await room.replay(socket, missed)
        if self._notices != notices:
            # What was allowed above may have been revoked before the socket was in the room, where
            # the notice would have found it.
            self._spawn(self._sweep())
        if socket in room.members and str(principal.user_id) not in before:
            room.tell("presence", {"users": room.presence()})

    async def leave(self, socket: Socket, project_id: UUID) -> bool:
        """Take a socket out of a room; whether it was in it."""
        room = self._rooms.get(project_id)
        return room is not None and self._leave(room, socket)

    def _leave(self, room: Room, socket: Receiver) -> bool:
        if not room.leave(socket):
            return False
        room.tell("presence", {"users": room.presence()})
        self._retire_if_empty(room)
        return True

    async def _room(self, project_id: UUID, tenant_id: UUID) -> Room:
        async with self._turnstile(project_id):
            room = self._rooms.get(project_id)
            if room is None:
                room = Room(project_id, tenant_id, self._database, self._signer)
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
            self._spawn(self._sweep())
            return
        body = self._signer.open(CONTROL_CHANNEL, payload)
        if body is None:
            return
        notice = orjson.loads(body)
        self._notices += 1
        match notice.get("kind"):
            case "session_ended":
                ended = {UUID(value) for value in notice["session_ids"]}
                for socket in list(self._sockets):
                    if socket.principal.session_id in ended:
                        self._end_session(socket, str(notice.get("reason", "signed out")))
            case "project_deleted":
                room = self._rooms.get(UUID(notice["project_id"]))
                for member in list(room.members) if room else ():
                    self._expel(room, member, "project_deleted")
            case _:
                # A role, a membership or a person changed: ask the database what holds now.
                self._spawn(self._sweep())

    def _end_session(self, socket: Socket, reason: str) -> None:
        socket.send(frame("session_ending", {"reason": reason, "at": None}).decode())
        socket.end(4401, "session ended")

    def _expel(self, room: Room | None, socket: Receiver, reason: str) -> None:
        if room is not None and self._leave(room, socket):
            data = {"project_id": room.project_id, "reason": reason}
            socket.send(frame("project_left", data).decode())

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._sweep()

    async def _sweep(self) -> None:
        """Hold every socket against the database: sessions, tokens, memberships."""
        with contextlib.suppress(OSError, TimeoutError, SQLAlchemyError):
            await self._sweep_credentials()
            await self._sweep_memberships()

    async def _sweep_credentials(self) -> None:
        sockets = list(self._sockets)
        sessions = {s.principal.session_id for s in sockets if s.principal.session_id}
        tokens = {s.principal.token_id for s in sockets if s.principal.token_id}
        if not sessions and not tokens:
            return
        async with self._database.session() as session:
            live = set(
                await session.scalars(text("SELECT live_sessions(:ids)"), {"ids": list(sessions)})
            ) | set(
                await session.scalars(text("SELECT live_api_tokens(:ids)"), {"ids": list(tokens)})
            )
        for socket in sockets:
            credential = socket.principal.session_id or socket.principal.token_id
            if credential is not None and credential not in live:
                self._end_session(socket, "the session has ended")

    async def _sweep_memberships(self) -> None:
        pairs = {
            (room.project_id, socket.principal.user_id)
            for room in self._rooms.values()
            for socket in room.members
        }
        if not pairs:
            return
        async with self._database.session() as session:
            rows = await session.execute(
                text("SELECT project_id, user_id FROM live_memberships(:projects, :users)"),
                {"projects": [p for p, _ in pairs], "users": [u for _, u in pairs]},
            )
            live = {(row.project_id, row.user_id) for row in rows}
        for room in list(self._rooms.values()):
            for member in list(room.members):
                if (room.project_id, member.principal.user_id) in pairs - live:
                    self._expel(room, member, "membership_removed")

    async def _heartbeat_forever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for room in list(self._rooms.values()):
                if room.members and room.ready.is_set():
                    with contextlib.suppress(OSError, TimeoutError, SQLAlchemyError):
                        await room.check()

    def people(self) -> Counter[UUID]:
        """Sockets per tenant, for metrics."""
        return Counter(socket.principal.tenant_id for socket in self._sockets)

    @property
    def listening(self) -> bool:
        """Whether the bus reaches this edge now."""
        return self._listener.connected
