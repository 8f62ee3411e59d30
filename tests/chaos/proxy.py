"""A TCP link between two parts that can be slowed, silenced, cut and refused."""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field

from embedded.ports import LOOPBACK, free_port

CHUNK_BYTES = 64 * 1024


@dataclass(eq=False)
class Pair:
    """One connection through the link: the client's end and the server's."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """Break both ends with RST, as a crashed host's kernel would."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Forwards a port of its own to `target_port`; what it does to the traffic can be changed.

    Attributes:
        port: Where clients connect instead of to the target.
        delay: Seconds each chunk waits, give or take `jitter`.
    """

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.target_port = target_port
        self.port = free_port()
        self.delay = 0.0
        self.jitter = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[Pair] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def close(self) -> None:
        """Stop listening and break what is open."""
        await self.refuse()
        self.rst()

    # --- what can be done to it -----------------------------------------------------------------

    def heal(self) -> None:
        """Forward again, at full speed; connections that were cut stay cut."""
        self.delay = self.jitter = 0.0
        self._flowing.set()

    def blackhole(self) -> None:
        """Swallow everything without a word; connecting still works, as behind a dead router."""
        self._flowing.clear()

    def slow(self, delay: float, jitter: float = 0.0) -> None:
        """Let every chunk wait."""
        self.delay, self.jitter = delay, jitter

    def rst(self) -> None:
        """Break every open connection."""
        for pair in list(self._pairs):
            pair.reset()

    async def refuse(self) -> None:
        """Refuse connections; open ones go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Take connections again."""
        if self._server is None:
            await self.start()

    # --- the traffic ----------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = Pair([writer])
        self._pairs.add(pair)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
            pair.writers.append(far_writer)
            pair.tasks = [
                asyncio.create_task(self._pump(reader, far_writer, pair)),
                asyncio.create_task(self._pump(far_reader, writer, pair)),
            ]
            await asyncio.wait(pair.tasks)
        except OSError:
            pair.reset()
        finally:
            for task in pair.tasks:
                task.cancel()
            for end in pair.writers:
                end.close()
            self._pairs.discard(pair)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if self.delay:
                    wait = self.delay + random.uniform(-self.jitter, self.jitter)
                    await asyncio.sleep(max(0.0, wait))
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            pair.reset()
