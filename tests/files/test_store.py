"""Writing as a whole, what killed writers leave, and what deleted projects leave."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import insert, text

from embedded.postgres import Postgres
from store import conversations
from store.database import Database
from store.errors import NotFound, Unavailable
from store.files.project_files import ProjectFiles
from store.principal import Principal
from store.tables import Message, ToolExecution, Turn
from tests.files.desk import Desk

WRITER = """
import sys, time
from pathlib import Path
from store.files.incoming import Incoming
incoming = Incoming(Path(sys.argv[1]))
incoming.write(b"half of it")
print("writing", flush=True)
time.sleep(60)
"""


def a_writer(files_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(files_dir)], stdout=subprocess.PIPE, text=True
    )


async def test_what_a_dead_writer_left_is_swept_and_a_living_ones_is_not(
    desk: Desk, tmp_path: Path
) -> None:
    """F20: however long it takes, a writer keeps what it has; nobody else's stays."""
    dead, living = a_writer(tmp_path / "files"), a_writer(tmp_path / "files")
    try:
        for writer in (dead, living):
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
        assert await desk.files.sweep() == 0
        assert len(desk.incoming) == 2
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert await desk.files.sweep() == 1
        assert len(desk.incoming) == 1
        living.kill()
        living.wait()
        assert await desk.files.sweep() == 1
        assert desk.incoming == []
    finally:
        for writer in (dead, living):
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()


async def test_readers_see_the_old_or_the_new(desk: Desk) -> None:
    names = ("a.txt",)
    contents = [bytes([byte]) * 300_000 for byte in b"ab"]
    await desk.files.write(desk.tenant_id, desk.project_id, names, contents[0])
    stop = asyncio.Event()

    async def write() -> None:
        for number in range(20):
            await desk.files.write(desk.tenant_id, desk.project_id, names, contents[number % 2])
        stop.set()

    async def read() -> int:
        times = 0
        while not stop.is_set():
            opened = await desk.files.open(desk.tenant_id, desk.project_id, names)
            try:
                found = [piece async for piece in opened.chunks(0, opened.entry.size)]
            finally:
                opened.close()
            assert b"".join(found) in contents
            times += 1
        return times

    _, *times = await asyncio.gather(write(), read(), read())
    assert min(times) > 3


async def test_a_cancelled_writer_leaves_nothing(desk: Desk) -> None:
    async def write() -> None:
        async with desk.files.receiving() as received:
            await received.write(b"x" * 1_000_000)
            await asyncio.sleep(60)

    writing = asyncio.create_task(write())
    while not desk.incoming or not desk.incoming[0].stat().st_size:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert desk.incoming == []


async def test_writers_cancelled_at_any_moment(desk: Desk) -> None:
    """Old or new, nothing on the way, no descriptor left open, and the project can be written."""
    names = ("a.txt",)
    await desk.files.write(desk.tenant_id, desk.project_id, names, b"old" * 100_000)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(60):
        write = desk.files.write(desk.tenant_id, desk.project_id, names, b"new" * 100_000)
        writing = asyncio.create_task(write)
        await asyncio.sleep(number / 4000)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert (desk.path / "a.txt").read_bytes() in (b"old" * 100_000, b"new" * 100_000)
    await asyncio.sleep(0.1)
    assert desk.incoming == []
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    await desk.files.write(desk.tenant_id, desk.project_id, names, b"at last")


async def test_a_full_disk_is_said_to_be_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="disk is full"):
        await desk.files.write(desk.tenant_id, desk.project_id, ("a",), b"x")
    assert desk.incoming == []


async def test_deleting_takes_empty_folders_along(desk: Desk) -> None:
    for path in (("a", "b", "c.txt"), ("a", "d.txt")):
        await desk.files.write(desk.tenant_id, desk.project_id, path, b"x")
    await desk.files.delete(desk.tenant_id, desk.project_id, ("a", "b", "c.txt"))
    assert sorted(p.name for p in desk.path.rglob("*")) == ["a", "d.txt"]
    with pytest.raises(NotFound):
        await desk.files.delete(desk.tenant_id, desk.project_id, ("a",))
    await desk.files.delete(desk.tenant_id, desk.project_id, ("a", "d.txt"))
    assert list(desk.path.iterdir()) == []


async def test_writers_and_deleters_of_one_folder(desk: Desk) -> None:
    async def act(number: int) -> None:
        names = ("folder", f"{number % 3}.txt")
        for _ in range(10):
            await desk.files.write(desk.tenant_id, desk.project_id, names, b"x")
            with contextlib.suppress(NotFound):
                await desk.files.delete(desk.tenant_id, desk.project_id, names)

    await asyncio.gather(*map(act, range(6)))


