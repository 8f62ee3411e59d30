"""The reference client: folds a room's frames by the rule of docs/protocol.md §4.

`fold` is pure and knows only frames; `RoomClient` adds a socket, rejoins where the rule says so,
and refetches what a ``done`` event contradicts. Tests compare its state with a fresh REST fetch.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TERMINAL = {"completed", "failed", "cancelled"}
OPEN = {"queued", "running", "awaiting_approval"}


@dataclass
class Text:
    epoch: int = 0
    text: str = ""


@dataclass
class Folded:
    """State of one project."""

    seq: int = 0
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, Text] = field(default_factory=dict)
    turns: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    # Per conversation, the number its messages by REST reflect: up to it they hold every event.
    reflected: dict[str, int] = field(default_factory=dict)
    # Deleted conversations: what still arrives for them is late.
    forgotten: set[str] = field(default_factory=set)

    def durable(self, kind: str, data: dict[str, Any]) -> bool:
        """Fold a durable event; False asks for a rejoin."""
        if data["seq"] <= self.seq:
            return True
        if data["seq"] != self.seq + 1:
            return False
        self.seq = data["seq"]
        match kind:
            case "conversation_created" | "conversation_updated":
                self.conversations[data["conversation"]["id"]] = data["conversation"]
            case "conversation_deleted":
                self._forget(data["conversation"]["id"])
            case "turn_status":
                self.turns[data["turn_id"]] = data
            case _:
                self._message_event(kind, data)
        return True

    def _message_event(self, kind: str, data: dict[str, Any]) -> None:
        conversation_id = data.get("message", data).get("conversation_id")
        if conversation_id in self.forgotten:
            return
        if data["seq"] <= self.reflected.get(conversation_id, 0):
            return
        match kind:
            case "message_created":
                self.messages[data["message"]["id"]] = data["message"]
            case "assistant_response":
                self._done(data)
            case "tool_call":
                self._called(data)
            case "tool_result" if data["tool_execution_id"] in self.executions:
                self.executions[data["tool_execution_id"]].update(
                    status=data["status"], attempt=data["attempt"], result=data.get("result"),
                    error=data.get("error"), execution_time_ms=data.get("execution_time_ms"),
                    tool_name=data["tool_name"], approval=data.get("approval"),
                    stalled=data.get("stalled"), intervention=data.get("intervention"),
                )  # fmt: skip

    def _forget(self, conversation_id: str) -> None:
        self.conversations.pop(conversation_id, None)
        self.forgotten.add(conversation_id)
        gone = [m for m in self.messages.values() if m["conversation_id"] == conversation_id]
        for message in gone:
            del self.messages[message["id"]]
            self.texts.pop(message["id"], None)
            for key in [k for k, e in self.executions.items() if e["message_id"] == message["id"]]:
                del self.executions[key]

    def _message(self, data: dict[str, Any]) -> dict[str, Any]:
        return self.messages.setdefault(
            data["message_id"],
            {
                "id": data["message_id"], "conversation_id": data["conversation_id"],
                "turn_id": data["turn_id"], "role": "assistant", "status": "streaming",
            },
        )  # fmt: skip

    def _done(self, data: dict[str, Any]) -> None:
        message = self._message(data)
        message["status"] = data["status"]
        message["epoch"] = data["epoch"]
        held = self.texts.get(data["message_id"])
        if held is None or held.epoch != data["epoch"]:
            # Of this attempt nothing was heard; there may be nothing to hear.
            held = self.texts[data["message_id"]] = Text(data["epoch"])
        if sha256(held.text) != data["sha256"]:
            self.mismatches.append(data["message_id"])

    def _called(self, data: dict[str, Any]) -> None:
        self._message(data)
        for call in data["tool_calls"]:
            self.executions[call["tool_execution_id"]] = {
                "tool_call_id": call["id"], "tool_name": call["function"]["name"],
                "message_id": data["message_id"], "status": "pending", "attempt": 0,
                "result": None, "error": None, "execution_time_ms": None, "approval": None,
            }  # fmt: skip

    def delta(self, data: dict[str, Any]) -> bool:
        """Fold a delta; False asks for a rejoin."""
        if data["conversation_id"] in self.forgotten:
            return True
        known = self.messages.get(data["message_id"])
        if known is not None and known["status"] != "streaming":
            return True
        if data["message_id"] not in self.texts and data["offset"] > 0:
            return False
        self._message(data)
        held = self.texts.setdefault(data["message_id"], Text())
        if data["epoch"] < held.epoch:
            return True
        if data["epoch"] > held.epoch:
            held.epoch, held.text = data["epoch"], ""
        if data["offset"] > len(held.text):
            return False
        held.text = held.text[: data["offset"]] + data["content"]
        return True

    def snapshot(self, live: list[dict[str, Any]]) -> None:
        for entry in live:
            self.turns.setdefault(entry["turn_id"], {}).update(
                turn_id=entry["turn_id"], status=entry["status"],
                conversation_id=entry["conversation_id"],
            )  # fmt: skip
            if not entry["message_id"] or entry["conversation_id"] in self.forgotten:
                continue
            # REST may know of an ending, or of an attempt, that is newer than the snapshot.
            held = self.texts.get(entry["message_id"])
            newer = held is not None and held.epoch > entry["epoch"]
            if self._message(entry)["status"] == "streaming" and not newer:
                self.texts[entry["message_id"]] = Text(entry["epoch"], entry["content"])

    def page(self, conversation_id: str, found: list[dict[str, Any]], seq: int) -> None:
        """Take all messages of a conversation as REST tells them; `seq` is what they reflect."""
        self.reflected[conversation_id] = seq
        for message in found:
            self.messages[message["id"]] = message
            for execution in message["tool_executions"]:
                self.executions[execution["id"]] = execution
            held = self.texts.get(message["id"])
            # REST's text of a message that streams is a checkpoint and lags behind.
            lags = message["status"] == "streaming" and held and held.epoch >= message["epoch"]
            if message["role"] == "assistant" and not lags:
                self.texts[message["id"]] = Text(message["epoch"], message["content"])

    def text_of(self, message: dict[str, Any]) -> str:
        """A message's text as it is now."""
        if message["role"] != "assistant":
            return str(message["content"])
        held = self.texts.get(message["id"])
        return held.text if held else ""

    def thread(self, conversation_id: str) -> list[dict[str, Any]]:
        """A conversation's messages in their order (docs/protocol.md §9)."""
        turns: dict[str, list[dict[str, Any]]] = {}
        unplaced: dict[str, list[dict[str, Any]]] = {}
        for message in self.messages.values():
            if message["conversation_id"] != conversation_id:
                continue
            key = message["turn_id"] or message["id"]
            if key in turns:
                turns[key].append(message)
            elif message["role"] == "assistant" and message["turn_id"]:
                unplaced.setdefault(key, []).append(message)
            else:
                # The question stands first, also where an answer was heard before it.
                turns[key] = [message, *unplaced.pop(key, [])]
        return [m for group in (*turns.values(), *unplaced.values()) for m in group]


