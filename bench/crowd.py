"""Many clients in one process, each as cheap as can be: joins a room, answers pings, comes back.

Run by the benchmarks of sockets. Every half second it prints one line of JSON: how many have joined
now, and what the half second's joins, pings and refusals were like.
"""

import argparse
import asyncio
import json
import os
import random
import struct
import sys
import time
from collections import Counter
from typing import Any, cast

import orjson
import uvloop
from typing_extensions import override

REPORT_SECONDS = 0.5
OPENING_AT_ONCE = 100
# As the page waits (frontend/src/services/backoff.ts).
FIRST_SECONDS, LONGEST_SECONDS = 0.5, 15.0
GOING_AWAY, GOING_AWAY_ATTEMPT = 1001, 2
HANDSHAKE_SECONDS = 10.0
TEXT, CLOSE, PING = 1, 8, 9


class Crowd:
    """What all clients of this process share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.ports: list[int] = arguments.ports
        self.rooms: list[str] = arguments.rooms
        self.cookie: str = arguments.cookie
        self.opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self.joined: set[Client] = set()
        self.join_ms: list[float] = []
        self.echo_ms: list[float] = []
        self.lost: Counter[str] = Counter()

    def report(self) -> str:
        line = {"at": time.monotonic(), "joined": len(self.joined), "lost": self.lost,
                "join_ms": self.join_ms, "echo_ms": self.echo_ms}  # fmt: skip
        text = json.dumps(line)
        self.join_ms, self.echo_ms, self.lost = [], [], Counter()
        return text


class Client(asyncio.Protocol):
    """One browser, over however many connections it takes."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.room = crowd.rooms[number % len(crowd.rooms)]
        self.place = number % len(crowd.ports)
        self.attempt = 0
        self.seq: int | None = None
        self.since = time.monotonic()
        self.settled = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.upgraded = False
        self.code = 0
        self.pinged = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def connect(self) -> None:
        task = asyncio.ensure_future(self._connect())
        task.add_done_callback(lambda done: done.exception())

    async def _connect(self) -> None:
        port = self.crowd.ports[self.place % len(self.crowd.ports)]
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except OSError as exc:
            self.connection_lost(exc)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.buffer, self.upgraded, self.code = b"", False, 0
        port = transport.get_extra_info("peername")[1]
        self.transport.write(
            f"GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1:{port}\r\n"
            f"Cookie: {self.crowd.cookie}\r\n\r\n".encode()
        )
        self.timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.transport.abort)

    @override
    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.upgraded:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            status = int(head.split(maxsplit=2)[1])
            if status != 101:
                self.code = status
                return
            self.upgraded, self.buffer = True, rest
            join: dict[str, Any] = {"project_id": self.room}
            if self.seq is not None:
                join["after_seq"] = self.seq
            self.say("join_project", join)
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def _frame(self) -> tuple[int, bytes] | None:
        data = self.buffer
        if len(data) < 2:
            return None
        size, start = data[1] & 0x7F, 2
        if size == 126 and len(data) >= 4:
            (size,), start = struct.unpack_from("!H", data, 2), 4
        elif size == 127 and len(data) >= 10:
            (size,), start = struct.unpack_from("!Q", data, 2), 10
        elif size > 125:
            return None
        if len(data) < start + size:
            return None
        self.buffer = data[start + size :]
        return data[0] & 0x0F, data[start : start + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(10, payload)
        elif opcode == CLOSE:
            self.code = struct.unpack_from("!H", payload)[0]
            self._send(CLOSE, payload[:2])
        elif opcode == TEXT:
            frame = orjson.loads(payload)
            kind, data = frame["type"], frame["data"]
            if kind == "project_joined":
                self.seq, self.attempt = data["seq"], 0
                self.crowd.joined.add(self)
                self.crowd.join_ms.append((time.monotonic() - self.since) * 1000)
                self.settled.set()
                assert self.timer is not None
                self.timer.cancel()
            elif kind == "pong":
                self.crowd.echo_ms.append((time.monotonic() - self.pinged) * 1000)
            elif kind == "error":
                self.crowd.lost[data["code"]] += 1
                wait = data.get("retry_after_ms", 1000) / 1000
                asyncio.get_running_loop().call_later(wait, self._rejoin)

    def _rejoin(self) -> None:
        if self not in self.crowd.joined:
            self.say("join_project", {"project_id": self.room, "after_seq": self.seq or 0})

    def say(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "ping":
            self.pinged = time.monotonic()
        self._send(TEXT, orjson.dumps({"type": kind, "data": data, "timestamp": 0}))

    def _send(self, opcode: int, payload: bytes) -> None:
        assert self.transport is not None
        size = len(payload)
        head = bytes((0x80 | opcode, 0x80 | (min(126, size))))
        if size >= 126:
            head += struct.pack("!H", size)
        if not self.transport.is_closing():
            self.transport.write(head + bytes(4) + payload)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.crowd.lost[str(self.code or type(exc).__name__)] += 1
        if self in self.crowd.joined:
            self.crowd.joined.discard(self)
            self.since = time.monotonic()
        if self.code == GOING_AWAY:
            self.attempt = max(self.attempt, GOING_AWAY_ATTEMPT)
        wait = random.uniform(0, min(LONGEST_SECONDS, FIRST_SECONDS * 2**self.attempt))
        self.attempt, self.place, self.code = self.attempt + 1, self.place + 1, 0
        asyncio.get_running_loop().call_later(wait, self.connect)


async def main(arguments: argparse.Namespace) -> None:
    crowd = Crowd(arguments)
    clients = [Client(crowd, number) for number in range(arguments.count)]

    async def opened(client: Client) -> None:
        async with crowd.opening:
            client.since = time.monotonic()
            client.connect()
            await client.settled.wait()

    opening = asyncio.gather(*(opened(client) for client in clients))
    tick = 0
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        print(crowd.report(), flush=True)
        tick += 1
        if opening.done():
            # One in a hundred each second.
            for client in clients[tick % 200 :: 200]:
                if client in crowd.joined:
                    client.say("ping", {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--rooms", nargs="+", required=True)
    parser.add_argument("--cookie", required=True)
    parser.add_argument("--count", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args()))
    sys.stdout.flush()
    os._exit(0)
