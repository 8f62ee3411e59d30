"""Children: heard line by line, stopped in order, never left behind."""

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from embedded.errors import CannotStart
from embedded.processes import ROOT, Child, ChildEnded, Command
from embedded.services import Service

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
WITH_OTHERS = "sleep 1000 & echo $!; wait"


def shell(script: str, **settings: object) -> Command:
    return Command(name="child", argv=["sh", "-c", script], **settings)  # type: ignore[arg-type]


def exists(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # ended, and not yet collected


async def first_line(child: Child) -> str:
    async with asyncio.timeout(10):
        while not child.tail:  # noqa: ASYNC110 - nor have lines
            await asyncio.sleep(0.01)
    return child.tail[0]


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while exists(pid):  # noqa: ASYNC110 - processes have no event to wait for
            await asyncio.sleep(0.01)


async def test_lines_of_both_streams_are_heard_even_the_last_without_an_end() -> None:
    heard: list[str] = []
    child = Child(shell("echo one; echo two >&2; printf three"), heard.append)
    assert await child.wait() == 0
    assert heard == ["one", "two", "three"] == list(child.tail)


async def test_an_endless_line_is_cut() -> None:
    heard: list[str] = []
    child = Child(shell("head -c 100000 /dev/zero | tr '\\0' x"), heard.append)
    await child.wait()
    assert 1 < len(heard) < 10
    assert set("".join(heard)) == {"x"}


async def test_a_bad_end_tells_the_last_lines() -> None:
    with pytest.raises(ChildEnded, match=r"child ended with code 3.*\n.*no luck"):
        await Child(shell("echo no luck; exit 3")).require_end()
    child = Child(shell("kill -9 $$"))
    await child.wait()
    assert child.how == "was ended by SIGKILL"


async def test_a_missing_program_is_an_end_not_a_crash() -> None:
    child = Child(Command(name="child", argv=["/no/such/program"]))
    assert await child.wait() == 127
    assert "cannot start /no/such/program" in child.tail[0]


async def test_who_ignores_the_request_is_ended_after_the_grace() -> None:
    child = Child(shell(STUBBORN, grace=timedelta(seconds=0.2)))
    await first_line(child)
    await child.stop()
    assert child.how == "was ended by SIGKILL"


async def test_hurry_ends_the_grace() -> None:
    child = Child(shell(STUBBORN, grace=timedelta(minutes=5)))
    await first_line(child)
    hurry = asyncio.Event()
    stop = asyncio.create_task(child.stop(hurry))
    await asyncio.sleep(0.1)
    assert child.alive
    hurry.set()
    async with asyncio.timeout(10):
        await stop


async def test_stopping_takes_along_what_the_child_started() -> None:
    child = Child(shell(WITH_OTHERS, starts_others=True))
    grandchild = int(await first_line(child))
    await child.stop()
    await gone(grandchild)


async def test_the_pid_file_is_there_while_the_child_runs(tmp_path: Path) -> None:
    pid_file = tmp_path / "child.pid"
    child = Child(shell(WITH_OTHERS, pid_file=pid_file))
    assert int(pid_file.read_text()) == child.pid
    await child.stop()
    assert not pid_file.exists()


@pytest.mark.parametrize("starts_others", [False, True])
async def test_the_kernel_ends_children_of_a_killed_parent(starts_others: bool) -> None:
    """Also when the parent had no chance to do anything."""
    program = f"""
import asyncio, signal
from embedded.processes import Child, Command

async def main():
    script = {WITH_OTHERS if starts_others else "echo $$; exec sleep 1000"!r}
    command = Command(
        name="child", argv=["sh", "-c", script], starts_others={starts_others},
        death_signal=signal.SIGTERM if {starts_others} else signal.SIGKILL,
    )
    child = Child(command, lambda line: print(child.pid, line, flush=True))
    await child.wait()

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert parent.stdout
    with parent.stdout:
        line = await asyncio.to_thread(parent.stdout.readline)
    pids = [int(word) for word in line.split()]
    assert all(exists(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for pid in pids:
        await gone(pid)


async def test_a_service_is_started_again_until_it_runs() -> None:
    """Whatever keeps it from starting for a while."""
    obstacles: list[Exception] = [
        OSError("no more processes"), ChildEnded("child", "ended with code 1", []),
        CannotStart("a port is taken"),
    ]  # fmt: skip
    said: list[str] = []
    started: list[Child] = []

    async def start() -> Child:
        if started and obstacles:
            raise obstacles.pop(0)
        started.append(Child(shell("exec sleep 1000")))
        return started[-1]

    service = Service("child", start, said.append)
    await service.start()
    service.keep()
    started[0]._process.kill()
    async with asyncio.timeout(10):
        while len(started) < 2:  # noqa: ASYNC110 - there is nothing to wait for but the list
            await asyncio.sleep(0.01)
    await service.stop(asyncio.Event())
    assert said == [
        "child was ended by SIGKILL; starting it again",
        "child: no more processes",
        "child: child ended with code 1",
        "child: a port is taken",
    ]
    assert not started[1].alive