class RoomClient:
    """One browser, as far as the protocol is concerned."""

    def __init__(self, http: httpx.AsyncClient, ws_url: str, project_id: str) -> None:
        self.http = http
        self.ws_url = ws_url
        self.project_id = project_id
        self.state = Folded()
        self.frames: list[dict[str, Any]] = []
        self.refetched = 0
        self.rejoined = 0
        self.close_code: int | None = None
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        # Who waits for one thing only is woken by that thing: a frame's id, or a turn's.
        self._watching: dict[str, set[asyncio.Future[None]]] = {}
        self._replies: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)
        # Id of the join that is on its way; its answer covers every hole found before it.
        self._joining: str | None = None

    # --- life -----------------------------------------------------------------------------------

    async def connect(self, *, after_seq: int | None = None, ws_url: str | None = None) -> None:
        self.ws_url = ws_url or self.ws_url
        self._socket = await self._open()
        self.close_code = None
        self._joining = None
        self._reader = asyncio.create_task(self._read())
        await self.join(after_seq)

    async def _open(self) -> ClientConnection:
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.http.cookies.items())}
        # A page is served by the edge it connects to.
        origin = self.ws_url.replace("ws", "http", 1).removesuffix("/ws/chat")
        return await connect(
            self.ws_url, origin=origin, additional_headers=headers, max_size=None,  # type: ignore[arg-type]
            ping_interval=None, proxy=None,
        )  # fmt: skip

    async def join(self, after_seq: int | None = None) -> dict[str, Any]:
        before = len(self.frames)
        await self._ask_to_join(after_seq)
        return await self.frame("project_joined", since=before)

    async def _ask_to_join(self, after_seq: int | None) -> None:
        data: dict[str, Any] = {"project_id": self.project_id}
        if after_seq is not None:
            data["after_seq"] = after_seq
        self._joining = f"f{next(self._ids)}"
        await self.send("join_project", data, frame_id=self._joining)

    async def resume(self, ws_url: str | None = None) -> None:
        """Come back after a drop, on this edge or another."""
        await self.connect(after_seq=self.state.seq, ws_url=ws_url)

    async def drop(self) -> None:
        """Lose the connection without a word."""
        if self._socket is not None:
            self._socket.transport.abort()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    # --- frames ---------------------------------------------------------------------------------

    async def send(self, kind: str, data: dict[str, Any], *, frame_id: str | None = None) -> str:
        assert self._socket is not None
        frame_id = frame_id or f"f{next(self._ids)}"
        await self._socket.send(
            json.dumps({"type": kind, "data": data, "timestamp": 0, "id": frame_id})
        )
        return frame_id

    async def raw(self, text: str | bytes) -> None:
        assert self._socket is not None
        await self._socket.send(text)

    async def reply(self, frame_id: str, timeout: float = 10) -> dict[str, Any]:
        """Wait for the frame that answers another one.

        Raises:
            ConnectionError: The socket has closed without it.
        """

        async with asyncio.timeout(timeout):
            while (found := self._replies.get(frame_id)) is None:
                if self.close_code is not None:
                    raise ConnectionError("closed before the reply")
                await self.news(frame_id)
        return found

    async def ask(self, conversation_id: str, content: str, **more: Any) -> dict[str, Any]:
        """Send a user message; its ack or error."""
        data = {
            "conversation_id": conversation_id, "project_id": self.project_id, "content": content,
            "client_message_id": more.pop("client_message_id", None)
            or f"m{next(self._ids)}-{id(self)}",
        } | more  # fmt: skip
        return await self.reply(await self.send("user_message", data))

    async def frame(self, kind: str, *, since: int = 0, timeout: float = 10) -> dict[str, Any]:
        return await self.until(
            lambda: next((f for f in self.frames[since:] if f["type"] == kind), None), timeout
        )

    async def turn(self, turn_id: str, status: str | None = None, timeout: float = 30) -> str:
        """Wait until a turn is terminal, or has the given status."""

        wanted = {status} if status else TERMINAL
        async with asyncio.timeout(timeout):
            while (now := self.state.turns.get(turn_id, {}).get("status")) not in wanted:
                await self.news(turn_id)
        return str(now)

    async def until(self, condition: Callable[[], Any], timeout: float = 10) -> Any:
        async with asyncio.timeout(timeout), self._changed:
            while True:
                if found := condition():
                    return found
                await self._changed.wait()

    async def news(self, key: str) -> None:
        """Wait until a frame answers frame `key` or names turn `key`, or everything may be new."""
        heard = asyncio.get_running_loop().create_future()
        self._watching.setdefault(key, set()).add(heard)
        try:
            await heard
        finally:
            self._watching.get(key, set()).discard(heard)

    def _tell(self, keys: Iterable[str]) -> None:
        for key in keys:
            for heard in self._watching.pop(key, set()):
                if not heard.done():
                    heard.set_result(None)

    async def gone(self) -> None:
        """Wait until the socket has closed."""
        async with self._changed:
            while self.close_code is None:
                await self._changed.wait()

    async def _read(self) -> None:
        assert self._socket is not None
        try:
            async for text in self._socket:
                await self._take(json.loads(text))
        except ConnectionClosed:
            pass
        except httpx.HTTPError:
            # What it needs cannot be fetched now: it comes back and asks for all of it again.
            self._socket.transport.abort()
        self.close_code = self._socket.close_code or 1006
        self._tell(list(self._watching))
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, frame: dict[str, Any]) -> None:
        kind, data = frame["type"], frame["data"]
        if kind == "error" and data.get("reply_to") == self._joining:
            self._joining = None
        if data.get("project_id", self.project_id) == self.project_id:
            if kind == "project_joined":
                self._joining = None
                await self._joined(data)
            elif "seq" in data:
                if not self.state.durable(kind, data):
                    await self._rejoin()
                while self.state.mismatches:
                    await self._refetch(self.state.mismatches[-1])
                    self.state.mismatches.pop()
            elif kind == "assistant_response" and not self.state.delta(data):
                await self._rejoin()
        if reply_to := data.get("reply_to"):
            self._replies[reply_to] = frame
        async with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()
        if kind == "project_joined":
            self._tell(list(self._watching))
        else:
            self._tell(key for key in (reply_to, data.get("turn_id")) if key)

    async def _joined(self, data: dict[str, Any]) -> None:
        if not data["recovered"]:
            await self._fetch()
            # What REST shows is at least as new; the events in between are folded over it.
            assert self.state.seq >= data["seq"]
            self.state.seq = data["seq"]
        self.state.snapshot(data["live"])

    async def _rejoin(self) -> None:
        if self._joining is None:
            self.rejoined += 1
            await self._ask_to_join(self.state.seq)

    async def _refetch(self, message_id: str) -> None:
        self.refetched += 1
        message = self.state.messages.get(message_id)
        if message is not None:
            found, seq = await thread(self.http, message["conversation_id"])
            if seq is not None:
                self.state.page(message["conversation_id"], found, seq)

    async def _fetch(self) -> None:
        forgotten = self.state.forgotten
        self.state = await fetch(self.http, self.project_id)
        self.state.forgotten |= forgotten


