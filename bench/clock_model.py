"""A model server whose tokens are clock readings: ``python -m bench.clock_model --port P``.

The first token is ``R<ns>``, when the request had arrived; every other is ``T<ns>``, when it was
sent (CLOCK_MONOTONIC, which all processes of a machine share). Whoever reads a token knows how
old it is. The user's message says ``#text:N:RATE``: N tokens at RATE per second.
"""

import argparse
import asyncio
import re
import time
from collections.abc import AsyncIterator

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

WISH = re.compile(r"#text:(\d+):(\d+)")


def chunk(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


async def complete(request: Request) -> StreamingResponse:
    arrived = time.monotonic_ns()
    body = orjson.loads(await request.body())
    wish = WISH.search(body["messages"][-1]["content"])
    count, rate = (int(wish[1]), int(wish[2])) if wish else (10, 50)

    async def stream() -> AsyncIterator[bytes]:
        yield chunk(f"R{arrived} ")
        started = time.monotonic()
        for number in range(1, count + 1):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            yield chunk(f"T{time.monotonic_ns()} ")
        yield chunk("", "stop")
        yield b"data: [DONE]\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])]),
        host="127.0.0.1",
        port=parser.parse_args().port,
        log_level="warning",
        access_log=False,
    )
