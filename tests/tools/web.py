"""A small internet on this machine: names, public addresses, and servers that count who came.

A public address leads to a local port here, below the guard that judges it: nothing that a
setting could do.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore2
import pytest

from activities.tools.http_request import HttpRequest
from activities.tools.registry import Registry
from activities.tools.tool import Datasource, Reach
from tests.tools.world import Caller

PUBLIC, OTHER, PUBLIC6 = "93.184.216.34", "93.184.216.35", "2606:2800:220:1::1"


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    server: str
    count: dict[str, int] = field(default_factory=dict)


Answering = Callable[[Seen], Awaitable[bytes | AsyncIterator[bytes]]]


def answer(
    body: bytes | str | Any = b"", status: int = 200, kind: str = "text/plain", **headers: str
) -> bytes:
    if not isinstance(body, (bytes, str)):
        body, kind = json.dumps(body), "application/json"
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(data)}", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def redirect(location: str, status: int = 302) -> bytes:
    return answer("moved", status, location=location)


@dataclass
class Site:
    """A server; `pages` by path, else 404."""

    name: str
    port: int = 0
    pages: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            pairs = [line.partition(":") for line in lines]
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            assert len(headers) == len(lines), "a header came twice"
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = Seen(method, path, headers, body, self.name)
            self.seen.append(request)
            page = self.pages.get(path.partition("?")[0], answer("not here", 404))
            if callable(page):
                page = page(request)
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                async for part in page:
                    writer.write(part)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Site"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


class Internet(httpcore2.AsyncNetworkBackend):
    """Public addresses as local ports; every attempt to connect is counted."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self.routes: dict[tuple[str, int], int] = {}
        self.names: dict[str, Any] = {}
        self.lookups: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.trust = trust
        self._system = httpcore2.AnyIOBackend()

    @property
    def backend(self) -> "Internet":
        return self

    async def connect_tcp(
        self, host: str, port: int, timeout: Any = None, local_address: Any = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        self.dialled.append((host, port))
        local = self.routes.get((host, port))
        if local is None:
            raise httpcore2.ConnectError("nobody there")
        return await self._system.connect_tcp("127.0.0.1", local, timeout)

    def resolve_with(self, patch: pytest.MonkeyPatch) -> None:
        """Answer for the names here, once for each lookup; others are the system's."""
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            self.lookups.append(host)
            if host not in self.names:
                return await real(host, port, **options)
            found = self.names[host]
            if callable(found):
                found = found()
            return [
                (socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port))
                for one in found
            ]

        patch.setattr(loop, "getaddrinfo", getaddrinfo)


@dataclass
class Allowed:
    """What a project allows; implements `Web`."""

    hosts: list[str]
    ports: list[int] = field(default_factory=lambda: [80, 443])
    per_minute: int = 1000
    asked: list[str] = field(default_factory=list)

    async def reach(self) -> Reach:
        return Reach(self.hosts, self.ports)

    async def admit(self, host: str) -> int:
        self.asked.append(host)
        return self.per_minute if self.asked.count(host) > self.per_minute else 0


def caller(
    internet: Internet, web: Allowed, *sources: Datasource, private: tuple[str, ...] = ()
) -> Caller:
    return Caller(Registry([HttpRequest(private, internet)]), list(sources), web=web)