async def fetch(http: httpx.AsyncClient, project_id: str) -> Folded:
    """The project as REST shows it now; `seq` is the least number that any answer reflects."""
    state = Folded()
    head = (await http.get(f"/api/projects/{project_id}/events?limit=1")).json()["seq"]
    listed = await items(http, f"/api/projects/{project_id}/conversations")
    seqs = [head]
    for conversation in listed:
        state.conversations[conversation["id"]] = conversation
        if conversation["live"]:
            live = conversation["live"]
            state.turns[live["turn_id"]] = live | {"conversation_id": conversation["id"]}
        found, seq = await thread(http, conversation["id"])
        if seq is None:
            del state.conversations[conversation["id"]]
            continue
        seqs.append(seq)
        state.page(conversation["id"], found, seq)
    state.seq = min(seqs)
    return state


async def thread(
    http: httpx.AsyncClient, conversation_id: str
) -> tuple[list[dict[str, Any]], int | None]:
    """All messages of a conversation, oldest first, and the least number a page reflects.

    A conversation that is gone meanwhile has neither.
    """
    found: list[dict[str, Any]] = []
    seqs: list[int] = []
    before = ""
    while True:
        path = f"/api/conversations/{conversation_id}/messages?limit=200{before}"
        answer = await http.get(path)
        if answer.status_code == 404:
            return [], None
        page = answer.json()
        seqs.append(page["seq"])
        found = page["items"] + found
        if not page["next_cursor"]:
            return found, min(seqs)
        before = f"&before={page['next_cursor']}"


