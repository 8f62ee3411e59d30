"""A WebSocket client that may break every rule: frames are bytes, silence is allowed."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tests.system import Edge

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def cookies(http: httpx.AsyncClient) -> str:
    return "; ".join(f"{name}={value}" for name, value in http.cookies.items())


def frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, length: int | None = None
) -> bytes:
    """A client's frame, masked with zeros; `length` may promise more than is sent."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + bytes(4) + payload


async def let_go(writer: asyncio.StreamWriter) -> None:
    """Drop a connection without a word."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@dataclass
class RawSocket:
    """A connection after its handshake."""

    status: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(
        cls, edge: Edge, http: httpx.AsyncClient, *, buffer: int | None = None
    ) -> "RawSocket":
        """Connect with somebody's cookie.

        Args:
            buffer: Bytes of the kernel's receive buffer; small, so that not reading is felt.
        """
        url = urlsplit(edge.url)
        plain = socket.socket()
        if buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (url.hostname, url.port))
        # A small limit pauses the transport as soon as the application does not read.
        reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /ws/chat HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: {edge.url}\r\nCookie: {cookies(http)}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        return cls(int(head.split()[1]), reader, writer)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def until_text(self, part: bytes, timeout: float = 10) -> bytes:
        async with asyncio.timeout(timeout):
            while True:
                opcode, payload = await self.receive()
                assert opcode != CLOSE, payload
                if opcode == TEXT and part in payload:
                    return payload

    async def until_closed(self, timeout: float = 10) -> int | None:
        """Code of the close frame; None when the connection ended without one."""
        async with asyncio.timeout(timeout):
            try:
                while True:
                    opcode, payload = await self.receive()
                    if opcode == CLOSE:
                        return int(struct.unpack("!H", payload[:2])[0])
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def close(self) -> None:
        await let_go(self.writer)