async def test_a_deleted_projects_folder_is_removed(desk: Desk, other: Desk) -> None:
    for one in (desk, other):
        await one.files.write(one.tenant_id, one.project_id, ("a", "b.txt"), b"x")
    (desk.path / "link").symlink_to(other.path)
    await desk.files.carry_out_removals()
    assert desk.path.exists(), "not before it is deleted"
    await desk.drop()
    await desk.files.carry_out_removals()
    assert not desk.path.exists()
    assert not desk.path.parent.exists()
    assert (other.path / "a/b.txt").read_bytes() == b"x"
    assert not await desk.files.carry_out_removals()


async def test_a_deleted_tenants_folders_are_removed(
    desk: Desk, other: Desk, server: Postgres
) -> None:
    for one in (desk, other):
        await one.files.write(one.tenant_id, one.project_id, ("a.txt",), b"x")
    owner = await asyncpg.connect(server.dsn("postgres", "everturn"))
    await owner.execute("DELETE FROM tenants WHERE id = $1", desk.tenant_id)
    await owner.close()
    await desk.files.carry_out_removals()
    assert not desk.path.parent.exists()
    assert other.path.exists()


async def an_execution(desk: Desk, conversation: UUID, number: int, **more: object) -> UUID:
    """A settled tool execution in a conversation."""
    turn, message, execution = uuid4(), uuid4(), uuid4()
    common = {"tenant_id": desk.tenant_id}
    async with desk.database.tenant_session(desk.tenant_id) as session:
        await session.execute(
            insert(Turn).values(
                id=turn, project_id=desk.project_id, conversation_id=conversation,
                message_id=message, number=number, status="completed", **common,
            )
        )  # fmt: skip
        await session.execute(
            insert(Message).values(
                id=message, conversation_id=conversation, turn_id=turn, turn_number=number,
                position=0, role="assistant", content="", status="complete", **common,
            )
        )  # fmt: skip
        await session.execute(
            insert(ToolExecution).values(
                id=execution, turn_id=turn, message_id=message, position=0, tool_call_id="c",
                tool_name="look_up", tool_parameters={}, arguments="{}", queue="tools-http",
                effect="read", **common, **more,
            )
        )  # fmt: skip
    return execution


async def test_results_go_with_their_conversation(desk: Desk) -> None:
    principal = Principal(desk.tenant_id, desk.user_id, "", "", "member", False)
    async with desk.database.tenant_session(desk.tenant_id) as session:
        gone = await conversations.create(session, principal, desk.project_id, "gone")
        kept = await conversations.create(session, principal, desk.project_id, "kept")
    said = await an_execution(desk, gone.id, 1, result_file="results/said.json")
    lost = await an_execution(desk, gone.id, 2, execution_status="unknown", attempt=1)
    small = await an_execution(desk, gone.id, 3, execution_status="completed", attempt=1)
    stays = await an_execution(desk, kept.id, 1, result_file="results/stays.json")
    for name in ("said", f"look_up-{lost}", f"look_up-{small}", "stays", "people's"):
        desk.put(f"results/{name}.json", "{}")
    assert len({said, lost, small, stays}) == 4
    async with desk.database.tenant_session(desk.tenant_id) as session:
        await conversations.delete(session, principal, gone.id)
    await desk.files.carry_out_removals()
    left = sorted(path.name for path in (desk.path / "results").iterdir())
    assert left == sorted([f"look_up-{small}.json", "people's.json", "stays.json"])


async def test_nobody_but_the_triggers_writes_removals(
    desk: Desk, other: Desk, database: Database
) -> None:
    await other.drop()
    async with database.tenant_session(desk.tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM file_removals")) == 0
    for statement in (
        "INSERT INTO file_removals (tenant_id, project_id) SELECT id, id FROM tenants",
        "UPDATE file_removals SET path = 'x'",
    ):
        with pytest.raises(Exception, match="permission denied"):
            async with database.tenant_session(desk.tenant_id) as session:
                await session.execute(text(statement))


async def test_two_processes_share_a_folder(desk: Desk, tmp_path: Path) -> None:
    again = ProjectFiles(desk.database, tmp_path / "files")
    try:
        await again.write(desk.tenant_id, desk.project_id, ("a.txt",), b"x")
        found = await desk.files.entries(
            desk.tenant_id, desk.project_id, prefix="", after=None, limit=5
        )
        assert [entry.path for entry in found] == ["a.txt"]
    finally:
        again.close()
