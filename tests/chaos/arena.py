"""The system under chaos: every part a process, every link a proxy, every line and fault timed."""

import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedded.processes import Child
from embedded.readiness import http_get
from store.limits import TenantLimits
from tests.chaos.proxy import Proxy
from tests.system import Bus, Edge, System, Team, checked, running

EDGES, WORKERS = 2, 2
# A stand-in for whoever supervises processes (systemd, Compose): the dead are replaced after this.
RESTART_SECONDS = 0.3
LINKS = {
    "edge-postgres": "postgres",
    "edge-listen": "postgres",
    "edge-temporal": "temporal",
    "worker-postgres": "postgres",
    "worker-temporal": "temporal",
    "worker-model": "model",
}


class TimedLog(list[str]):
    """Lines of all processes, and when each was heard (monotonic seconds)."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self.at = [time.monotonic()] * len(lines)

    def append(self, line: str) -> None:
        super().append(line)
        self.at.append(time.monotonic())


@dataclass(frozen=True)
class Injected:
    """A fault that really happened; monotonic seconds."""

    what: str
    began: float
    ended: float


@dataclass
class Tenant:
    """A tenant with a word that no other tenant's texts contain."""

    team: Team
    canary: str


@dataclass
class Arena:
    """Everything of one run.

    Attributes:
        injected: What has been done to the system, for judging its log lines.
        edge_env: Given to every edge that is started; likewise `worker_env`.
    """

    system: System
    folder: Path
    tenants: list[Tenant] = field(default_factory=list)
    links: dict[str, Proxy] = field(default_factory=dict)
    injected: list[Injected] = field(default_factory=list)
    edge_env: dict[str, str] = field(default_factory=dict)
    worker_env: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> TimedLog:
        assert isinstance(self.system.logs, TimedLog)
        return self.system.logs

    @property
    def sink(self) -> Path:
        """Where effects are counted: outside the database, forced to disk line by line."""
        return self.folder / "sink"

    def effects(self) -> Counter[str]:
        """Effects by ``tool key``, as the outside counted them."""
        lines = self.sink.read_text().splitlines()
        return Counter(line.rpartition(" ")[0] for line in lines)

    # --- parts ----------------------------------------------------------------------------------

    async def open_links(self) -> None:
        system = self.system
        ports = {
            "postgres": system.postgres.port,
            "temporal": system.temporal.port,
            "model": system.model.port,
        }
        for name, target in LINKS.items():
            self.links[name] = Proxy(name, ports[target])
            await self.links[name].start()
        self.edge_env = {
            "EVERTURN_DATABASE_URL": self._database("edge-postgres"),
            "EVERTURN_DATABASE_LISTEN_URL": self._database("edge-listen"),
            "EVERTURN_TEMPORAL_ADDRESS": f"127.0.0.1:{self.links['edge-temporal'].port}",
        }
        self.worker_env = {
            "EVERTURN_DATABASE_URL": self._database("worker-postgres"),
            "EVERTURN_TEMPORAL_ADDRESS": f"127.0.0.1:{self.links['worker-temporal'].port}",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.links['worker-model'].port}/v1",
            "EVERTURN_TEST_SINK": str(self.sink),
            # A model that says nothing is given up in seconds instead of a minute.
            "EVERTURN_MODEL_FIRST_BYTE_SECONDS": "5",
            "EVERTURN_MODEL_IDLE_SECONDS": "4",
        }

    def _database(self, link: str) -> str:
        direct = self.system.environment()["EVERTURN_DATABASE_URL"]
        return direct.replace(f":{self.system.postgres.port}/", f":{self.links[link].port}/")

    async def start_edge(self, index: int, **env: str) -> Edge:
        """Start an edge, again on its old port if it had one."""
        edges = self.system.edges
        port = edges[index].port if index < len(edges) else None
        edge = await self.system.start_edge(port, **self.edge_env, **env)
        if index < len(edges):
            edges[index] = edge
        else:
            edges.append(edge)
        return edge

    async def start_worker(self, index: int, **env: str) -> Child:
        """Start a worker whose tools' effects can be counted."""
        workers = self.system.workers
        worker = await self.system.start_worker(
            module="tests.faults.worker", **self.worker_env, **env
        )
        if index < len(workers):
            workers[index] = worker
        else:
            workers.append(worker)
        return worker

    def child(self, part: str) -> Child:
        """The process of a part: ``edge0``, ``worker1``, ``temporal``, ``postgres``, ``bus``."""
        kind, index = _named(part)
        if kind == "edge":
            return self.system.edges[index].child
        if kind == "worker":
            return self.system.workers[index]
        nats = self.system.nats
        child = {
            "temporal": self.system.temporal_child,
            "postgres": self.system.postgres_child,
            "bus": nats.child if nats else None,
        }[kind]
        assert child is not None, part
        return child

    async def restart(self, part: str) -> None:
        """Start a part again that has ended."""
        kind, index = _named(part)
        match kind:
            case "edge":
                await self.start_edge(index)
            case "worker":
                await self.start_worker(index)
            case "temporal":
                await self.system.start_temporal()
            case "postgres":
                await self.system.start_postgres()
            case "bus":
                await self.system.start_nats()

    async def signal(self, part: str, signum: signal.Signals) -> None:
        """Send a signal to a part's process, by its pid."""
        child = self.child(part)
        if child.alive:
            os.kill(child.pid, signum)

    # --- healing --------------------------------------------------------------------------------

    async def heal(self) -> None:
        """Bring back whatever is down, wake whatever sleeps, open every link."""
        for link in self.links.values():
            link.heal()
            await link.accept()
        parts = ["postgres", "temporal"]
        if self.system.nats is not None:
            parts.append("bus")
        parts += [f"edge{n}" for n in range(len(self.system.edges))]
        parts += [f"worker{n}" for n in range(len(self.system.workers))]
        for part in parts:
            if self.child(part).alive:
                await self.signal(part, signal.SIGCONT)
            else:
                await self.restart(part)
        for index, edge in enumerate(self.system.edges):
            try:
                await self.system.until(lambda edge=edge: _ready(edge), timeout=30)
            except TimeoutError:
                _, body = await http_get(edge.port, "/api/health/ready")
                raise AssertionError(f"edge{index} is not ready: {body.decode()[:300]}") from None

    async def quiet(self, timeout: float) -> bool:
        """Wait until no turn is open; whether that came to pass."""

        async def none_open() -> bool:
            rows = await self.system.sql(
                "SELECT count(*) FROM turns WHERE status IN"
                " ('queued', 'running', 'awaiting_approval')"
            )
            return bool(rows[0][0] == 0)

        try:
            await self.system.until(none_open, timeout)
        except TimeoutError:
            return False
        return True

    # --- inhabitants ----------------------------------------------------------------------------

    async def settle(self, count: int, rng: Any) -> None:
        """Create tenants, each allowed to use the countable effects."""
        for number in range(count):
            usual = TenantLimits()
            team = await self.system.team(
                concurrent_turns=usual.concurrent_turns,
                shared_turns_per_second=usual.shared_turns_per_second,
            )
            rules = {"items": [{"tool": "pay", "policy": "allow"}]}
            checked(await team.admin.put("/api/admin/tool-policies", json=rules))
            self.tenants.append(Tenant(team, f"canary{number}x{rng.randrange(16**8):08x}"))


def _named(part: str) -> tuple[str, int]:
    """``worker1`` as its kind and number; 0 where there is only one."""
    kind = part.rstrip("0123456789")
    return kind, int(part.removeprefix(kind) or 0)


async def _ready(edge: Edge) -> bool:
    return (await http_get(edge.port, "/api/health/ready"))[0] == 200


@asynccontextmanager
async def arena(folder: Path, rng: Any, *, tenants: int, bus: Bus) -> AsyncIterator[Arena]:
    """The whole system, for as long as the block runs."""
    async with running(folder, edges=0, workers=0, durable=True, bus=bus) as system:
        system.logs = TimedLog(system.logs)
        made = Arena(system, folder)
        made.sink.touch()
        await made.open_links()
        try:
            for index in range(EDGES):
                await made.start_edge(index)
            for index in range(WORKERS):
                await made.start_worker(index)
            await made.settle(tenants, rng)
            yield made
        finally:
            for link in made.links.values():
                await link.close()
