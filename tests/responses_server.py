"""A Responses API over real HTTP: answers go on being generated while nobody listens.

Scripted by the markers of `tests.model_server`; tokens are numbered ``‹eN.0001›``, N being the
generation, so whatever was paid for twice shows. Of the markers: ``#text #say #cut #hang #429 #500
#status #html #length #tool #loop #badjson #lengthcall #ctx``, and

``#fail:K`` the generation fails after K tokens, once · ``#expire`` the server forgets a response
as soon as its connection is cut, once · ``#holes`` a token is missing in the stream, though
not in the whole, once · ``#plain`` refuses ``background``.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from embedded.ports import free_port
from tests.model_server import (
    BROKEN,
    broken_call,
    expected,
    markers,
    refusal_of,
    serving,
    token,
    tools_of,
)

__all__ = ["ResponsesServer", "expected"]


@dataclass
class Generated:
    """One response, as the outside counted it."""

    id: str
    body: dict[str, Any]
    headers: dict[str, str]
    number: int
    events: list[dict[str, Any]] = field(default_factory=list)
    reads: list[int | None] = field(default_factory=list)
    cancelled: bool = False
    done: bool = False
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def question(self) -> str:
        return question_of(self.body)

    async def add(self, kind: str, **more: Any) -> None:
        async with self.grown:
            self.events.append({"type": kind, "sequence_number": len(self.events), **more})
            self.done = kind in ("response.completed", "response.incomplete", "response.failed")
            self.grown.notify_all()


def question_of(body: dict[str, Any]) -> str:
    return next((item["content"] for item in reversed(body["input"])
                 if item.get("role") == "user"), "")  # fmt: skip


@dataclass
class ResponsesServer:
    port: int = field(default_factory=free_port)
    generated: dict[str, Generated] = field(default_factory=dict)
    refused: int = 0
    _seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    _asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def of(self, text: str) -> list[Generated]:
        """Generations paid for a question."""
        return [one for one in self.generated.values() if text in one.question]

    # --- the three calls ------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = await request.json()
        text = question_of(body)
        step = 0
        for item in reversed(body["input"]):
            if item.get("role") == "user":
                break
            step += item.get("type") == "function_call_output"
        names = dict(markers(text))
        if "plain" in names and body.get("background"):
            self.refused += 1
            return _error(400, "Background mode is not supported for this model.")
        if "ctx" in names and len(body["input"]) > int(names["ctx"][0]):
            return _error(400, "too long", code="context_length_exceeded")
        self._asked[(text, step)] += 1
        if (refusal := refusal_of(names, self._asked[(text, step)])) is not None:
            self.refused += 1
            return refusal
        self._seen[(text, step)] += 1
        number = self._seen[(text, step)]
        one = Generated(f"resp_{len(self.generated)}", body, dict(request.headers), number)
        self.generated[one.id] = one
        task = asyncio.create_task(self._generate(one, step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self._stream(one, None)

    async def retrieve(self, request: Request) -> Response:
        one = self.generated.get(request.path_params["id"])
        if one is None or not one.body.get("background") or "expired" in one.headers:
            return _error(404, "Response not found.", code="not_found")
        after = request.query_params.get("starting_after")
        assert request.query_params["stream"] == "true"
        return self._stream(one, int(after) if after is not None else None)

    async def cancel(self, request: Request) -> Response:
        one = self.generated[request.path_params["id"]]
        one.cancelled = True
        return JSONResponse({"id": one.id, "object": "response", "status": "cancelled"})

    # --- generating and reading -----------------------------------------------------------------

    async def _generate(self, one: Generated, step: int) -> None:
        """Goes on whether anybody reads or not."""
        names, tools = dict(markers(one.question)), tools_of(markers(one.question), step)
        head = {"id": one.id, "object": "response", "model": "stub", "status": "in_progress"}
        await one.add("response.created", response=head)
        await one.add("response.in_progress", response=head)
        broken = broken_call(names, step)
        reason = ""
        if broken is not None:
            tools, reason = [[broken[0], BROKEN]], broken[1]
        if tools:
            output = [await _call(one, place, *tool) for place, tool in enumerate(tools)]
        else:
            message = {"type": "message", "id": "m1", "role": "assistant", "content": []}
            await one.add("response.output_item.added", output_index=0, item=message)
            text = await self._text(one, names)
            if text is None:
                error = {"code": "server_error", "message": "the model crashed"}
                await one.add("response.failed", response=head | {"status": "failed",
                                                                  "error": error})  # fmt: skip
                return
            output = [message | {"content": [{"type": "output_text", "text": text}]}]
        usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
        ending = "incomplete" if "length" in (reason, *names) else "completed"
        details = {"reason": "max_output_tokens"} if ending == "incomplete" else None
        await one.add(
            f"response.{ending}",
            response=head | {"status": ending, "output": output, "usage": usage,
                             "incomplete_details": details},
        )  # fmt: skip

    async def _text(self, one: Generated, names: dict[str, list[str]]) -> str | None:
        arguments = names.get("text", ["5"])
        rates = [float(rate) for rate in arguments[1:]] or [0.0]
        count, rate = int(arguments[0]), rates[min(one.number, len(rates)) - 1]
        words = [token(one.number, n) for n in range(1, count + 1)]
        if "say" in names:
            words = [word + " " for word in names["say"][0].split("_")]
        started = time.monotonic()
        for place, word in enumerate(words, 1):
            if rate:
                await asyncio.sleep(max(0.0, started + place / rate - time.monotonic()))
            if one.cancelled:
                return None
            if "fail" in names and one.number == 1 and place > int(names["fail"][0]):
                return None
            if "holes" in names and one.number == 1 and place == 2:
                continue
            await one.add("response.output_text.delta", output_index=0, content_index=0,
                          item_id="m1", delta=word)  # fmt: skip
        return "".join(words)

    def _stream(self, one: Generated, after: int | None) -> Response:
        one.reads.append(after)
        return StreamingResponse(self._read(one, after), media_type="text/event-stream")

    async def _read(self, one: Generated, after: int | None) -> AsyncIterator[bytes]:
        names = dict(markers(one.question))
        first = len(one.reads) == 1
        if "hang" in names and first and one.number == 1:
            await asyncio.sleep(3600)
        cut = int(names["cut"][0]) if "cut" in names and first and one.number == 1 else None
        place, tokens = 0 if after is None else after + 1, 0
        while True:
            async with one.grown:
                while len(one.events) <= place and not one.done:
                    await one.grown.wait()
                fresh = one.events[place:]
            for event in fresh:
                tokens += event["type"] == "response.output_text.delta"
                if cut is not None and tokens > cut:
                    if "expire" in names:
                        one.headers["expired"] = "yes"
                    raise ConnectionError("cut")
                kind, data = event["type"], json.dumps(event)
                yield f"event: {kind}\ndata: {data}\n\n".encode()
            place += len(fresh)
            if one.done and place >= len(one.events):
                return

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ResponsesServer"]:
        routes = [
            Route("/v1/responses", self.create, methods=["POST"]),
            Route("/v1/responses/{id}", self.retrieve, methods=["GET"]),
            Route("/v1/responses/{id}/cancel", self.cancel, methods=["POST"]),
        ]
        async with serving(routes, self.port):
            yield self
        for task in self._tasks:
            task.cancel()


async def _call(one: Generated, place: int, name: str, arguments: str) -> dict[str, Any]:
    item = {"type": "function_call", "id": f"fc_{place}", "call_id": f"call_{one.id}_{place}",
            "name": name, "arguments": ""}  # fmt: skip
    await one.add("response.output_item.added", output_index=place, item=item)
    for start in range(0, len(arguments), 5):
        await one.add("response.function_call_arguments.delta", output_index=place,
                      item_id=item["id"], delta=arguments[start : start + 5])  # fmt: skip
    await one.add("response.function_call_arguments.done", output_index=place,
                  item_id=item["id"], arguments=arguments)  # fmt: skip
    item = item | {"arguments": arguments}
    await one.add("response.output_item.done", output_index=place, item=item)
    return item


def _error(status: int, message: str, code: str | None = None) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return JSONResponse(body, status_code=status)
