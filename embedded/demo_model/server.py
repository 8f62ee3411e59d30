"""The demo model over HTTP: the part of OpenAI's API that a chat client uses.

Nothing is kept between requests. Any API key is accepted: this server knows nothing worth
protecting, and it listens on loopback unless told otherwise.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from embedded.demo_model.completions import (
    MODEL,
    BadRequest,
    Completion,
    Request,
    error_body,
)
from embedded.demo_model.script import decide

CREATED = 1767225600  # of the model object; its value means nothing, but clients expect one
MAX_BODY_BYTES = 16 * 1024 * 1024


async def health(_: HttpRequest) -> Response:
    """Answer that the process serves."""
    return JSONResponse({"status": "ok", "model": MODEL})


async def models(_: HttpRequest) -> Response:
    """List the one model."""
    model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "everturn"}
    return JSONResponse({"object": "list", "data": [model]})


async def completions(http: HttpRequest) -> Response:
    """Answer one request, whole or as server-sent events."""
    body = b""
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return JSONResponse(error_body("The request is too large."), status_code=413)
    try:
        request = Request.parse(body)
    except BadRequest as error:
        return JSONResponse(error_body(str(error), error.param), status_code=400)
    completion = Completion(request, decide(request.messages, request.tools))
    rate: float = http.app.state.tokens_per_second
    if request.stream:
        return StreamingResponse(
            events(completion, rate),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
    if rate:
        await asyncio.sleep(len(list(completion.chunks())) / rate)
    return JSONResponse(completion.whole())


async def events(completion: Completion, tokens_per_second: float) -> AsyncIterator[str]:
    """The chunks of an answer as events, at a steady pace however long sending takes."""
    clock = asyncio.get_running_loop().time
    started = clock()
    for position, chunk in enumerate(completion.chunks()):
        if tokens_per_second:
            await asyncio.sleep(max(0.0, started + position / tokens_per_second - clock()))
        yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"


async def refused(http: HttpRequest, error: Exception) -> Response:
    """Unknown paths and methods, worded as OpenAI does."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({http.method} {http.url.path})"
    return JSONResponse(error_body(message, code="unknown_url"), status_code=status)


def application(tokens_per_second: float) -> Starlette:
    """The server; a pace of 0 sends everything at once."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={HTTPException: refused},
    )
    app.state.tokens_per_second = tokens_per_second
    return app
