"""What idle sockets cost an edge, and what becomes of them when all edges restart at once.

Run as ``python -m bench.sockets [--idle 10000] [--storm 2000]``. Edges are processes started as in
production; their memory is RSS as the kernel counts it. The clients are processes of their own
(`bench.crowd`): all signed in with one session, spread over some rooms, they answer pings, send one
themselves now and then, and come back as the page does.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from api.__main__ import allow_all_descriptors
from bench.turn_latency import RESULTS, percentile
from embedded.processes import Child, Command
from tests.edge.raw import cookies
from tests.system import Edge, System, Team, running

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
PROCESSES = 2
SETTLE_SECONDS = 5.0
ROOMS = 20
STORM_SECONDS = 60.0
EDGE = {
    "EVERTURN_SOCKETS_PER_ADDRESS": "1000000",
    "EVERTURN_LOG_LEVEL": "WARNING",
}


@dataclass
class Process:
    """A process as the kernel sees it."""

    pid: int

    @property
    def rss(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    @property
    def cpu(self) -> float:
        """Seconds it has computed."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def files(self) -> int:
        """Descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@dataclass
class Heard:
    """What the crowds have reported."""

    joined: dict[int, int] = field(default_factory=dict)
    join_ms: list[float] = field(default_factory=list)
    echo_ms: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Clients that are in their room now."""
        return sum(self.joined.values())

    def take(self, number: int, line: str) -> None:
        """Take in a line of a crowd's."""
        if not line.startswith("{"):
            print(line, file=sys.stderr)
            return
        report = json.loads(line)
        self.joined[number] = report["joined"]
        self.join_ms += report["join_ms"]
        self.echo_ms += report["echo_ms"]
        self.lost.update(report["lost"])

    def clear(self) -> None:
        """Forget all but who is there."""
        self.join_ms.clear()
        self.echo_ms.clear()
        self.lost.clear()

    async def until(self, count: float, seconds: float) -> float:
        """Wait until so many have joined; seconds it took."""
        started = time.monotonic()
        async with asyncio.timeout(seconds):
            while self.total < count:  # noqa: ASYNC110 -- told by other processes
                await asyncio.sleep(0.05)
        return time.monotonic() - started


@asynccontextmanager
async def crowd(
    team: Team, rooms: Sequence[str], edges: Sequence[Edge], count: int
) -> AsyncIterator[Heard]:
    """`count` clients, for as long as the block runs."""
    heard = Heard()
    children = []
    try:
        for number in range(PROCESSES):
            argv = [
                sys.executable, "-m", "bench.crowd", "--count", str(count // PROCESSES),
                "--cookie", cookies(team.ada), "--rooms", *rooms,
                "--ports", *(str(edge.port) for edge in edges),
            ]  # fmt: skip
            command = Command(name="crowd", argv=argv, grace=timedelta(seconds=10))
            children.append(Child(command, lambda line, n=number: heard.take(n, line)))
        yield heard
    finally:
        await asyncio.gather(*(child.stop() for child in children))


async def idle(system: System, team: Team, rooms: Sequence[str], count: int) -> dict[str, Any]:
    """Open, hold and close `count` sockets of one edge."""
    edge = await system.start_edge(**EDGE)
    process = Process(edge.child.pid)
    async with crowd(team, rooms, [edge], 20) as warm:
        await warm.until(20, 60)
    await asyncio.sleep(SETTLE_SECONDS)
    files, empty, busy = process.files, process.rss, process.cpu
    async with crowd(team, rooms, [edge], count) as heard:
        await heard.until(1, 60)
        took = await heard.until(count, 300)
        joining = process.cpu - busy
        await asyncio.sleep(SETTLE_SECONDS)
        joins = heard.join_ms.copy()
        heard.clear()
        full, busy, started = process.rss, process.cpu, time.monotonic()
        await asyncio.sleep(30)
        load = (process.cpu - busy) / (time.monotonic() - started)
        assert heard.total == count, heard.lost
        echo, slowest = percentile(heard.echo_ms, 0.95), max(heard.echo_ms)
    async with asyncio.timeout(60):
        while process.files > files:  # noqa: ASYNC110 -- of another process
            await asyncio.sleep(0.2)
    row = {
        "sockets": count,
        "rooms": len(rooms),
        "kib_each": round((full - empty) / count / 1024, 1),
        "rss_empty_mib": round(empty / 2**20, 1),
        "rss_full_mib": round(full / 2**20, 1),
        "joins_per_second": round(count / took),
        "join_p95_ms": round(percentile(joins, 0.95)),
        "cpu_ms_per_join": round(joining * 1000 / count, 2),
        "idle_cpu_percent": round(load * 100, 1),
        "echo_p95_ms": round(echo, 1),
        "echo_max_ms": round(slowest, 1),
        "files_left": process.files - files,
    }
    await edge.child.stop()
    return row


async def watch_connections(dsn: str, most: list[int]) -> None:
    """Note how many connections the edges have, again and again."""
    connection = await asyncpg.connect(dsn)
    while True:
        most.append(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'edge'"
            )
        )
        await asyncio.sleep(0.1)


