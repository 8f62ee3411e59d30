"""P25: the disk is full. It says so, goes on reading, and is well again when there is space.

The whole system on one small file system of its own: PostgreSQL, Temporal's file and all logs.
"""

import asyncio
import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from embedded.keys import Keys
from embedded.roles import Postgres
from tests.embedded.command import EmbeddedCommand

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

SIZE = "400m"
ADMIN, PASSWORD = "root@disk.test", "a long password for the disk"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
async def stack(disk: Path) -> AsyncIterator[EmbeddedCommand]:
    # Its own output stands beside the data folder, and belongs to the operator's disk.
    settings = {"EVERTURN_ADMIN_EMAIL": ADMIN, "EVERTURN_ADMIN_PASSWORD": PASSWORD}
    async with EmbeddedCommand(disk / "data", settings=settings) as command:
        yield command


class Person:
    """Somebody with a conversation."""

    def __init__(self, stack: EmbeddedCommand) -> None:
        self.http = httpx.AsyncClient(base_url=stack.url, headers={"Origin": stack.url}, timeout=30)
        self.conversation = ""

    async def begin(self) -> None:
        login = {"email": ADMIN, "password": PASSWORD}
        (await self.http.post("/api/auth/login", json=login)).raise_for_status()
        project = (await self.http.post("/api/projects", json={"name": "P"})).json()["id"]
        path = f"/api/projects/{project}/conversations"
        self.conversation = (await self.http.post(path, json={"title": "C"})).json()["id"]

    async def ask(self, text: str) -> httpx.Response:
        return await self.http.post(
            f"/api/conversations/{self.conversation}/messages",
            json={"content": text, "client_message_id": str(uuid.uuid4())},
        )

    async def read(self) -> httpx.Response:
        return await self.http.get(f"/api/conversations/{self.conversation}/messages?limit=200")

    async def ended(self, turn_id: str, within: float) -> str:
        until = time.monotonic() + within
        while time.monotonic() < until:
            try:
                turn = await self.http.get(f"/api/turns/{turn_id}")
            except httpx.TransportError:
                turn = None
            if turn is not None and turn.is_success:
                status = str(turn.json()["status"])
                if status not in {"queued", "running"}:
                    return status
            await asyncio.sleep(0.2)
        return "open"


def fill(file: Path) -> None:
    """Take all the space there is."""
    with file.open("ab", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue


async def test_a_full_disk_is_survived(stack: EmbeddedCommand, disk: Path) -> None:
    person = Person(stack)
    await person.begin()
    first = await person.ask("before the disk was full")
    assert first.status_code == 202
    assert await person.ended(first.json()["turn_id"], 30) == "completed"
    filler = disk / "filler"
    acked = [first.json()]
    codes: list[int] = []
    for round_number in range(3):
        fill(filler)
        # Whatever free pages there were are used up sooner or later.
        started = time.monotonic()
        while time.monotonic() - started < 12:
            fill(filler)
            try:
                asked = time.monotonic()
                answer = await person.ask(f"while it is full {round_number} " + "x" * 30_000)
            except httpx.TransportError:
                codes.append(0)  # the edge itself is being started again
                await asyncio.sleep(0.2)
                continue
            codes.append(answer.status_code)
            assert time.monotonic() - asked < 10, "a refusal, not a hang"
            if answer.status_code == 202:
                acked.append(answer.json())
            else:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "unavailable"
                break
        page = await person.read()
        if page.status_code == 200:
            assert page.json()["items"]
        os.truncate(filler, 0)
        filler.unlink()
        # With space it is well again, and nobody has to do anything.
        back = time.monotonic()
        while time.monotonic() - back < 60:
            try:
                again = await person.ask(f"after round {round_number}")
            except httpx.TransportError:
                await asyncio.sleep(0.3)
                continue
            if again.status_code == 202:
                acked.append(again.json())
                break
            await asyncio.sleep(0.3)
        assert again.status_code == 202, again.text
        assert await person.ended(again.json()["turn_id"], 60) != "open"
    assert any(code == 503 for code in codes), codes
    for turn in acked:
        assert await person.ended(turn["turn_id"], 60) != "open", turn
    page = (await person.read()).json()
    kept = {message["id"] for message in page["items"]}
    assert {turn["message_id"] for turn in acked[-50:]} <= kept
    last = await person.ask("at last")
    assert await person.ended(last.json()["turn_id"], 30) == "completed"
    print(f"codes {codes}, {len(acked)} acked")
    await person.http.aclose()


async def test_a_database_that_panics_comes_back_with_the_space(
    stack: EmbeddedCommand, disk: Path
) -> None:
    """No room for its log: PostgreSQL ends itself, and is started again until it can run."""
    person = Person(stack)
    await person.begin()
    before = await person.ask("before the panic")
    assert await person.ended(before.json()["turn_id"], 30) == "completed"
    postgres = Postgres(int(stack.settings["EVERTURN_POSTGRES_PORT"]), Keys.kept_in(stack.data_dir))
    filler = disk / "filler"
    pid = stack.pid_of("postgres")

    def panicked() -> bool:
        return "PANIC" in (stack.data_dir / "log" / "postgres.log").read_text(errors="replace")

    connection = await asyncpg.connect(postgres.superuser_dsn)
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(60):
            while True:
                fill(filler)
                await connection.execute("SELECT pg_logical_emit_message(false, 'f', 'x')")
                await connection.execute("SELECT pg_switch_wal()")
    connection.terminate()
    await stack.until(lambda: panicked() or not os.path.exists(f"/proc/{pid}"), within=20)
    # While there is no room it says so, whatever part of it is down.
    with contextlib.suppress(httpx.TransportError):
        assert (await person.ask("nobody keeps this")).status_code == 503
    filler.unlink()

    async def asked() -> httpx.Response:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    answer = await person.ask("after the panic")
                    if answer.status_code == 202:
                        return answer
                await asyncio.sleep(0.3)

    started = time.monotonic()
    again = await asked()
    print(f"well again after {time.monotonic() - started:.1f} s; {stack.output[-600:]}")
    assert await person.ended(again.json()["turn_id"], 30) == "completed"
    kept = [message["content"] for message in (await person.read()).json()["items"]]
    assert "before the panic" in kept
    await person.http.aclose()
