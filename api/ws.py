"""One socket: authenticated before it is accepted, bounded in what it sends and what it is sent.

A socket never holds a database session between frames, and is never waited for: its send queue has
a limit, and whoever reads too slowly is closed with 4409 and may rejoin with ``after_seq``.
"""

import asyncio
import contextlib
import sys
import time
import uuid
from collections import deque
from dataclasses import asdict
from typing import Any, assert_never

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api import auth, problems
from api.frames import (
    Frame,
    FrameError,
    JoinProject,
    LeaveProject,
    Ping,
    StopTurn,
    ToolDecision,
    Typing,
    UserMessage,
    parse,
)
from api.lookups import Known
from api.state import Edge, edge_of
from store import conversations
from store.bus import room_channel
from store.decisions import Word
from store.errors import Forbidden, RateLimited, Refusal, Unauthenticated
from store.limits import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from store.live import frame
from store.principal import Principal

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 20
JOIN_SECONDS = 30.0
MAX_QUEUED_BYTES = 1024 * 1024
MAX_QUEUED_FRAMES = 1_000
# Whoever comes back to a long log reads it at his own pace, but at some pace.
REPLAY_SECONDS = 30.0
# A laggard has this long to drain its kernel's buffers and read why it was closed.
CLOSE_SECONDS = 10.0
BAD_FRAMES, BAD_FRAMES_SECONDS = 5, 10.0
# Frames a client may send: a burst, then so many a second.
FRAME_BURST, FRAMES_PER_SECOND = 200.0, 50.0
TYPING_SECONDS = 1.0
# The other side ended it.
GONE = (1006, "")