async def items(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = (await http.get(f"{path}?limit=200{cursor}")).json()
        found += answer["items"]
        if not answer["next_cursor"]:
            return found
        cursor = f"&cursor={answer['next_cursor']}"


def essence(state: Folded) -> dict[str, Any]:
    """What two views of a project must agree on."""
    return {
        "conversations": {
            c["id"]: c["title"] for c in state.conversations.values()
        },
        "messages": {
            m["id"]: (
                m["role"], m["turn_id"], m["status"], state.text_of(m),
            )
            for m in state.messages.values()
        },
        "executions": {
            key: (row["tool_name"], row["status"], row["attempt"], row["result"], row["error"],
                  row["execution_time_ms"], row.get("approval"), row.get("stalled"),
                  row.get("intervention"))
            for key, row in state.executions.items()
        },
    }  # fmt: skip


def canonical(state: Folded) -> dict[str, Any]:
    """The state as tests/vectors/README.md spells it, comparable across clients."""
    return {
        "seq": state.seq,
        "conversations": {c["id"]: c["title"] for c in state.conversations.values()},
        "messages": {
            key: [_canonical_message(state, m) for m in state.thread(key)]
            for key in state.conversations
        },
        "open_turns": {
            turn["turn_id"]: {"conversation_id": turn["conversation_id"],
                              "status": turn["status"], "detail": turn.get("detail")}
            for turn in state.turns.values()
            if turn["status"] in OPEN and turn["conversation_id"] in state.conversations
        },
    }  # fmt: skip


def _canonical_message(state: Folded, message: dict[str, Any]) -> dict[str, Any]:
    text = state.text_of(message)
    held = state.texts.get(message["id"])
    streams = message["status"] == "streaming" and held is not None
    return {
        "id": message["id"], "role": message["role"], "turn_id": message["turn_id"],
        "status": message["status"],
        "epoch": held.epoch if held is not None and streams else message.get("epoch", 0),
        "text": text, "sha256": sha256(text),
        "tools": [
            {"id": key, "tool_call_id": row["tool_call_id"], "tool_name": row["tool_name"],
             "status": row["status"], "attempt": row["attempt"], "result": row["result"],
             "error": row["error"], "execution_time_ms": row["execution_time_ms"],
             "approval": row.get("approval")}
            for key, row in state.executions.items()
            if row["message_id"] == message["id"]
        ],
    }  # fmt: skip


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@asynccontextmanager
async def joined(
    http: httpx.AsyncClient, ws_url: str, project_id: str
) -> AsyncIterator[RoomClient]:
    client = RoomClient(http, ws_url, project_id)
    await client.connect()
    try:
        yield client
    finally:
        await client.drop()
