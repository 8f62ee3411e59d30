"""Waiting for a server by asking it, again and again, until it says it is ready."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from embedded.ports import LOOPBACK
from embedded.processes import Child, ChildEnded

FIRST_PAUSE = timedelta(milliseconds=20)
LONGEST_PAUSE = timedelta(milliseconds=200)  # asking costs the server something too
MAX_ANSWER_BYTES = 65_536
ANSWER_WITHIN = timedelta(seconds=5)


async def until_ready(
    child: Child, ready: Callable[[], Awaitable[bool]], *, within: timedelta
) -> None:
    """Ask ``ready`` until it is true.

    Raises:
        ChildEnded: the child ended instead, or took longer than ``within``.
    """
    name = child.command.name
    pause = FIRST_PAUSE
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not await ready():
                if not child.alive:
                    raise ChildEnded(name, child.how, child.tail)
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 1.3, LONGEST_PAUSE)
    except TimeoutError as error:
        how = f"was not ready after {within.total_seconds():.0f} s"
        raise ChildEnded(name, how, child.tail) from error


async def http_get(port: int, path: str, host: str = LOOPBACK) -> tuple[int, bytes]:
    """Status and body of ``GET http://host:port/path``; ``(0, b"")`` while nobody answers."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
                await writer.drain()
                # HTTP/1.0: the answer ends where the connection does.
                answer = b""
                while len(answer) < MAX_ANSWER_BYTES and (part := await reader.read(4096)):
                    answer += part
                head, _, body = answer.partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    parts = head.split(maxsplit=2)
    return (int(parts[1]), body) if len(parts) > 1 and parts[1].isdigit() else (0, b"")


async def http_status(port: int, path: str, host: str = LOOPBACK) -> int:
    """Status of ``GET http://host:port/path``; 0 while nobody answers."""
    status, _ = await http_get(port, path, host)
    return status