class Allowance:
    """A token bucket."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = self._left = burst
        self._rate = per_second
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more is within the rate."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class ChatSocket:
    """A connected client.

    An idle one has no task of its own beside the one that serves its connection, and no queue.
    """

    def __init__(self, websocket: WebSocket, principal: Principal, edge: Edge) -> None:
        self.principal = principal
        self.address = auth.address_of(websocket)
        self._websocket = websocket
        self._edge = edge
        self._queue: deque[str] | None = None
        self._queued_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._relieved: asyncio.Event | None = None
        self._ending: tuple[int, str] | None = None
        self._reading: asyncio.Timeout | None = None
        self._joined = False
        self._bad: deque[float] | None = None
        self._allowance = Allowance(FRAME_BURST, FRAMES_PER_SECOND)
        self._typed = 0.0

    # --- sending --------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Queue a frame; never waits. A full queue ends the socket with 4409."""
        if self._ending is not None:
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(text)
        # What it takes in memory: the cap is there for this.
        self._queued_bytes += sys.getsizeof(text)
        if not self._fits(1.0) and len(self._queue) > 1:
            self._queue.clear()
            self.end(4409, "slow consumer; rejoin with after_seq")
        elif self._writer is None:
            self._writer = asyncio.create_task(self._write(self._queue), name="socket-writer")

    async def drained(self) -> None:
        """Return when the queue is at most half full; ends a socket that takes too long."""
        if self._fits(0.5):
            return
        self._relieved = asyncio.Event()
        try:
            async with asyncio.timeout(REPLAY_SECONDS):
                await self._relieved.wait()
        except TimeoutError:
            self.end(4409, "slow consumer; rejoin with after_seq")
        finally:
            self._relieved = None

    def _fits(self, share: float) -> bool:
        return (
            self._queue is None or len(self._queue) <= MAX_QUEUED_FRAMES * share
        ) and self._queued_bytes <= MAX_QUEUED_BYTES * share

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Queue a frame for this client alone."""
        self.send(frame(kind, data).decode())

    def end(self, code: int, reason: str) -> None:
        """Close once what is queued has been sent; never waits."""
        if self._ending is None:
            self._ending = (code, reason)
            if self._reading is not None and not self._reading.expired():
                # Whatever it is reading or doing ends here.
                self._reading.reschedule(asyncio.get_running_loop().time())

    async def _write(self, queue: deque[str]) -> None:
        try:
            while queue:
                text = queue.popleft()
                self._queued_bytes -= sys.getsizeof(text)
                await self._websocket.send({"type": "websocket.send", "text": text})
                if self._relieved is not None and self._fits(0.25):
                    self._relieved.set()
        except (WebSocketDisconnect, RuntimeError, OSError):
            # The connection is gone, and whoever reads from it is about to hear so.
            self._ending = self._ending or GONE
        finally:
            self._queue, self._queued_bytes, self._writer = None, 0, None

    # --- life -----------------------------------------------------------------------------------

    async def serve(self, project: str | None) -> None:
        """Greet, then read and write until either side ends it."""
        self.tell("welcome", self._welcome())
        try:
            async with asyncio.timeout(JOIN_SECONDS) as self._reading:
                await self._read(project)
        except TimeoutError:
            # Unless it was ended for a reason of its own.
            self._ending = self._ending or (4408, "no project joined in time")
        try:
            if self._ending is None:
                self._ending = GONE
            elif self._ending is not GONE:
                await self._say_goodbye()
        finally:
            if self._writer is not None:
                self._writer.cancel()

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                # A writer that is stuck in a full connection ends by nothing of its own doing.
                if self._writer is not None:
                    await asyncio.wait({self._writer})
                await self._close()

    def _welcome(self) -> dict[str, Any]:
        principal = self.principal
        return {
            "connection_id": str(uuid.uuid4()),
            "user": {
                "id": principal.user_id,
                "name": principal.name,
                "email": principal.email,
                "role": principal.role,
            },
            "server_time": int(time.time() * 1000),
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            "limits": {"frame_bytes": MAX_FRAME_BYTES, "message_bytes": MAX_MESSAGE_BYTES},
        }

    async def _close(self) -> None:
        if (
            self._ending is None
            or self._websocket.client_state is WebSocketState.DISCONNECTED
            or self._websocket.application_state is WebSocketState.DISCONNECTED
        ):
            return
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
            await self._websocket.close(*self._ending)

    async def _read(self, project: str | None) -> None:
        if project is not None:
            await self._handle_text(
                frame("join_project", {"project_id": project}).decode(), counts=False
            )
        while self._ending is None:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                self.end(1003, "text frames only")
                return
            await self._handle_text(text)

    # --- frames ---------------------------------------------------------------------------------

    async def _handle_text(self, text: str, *, counts: bool = True) -> None:
        reply_to: str | None = None
        try:
            if counts and not self._allowance.take():
                raise RateLimited("Too many frames; slow down.", retry_after=1)
            body, reply_to = parse(text)
            await self._handle(body, reply_to)
        except FrameError as error:
            self.tell("error", _error(error.code, error.message, error.reply_to))
            self._count_bad()
        except Refusal as refusal:
            self.tell("error", _refused(refusal, reply_to))
        except Exception as error:  # noqa: BLE001 -- the edge: a fault ends a frame, not a socket
            self._fault(error, reply_to)

    def _fault(self, error: Exception, reply_to: str | None) -> None:
        away = problems.away(error)
        if away is not None:
            log.warning("dependency_away", error=type(error).__name__)
            self.tell("error", _refused(away, reply_to))
            return
        incident = uuid.uuid4().hex[:12]
        log.error("frame_failed", incident=incident, exc_info=error)
        message = f"Something broke on our side. Incident {incident}."
        self.tell("error", _error("internal_error", message, reply_to))

    def _count_bad(self) -> None:
        now = time.monotonic()
        if self._bad is None:
            self._bad = deque(maxlen=BAD_FRAMES)
        if len(self._bad) == BAD_FRAMES and now - self._bad[0] < BAD_FRAMES_SECONDS:
            self.end(4400, "too many bad frames")
        self._bad.append(now)

    async def _handle(self, body: Frame, reply_to: str | None) -> None:
        match body:
            case UserMessage():
                await self._submit(body, reply_to)
            case StopTurn():
                turn = await self._edge.turns.stop(self._author(), body.turn_id)
                self.tell(
                    "ack",
                    {
                        "reply_to": reply_to,
                        "message_id": turn.message_id,
                        "turn_id": turn.id,
                        "conversation_id": turn.conversation_id,
                        "status": turn.status,
                        "duplicate": False,
                    },
                )
            case ToolDecision():
                await self._decide(body, reply_to)
            case JoinProject():
                if not self.principal.scopes & {"read", "admin"}:
                    raise Forbidden("This API token lacks the scope read.")
                await self._edge.rooms.join(self, body.project_id, body.after_seq, body.wanted)
                self._joined_one()
            case LeaveProject():
                await self._edge.rooms.leave(self, body.project_id)
                data = {"project_id": body.project_id, "reason": "requested", "reply_to": reply_to}
                self.tell("project_left", data)
            case Typing():
                await self._typing(body)
            case Ping():
                self.tell("pong", {"reply_to": reply_to})
            case _:
                assert_never(body)

    def _joined_one(self) -> None:
        if not self._joined and self._ending is None and self._reading is not None:
            self._reading.reschedule(None)
        self._joined = True

    def _author(self) -> Principal:
        if not self.principal.scopes & {"write", "admin"}:
            raise Forbidden("This API token lacks the scope write.")
        return self.principal

    async def _submit(self, body: UserMessage, reply_to: str | None) -> None:
        receipt = await self._edge.turns.submit(
            self._author(),
            body.conversation_id,
            body.content,
            body.client_message_id,
            project_id=body.project_id,
            on_busy=body.on_busy,
        )
        self.tell("ack", {"reply_to": reply_to, **asdict(receipt)})

    async def _decide(self, body: ToolDecision, reply_to: str | None) -> None:
        word = Word(body.decision, body.arguments, body.note, body.scope)
        decided = await self._edge.decisions.decide(
            self._author(), body.tool_execution_id, word, self.address
        )
        row = decided.execution
        self.tell(
            "ack",
            {
                "reply_to": reply_to,
                "message_id": row.message_id,
                "turn_id": row.turn_id,
                "conversation_id": decided.turn.conversation_id,
                "tool_execution_id": row.id,
                "status": row.execution_status,
                "approval": row.approval,
                "duplicate": decided.duplicate,
            },
        )

    async def _typing(self, body: Typing) -> None:
        now = time.monotonic()
        if now - self._typed < TYPING_SECONDS:
            return
        self._typed = now
        principal = self.principal
        async with self._edge.database.tenant_session(principal.tenant_id) as session:
            conversation = await conversations.get(session, principal, body.conversation_id)
        data = {
            "project_id": conversation.project_id,
            "conversation_id": conversation.id,
            "user_id": principal.user_id,
        }
        channel = room_channel(conversation.project_id)
        await self._edge.publisher.publish(channel, frame("typing", data))


def _error(code: str, message: str, reply_to: str | None) -> dict[str, Any]:
    return {"code": code, "message": message, "reply_to": reply_to}


def _refused(refusal: Refusal, reply_to: str | None) -> dict[str, Any]:
    data = _error(refusal.specific_code, refusal.detail, reply_to)
    if refusal.retry_after is not None:
        data["retry_after_ms"] = round(refusal.retry_after * 1000)
    return data


async def _authenticate(websocket: WebSocket, edge: Edge) -> Known:
    """Whoever opens this socket.

    Raises:
        Unauthenticated: Nobody known.
        Forbidden: A cookie from a page that is not ours.
        Unavailable: The database is away, or too many are asking.
    """
    bearer = auth.bearer_of(websocket)
    ticket = websocket.query_params.get("ticket")
    cookie = websocket.cookies.get(auth.cookie_name(edge.settings))
    if bearer is not None:
        known = await auth.known_by_api_token(edge, bearer)
    elif ticket is not None:
        known = await auth.known_by_ticket(edge, ticket)
    elif cookie is not None:
        # Browsers always send the Origin of the page with a socket; without one it is no browser
        # of ours, and the cookie is not believed.
        if websocket.headers.get("origin", "").rstrip("/") not in edge.settings.origins:
            raise Forbidden("This page's origin is not one of ours (PUBLIC_ORIGINS).")
        known = await auth.known_by_session(edge, cookie)
    else:
        known = None
    if known is None:
        raise Unauthenticated(auth.SIGN_IN_TEXT)
    return known


async def chat(websocket: WebSocket) -> None:
    """``GET /ws/chat``."""
    edge = edge_of(websocket)
    try:
        known = await _authenticate(websocket, edge)
    except Refusal as refusal:
        await websocket.send_denial_response(problems.problem(refusal))
        return
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        away = problems.away(error) or Refusal("Something broke on our side.")
        await websocket.send_denial_response(problems.problem(away))
        return
    await websocket.accept()
    socket = ChatSocket(websocket, known.principal, edge)
    of_user, of_address = edge.rooms.count(known.principal.user_id, socket.address)
    if of_user >= known.limits.sockets_per_user or of_address >= edge.settings.sockets_per_address:
        await websocket.close(4429, "too many connections")
        return
    edge.rooms.add(socket)
    try:
        await socket.serve(websocket.query_params.get("project"))
    finally:
        edge.rooms.remove(socket)
