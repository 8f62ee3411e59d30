"""An MCP server that is a process of ours: lines of JSON over its standard input and output.

The SDK's own transport keeps whatever a process writes; this one counts it. The process gets none
of our environment, and it and its children end with the conversation.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from store.mcp.errors import McpTrouble
from store.mcp.operator import Command

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_CHUNK = 64 * 1024
# To end by itself when its input is closed, and when it is told.
_GRACE_SECONDS = 1.0


@asynccontextmanager
async def transport(command: Command, max_bytes: int) -> AsyncIterator[tuple[Any, Any]]:
    """The pair of streams the SDK wants.

    Args:
        command: Who to start.
        max_bytes: Most it may write in all.

    Raises:
        McpTrouble: It cannot be started, or writes too much.
    """
    process = await _started(command)
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_read, process, to_session, max_bytes)
            group.start_soon(_write, process, from_session)
            try:
                yield from_server, to_server
            finally:
                group.cancel_scope.cancel()
    finally:
        for stream in (to_session, from_server, to_server, from_session):
            stream.close()
        await _ended(process)


async def _started(command: Command) -> Process:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            command.command,
            *command.args,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=inherited | command.env,
            cwd=command.cwd,
            start_new_session=True,
        )
    except (OSError, ValueError):
        raise McpTrouble("unavailable", "Its process could not be started.") from None


async def _read(
    process: Process, to: ObjectSendStream[SessionMessage | Exception], max_bytes: int
) -> None:
    stdout = cast("asyncio.StreamReader", process.stdout)
    left, pending = max_bytes, bytearray()
    async with to:
        while chunk := await stdout.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise McpTrouble(
                    "too_large", f"It wrote more than {max_bytes // 1024 // 1024} MiB."
                )
            pending += chunk
            *lines, rest = pending.split(b"\n") if b"\n" in chunk else (pending,)
            pending = bytearray(rest)
            for line in lines:
                if line.strip():
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError as error:
                        await to.send(error)
                    else:
                        await to.send(SessionMessage(message))


async def _write(process: Process, source: ObjectReceiveStream[SessionMessage]) -> None:
    stdin = cast("asyncio.StreamWriter", process.stdin)
    with contextlib.suppress(ConnectionError):
        async for item in source:
            line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            stdin.write(line.encode() + b"\n")
            await stdin.drain()


async def _ended(process: Process) -> None:
    """End the process and whatever it has started; within two seconds, cancelled or not."""
    cast("asyncio.StreamWriter", process.stdin).close()
    with anyio.CancelScope(shield=True):
        for sign in (None, signal.SIGTERM):
            if sign is not None:
                _signal(process, sign)
            with anyio.move_on_after(_GRACE_SECONDS) as scope:
                await _drained(process)
            if not scope.cancelled_caught:
                break
        # Whoever it has left behind, too.
        _signal(process, signal.SIGKILL)
        with anyio.move_on_after(_GRACE_SECONDS):
            await _drained(process)


async def _drained(process: Process) -> None:
    # asyncio tells of an end only when all has been read that came before it.
    stdout = cast("asyncio.StreamReader", process.stdout)
    while await stdout.read(_CHUNK):
        pass
    await process.wait()


def _signal(process: Process, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sign)
