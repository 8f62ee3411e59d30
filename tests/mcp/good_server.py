"""A well-behaved MCP server made with the SDK, in a process of its own.

``python -m tests.mcp.good_server http <port> <folder>`` or ``… stdio <folder>``. What was done is
in ``done`` of the folder, one line each; headers of all requests in ``headers``; with a file
``token`` there, requests need it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    BlobResourceContents,
    EmbeddedResource,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from starlette.types import ASGIApp, Receive, Scope, Send

MODE, FOLDER = sys.argv[1], Path(sys.argv[-1])
server = MCPServer("good")


def note(line: str) -> None:
    with (FOLDER / "done").open("a") as file:
        file.write(line + "\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def spend(what: str) -> str:
    """Does something that must be done once."""
    note(f"spend {what}")
    return f"spent on {what}"


@server.tool()
def fail(reason: str) -> str:
    """Fails."""
    raise ToolError(reason)


@server.tool()
async def slow(seconds: float, ctx: Context[Any, Any]) -> str:
    """Takes its time and says so."""
    note("slow begun")
    try:
        for part in range(round(seconds * 10)):
            await ctx.report_progress(part, seconds * 10)
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        note("slow cancelled")
        raise
    note("slow ended")
    return "at last"


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG" * 1000, format="png")


@server.tool(structured_output=False)
def document() -> list[Any]:
    """Texts and resources."""
    return [
        TextContent(type="text", text="See:"),
        EmbeddedResource(
            type="resource",
            resource=TextResourceContents(
                uri="file:///a.txt", text="the text", mime_type="text/plain"
            ),
        ),
        EmbeddedResource(
            type="resource",
            resource=BlobResourceContents(uri="file:///a.bin", blob="QUJD", mime_type="a/b"),
        ),
    ]


@server.tool()
def environment() -> dict[str, str]:
    """What the process was given."""
    return dict(os.environ)


@server.tool()
def flood() -> str:
    """More than anybody wants."""
    return "x" * (8 * 1024 * 1024)


def watched(app: ASGIApp) -> ASGIApp:
    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            with (FOLDER / "headers").open("a") as file:
                file.write(json.dumps(headers) + "\n")
            token = FOLDER / "token"
            if token.exists() and headers.get("authorization") != f"Bearer {token.read_text()}":
                start = {"type": "http.response.start", "status": 401}
                await send({**start, "headers": [(b"www-authenticate", b"Bearer")]})
                await send({"type": "http.response.body", "body": b"who are you"})
                return
        await app(scope, receive, send)

    return front


if __name__ == "__main__":
    if MODE == "stdio":
        server.run("stdio")
    else:
        app = watched(server.streamable_http_app())
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