async def storm(system: System, team: Team, rooms: Sequence[str], count: int) -> dict[str, Any]:
    """Restart both edges at once while `count` clients are connected."""
    edges = [await system.start_edge(**EDGE) for _ in range(2)]
    async with crowd(team, rooms, edges, count) as heard:
        await heard.until(count, 120)
        heard.clear()
        most: list[int] = []
        watching = asyncio.create_task(
            watch_connections(system.postgres.dsn("postgres", "everturn"), most)
        )
        logged = len(system.logs)
        started = time.monotonic()
        for edge in edges:
            os.kill(edge.child.pid, signal.SIGTERM)
        await asyncio.gather(*(edge.child.wait() for edge in edges))
        stopped = time.monotonic() - started
        edges = list(
            await asyncio.gather(*(system.start_edge(edge.port, **EDGE) for edge in edges))
        )
        up = time.monotonic() - started
        await heard.until(count * 0.95, STORM_SECONDS)
        most_back = time.monotonic() - started
        await heard.until(count, STORM_SECONDS)
        all_back = time.monotonic() - started
        watching.cancel()
        row = {
            "sockets": count,
            "edges": len(edges),
            "stopped_after_s": round(stopped, 1),
            "up_after_s": round(up, 1),
            "back_95_percent_after_s": round(most_back, 1),
            "back_all_after_s": round(all_back, 1),
            "edges_cpu_s": round(sum(Process(edge.child.pid).cpu for edge in edges), 1),
            "database_connections_most": max(most),
            "losses": dict(heard.lost),
            "warnings_logged": len(system.logs) - logged,
        }
    for edge in edges:
        await edge.child.stop()
    return row


async def main(arguments: argparse.Namespace) -> None:
    allow_all_descriptors()
    rows: dict[str, list[dict[str, Any]]] = {"idle": [], "storm": []}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), edges=1, workers=0) as system:
            team = await system.team(sockets_per_user=100_000)
            rooms = [team.project_id]
            rooms += [(await team.elsewhere(f"Room {n}")).project_id for n in range(1, ROOMS)]
            for count in arguments.idle:
                rows["idle"].append(await idle(system, team, rooms, count))
                print(json.dumps(rows["idle"][-1]), flush=True)
            for count in arguments.storm:
                rows["storm"].append(await storm(system, team, rooms, count))
                print(json.dumps(rows["storm"][-1]), flush=True)
    result = {
        "at": datetime.now(UTC).isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sockets.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--storm", type=int, nargs="*", default=[2_000])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # `python -m bench` gives every benchmark the same arguments.
        runner.run(main(parser.parse_known_args()[0]))
    sys.stdout.flush()
    os._exit(0)
