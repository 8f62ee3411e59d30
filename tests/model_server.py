"""An OpenAI-compatible server over real HTTP, scripted by markers in the user's message.

Text is numbered tokens ``‹e2.0001›``: the number after ``e`` is the generation attempt, so any
missing, doubled or mixed character shows in a scan. Markers (``#name:arg:arg``), joined by spaces:

``#text:N[:per_second[:…]]`` answer with N tokens, at a rate of its own in each attempt ·
``#say:words_with_underscores`` · ``#cut:K`` break the connection after K tokens, once ·
``#429:N[:retry_after]`` · ``#500:N`` · ``#status:CODE`` always · ``#hang`` accept and say nothing,
once · ``#nodone`` · ``#error200`` once · ``#emoji[:per_second]`` ·
``#split`` surrogate pairs cut over chunks · ``#length`` · ``#html`` once ·
``#tool:NAME:JSON`` call a tool first (repeatable: in parallel) ·
``#loop:NAME:JSON`` for ever · ``#429:N:date+S`` names the time S seconds from now ·
``#ctx:N`` refuses, with ``context_length_exceeded``, whatever has more than N messages ·
``#badjson[:N[:NAME]]`` a tool call whose arguments are no JSON, in the first N steps (always) ·
``#lengthcall[:N[:NAME]]`` the same, cut by ``finish_reason: length`` ·
``#drip[:SECONDS]`` the answer byte by byte, one in so many seconds (60), once ·
``#keepalive[:SECONDS]`` comments and empty chunks alone (1), once ·
``#cutbytes:K`` break the connection after K bytes of the body, once.

More shapes that are no answer, each once: ``#emptychoices #noreason #nocalls #junk #badutf8
#nullchunk #gzipjunk #redirect #wrongtype #emptybody #halfobject #errorobject``.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from embedded.ports import free_port

MARKER = re.compile(r"#(\w+)((?::[^\s:{\[]+|:[{\[].*?[}\]](?=\s|$))*)")


@dataclass
class Call:
    """One request, as the outside counted it."""

    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    generation: int
    sent: int = 0
    finished: bool = False
    disconnected: bool = False

    @property
    def user_text(self) -> str:
        return last_user(self.body["messages"])


def last_user(messages: list[dict[str, Any]]) -> str:
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")


def token(generation: int, number: int) -> str:
    return f"‹e{generation}.{number:04}›"


def expected(generation: int, count: int) -> str:
    return "".join(token(generation, n) for n in range(1, count + 1))


@dataclass
class ModelServer:
    port: int = field(default_factory=free_port)
    calls: list[Call] = field(default_factory=list)
    _seen: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def calls_for(self, text: str) -> list[Call]:
        return [call for call in self.calls if text in call.user_text]

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        text = last_user(body["messages"])
        since = [m for m in body["messages"] if m["role"] != "system"]
        # Results after the last question tell the step.
        step = 0
        for message in reversed(since):
            if message["role"] == "user":
                break
            step += message["role"] == "assistant"
        self._seen[(text, step)] += 1
        generation = self._seen[(text, step)]
        call = Call(body, dict(request.headers), time.monotonic(), generation)
        self.calls.append(call)
        marks = markers(text)
        names = dict(marks)
        if "ctx" in names and len(body["messages"]) > int(names["ctx"][0]):
            message = "This model's maximum context length is 10 tokens."
            return _error(400, message, code="context_length_exceeded")
        if (refusal := refusal_of(names, generation)) is not None:
            return refusal
        tools = tools_of(marks, step)
        stream = self._stream(call, names, tools, step)
        if generation == 1:
            if "cutbytes" in names:
                stream = _cut_after(stream, int(names["cutbytes"][0]))
            for name, parts in ODDITIES.items():
                if name in names:
                    stream = _odd(parts)
        headers = {"content-encoding": "gzip"} if "gzipjunk" in names and generation == 1 else {}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(
        self, call: Call, names: dict[str, list[str]], tools: list[list[str]], step: int
    ) -> AsyncIterator[bytes]:
        try:
            if "hang" in names and call.generation == 1:
                await asyncio.sleep(3600)
            if "keepalive" in names and call.generation == 1:
                while True:
                    yield b": still here\n\n" + _chunk({"content": ""}) + _data({"choices": []})
                    await asyncio.sleep(float((names["keepalive"] or ["1"])[0]))
            if "drip" in names and call.generation == 1:
                for byte in _chunk({"content": token(1, 1)}) * 100:
                    yield bytes([byte])
                    await asyncio.sleep(float((names["drip"] or ["60"])[0]))
            if "error200" in names and call.generation == 1:
                yield _data({"error": {"message": "overloaded", "type": "server_error"}})
                return
            yield _chunk({"role": "assistant", "content": ""})
            broken = broken_call(names, step)
            if broken is not None:
                name, reason = broken
                yield _chunk({"tool_calls": [_tool_parts(0, name, BROKEN, call.generation)[0]]})
                yield _chunk({"tool_calls": [{"index": 0, "function": {"arguments": BROKEN}}]})
            else:
                async for part in self._parts(call, names, tools):
                    yield part
                reason = "tool_calls" if tools else "length" if "length" in names else "stop"
            yield _chunk({}, reason)
            usage = {"prompt_tokens": 7, "completion_tokens": call.sent,
                     "total_tokens": 7 + call.sent}  # fmt: skip
            yield _data({"choices": [], "usage": usage})
            if "nodone" not in names:
                yield b"data: [DONE]\n\n"
            call.finished = True
        except (asyncio.CancelledError, GeneratorExit):
            call.disconnected = True
            raise

    async def _parts(
        self, call: Call, names: dict[str, list[str]], tools: list[list[str]]
    ) -> AsyncIterator[bytes]:
        if tools:
            for index, (name, arguments) in enumerate(tools):
                for part in _tool_parts(index, name, arguments, call.generation):
                    yield _chunk({"tool_calls": [part]})
            return
        if "say" in names:
            for word in names["say"][0].split("_"):
                yield _chunk({"content": word + " "})
            return
        if "emoji" in names:
            for piece in ("a", "👩‍", "🚀", "né", "e\u0301 ", "🚀🚀", " end"):
                if names["emoji"]:
                    await asyncio.sleep(1 / float(names["emoji"][0]))
                yield _chunk({"content": piece})
            return
        if "split" in names:
            for raw in ('"x\\ud83d"', '"\\ude80y"'):
                yield (
                    b'data: {"choices":[{"index":0,"delta":{"content":' + raw.encode() + b"}}]}\n\n"
                )
            return
        arguments = names.get("text", ["5"])
        rates = [float(rate) for rate in arguments[1:]] or [0.0]
        count, rate = int(arguments[0]), rates[min(call.generation, len(rates)) - 1]
        cut = int(names["cut"][0]) if "cut" in names and call.generation == 1 else None
        started = time.monotonic()
        for number in range(1, count + 1):
            if cut is not None and number > cut:
                raise ConnectionError("cut")
            if rate:
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            call.sent = number
            yield _chunk({"content": token(call.generation, number)})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ModelServer"]:
        routes = [Route("/v1/chat/completions", self.complete, methods=["POST"])]
        async with serving(routes, self.port):
            yield self


@asynccontextmanager
async def serving(routes: list[Route], port: int) -> AsyncIterator[None]:
    """Serve on a port of this machine while the block runs."""
    app = Starlette(routes=routes)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical",
                            lifespan="off", timeout_graceful_shutdown=1)  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- it has no event for it
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()


# Arguments that end in the middle.
BROKEN = '{"query": "SELECT 1'


def markers(text: str) -> list[tuple[str, list[str]]]:
    """What a message asks a server to do, in its order."""
    return [(m.group(1), _args(m.group(2))) for m in MARKER.finditer(text)]


def tools_of(marks: list[tuple[str, list[str]]], step: int) -> list[list[str]]:
    """Names and arguments of the tools to call in a step."""
    return [args for name, args in marks if name == "loop" or (name == "tool" and step == 0)]


def broken_call(names: dict[str, list[str]], step: int) -> tuple[str, str] | None:
    """Tool and finish reason of the unreadable call of a step, if it has one."""
    for marker, reason in (("badjson", "tool_calls"), ("lengthcall", "length")):
        if marker in names:
            given = names[marker]
            steps = int(given[0]) if given else 1000
            name = given[1] if len(given) > 1 else "database_query"
            return (name, reason) if step < steps else None
    return None


def refusal_of(names: dict[str, list[str]], generation: int) -> Response | None:
    """The answer that is no stream, if the markers want one."""
    if "429" in names and generation <= int(names["429"][0]):
        after = "".join(names["429"][1:2])
        if after.startswith("date+"):
            at = datetime.now(UTC) + timedelta(seconds=float(after.removeprefix("date+")))
            after = format_datetime(at, usegmt=True)
        return _error(429, "slow down", {"Retry-After": after} if after else {})
    if "500" in names and generation <= int(names["500"][0]):
        return _error(500, "internal")
    if "status" in names:
        return _error(int(names["status"][0]), "Incorrect API key provided: sk-CANARY0123456789")
    if generation > 1:
        return None
    if "html" in names:
        return Response("<html>bad gateway</html>", media_type="text/html")
    if "redirect" in names:
        return Response(status_code=307, headers={"Location": "http://127.0.0.1:1/v1"})
    if "wrongtype" in names:
        return Response(b"\x89PNG", media_type="image/png")
    if "emptybody" in names:
        return Response(b"", media_type="text/event-stream")
    if "halfobject" in names:
        return Response(b'{"choices": [{"message"', media_type="application/json")
    if "errorobject" in names:
        return Response(b'{"error": {"message": "overloaded"}}', media_type="application/json")
    return None


def _args(text: str) -> list[str]:
    """Arguments of a marker; the one that begins with a bracket is JSON and holds colons."""
    found: list[str] = []
    while text.startswith(":"):
        text = text[1:]
        if text[:1] in "{[":
            return [*found, text]
        head, colon, rest = text.partition(":")
        found.append(head)
        text = colon + rest
    return found


def _tool_parts(index: int, name: str, arguments: str, generation: int) -> list[dict[str, Any]]:
    middle = len(arguments) // 2
    return [
        {"index": index, "id": f"call_{generation}_{index}", "type": "function",
         "function": {"name": name, "arguments": ""}},
        {"index": index, "function": {"arguments": arguments[:middle]}},
        {"index": index, "function": {"arguments": arguments[middle:]}},
    ]  # fmt: skip


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data(
        {"id": "c", "object": "chat.completion.chunk", "model": "stub", "choices": [choice]}
    )


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _error(
    status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None
) -> Response:
    body = {"error": {"message": message, "type": "error", "code": code}}
    return JSONResponse(body, status_code=status, headers=headers or {})


# A part of an answer, and then something that is none.
_PART = _chunk({"content": token(1, 1)})
ODDITIES: dict[str, list[bytes]] = {
    "emptychoices": [_data({"choices": []})] * 3 + [b"data: [DONE]\n\n"],
    "noreason": [_PART, b"data: [DONE]\n\n"],
    "nocalls": [_PART, _chunk({}, "tool_calls"), b"data: [DONE]\n\n"],
    "junk": [_PART, b'data: {"choices": [{"del\n\n'],
    "badutf8": [_PART, b'data: {"choices": "\xff\xfe"}\n\n'],
    "nullchunk": [_PART, b"data: null\n\n"],
    "gzipjunk": [b"this was never compressed"],
}


async def _odd(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _cut_after(stream: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    async for part in stream:
        yield part[:most]
        most -= len(part)
        if most <= 0:
            raise ConnectionError("cut")
