"""MCP servers: a good one in a process of its own, and one that does what no server should."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedded.ports import free_port
from store.mcp.surroundings import Surroundings
from tests.mcp.hostile_server import HostileServer

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class GoodServer:
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def done(self) -> list[str]:
        file = self.folder / "done"
        return file.read_text().splitlines() if file.exists() else []

    async def until(self, line: str) -> None:
        """Wait for something to be done; it is done in another process."""
        while line not in self.done():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def headers(self) -> str:
        return (self.folder / "headers").read_text()


@pytest.fixture(scope="session")
async def good_process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GoodServer]:
    folder, port = tmp_path_factory.mktemp("good-mcp"), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.mcp.good_server", "http", str(port), str(folder)
    )
    async with asyncio.timeout(30):
        while not answers(port):
            assert process.returncode is None
            await asyncio.sleep(0.1)
    yield GoodServer(folder, port)
    process.kill()
    await process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def good(good_process: GoodServer) -> Iterator[GoodServer]:
    def clear() -> None:
        for name in ("done", "headers", "token"):
            (good_process.folder / name).unlink(missing_ok=True)

    clear()
    yield good_process
    clear()


@pytest.fixture
async def hostile() -> AsyncIterator[HostileServer]:
    async with HostileServer().running() as server:
        yield server


@pytest.fixture(scope="session")
def surroundings() -> Surroundings:
    return Surroundings(LOOPBACK)
