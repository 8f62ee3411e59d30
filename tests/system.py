"""The whole system in real processes, as the tests use it: any number of edges and workers."""

import asyncio
import os
import signal
import sqlite3
import ssl
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import asyncpg
import httpx
import pytest

from embedded import postgres, roles, temporal
from embedded.keys import Keys
from embedded.ports import free_port
from embedded.processes import Child, Command
from embedded.readiness import http_get, until_ready
from embedded.roles import Postgres
from embedded.temporal import Temporal
from store.settings import Settings
from tests.client import RoomClient, joined
from tests.model_server import ModelServer
from tests.nats_server import NatsServer

ADMIN_EMAIL, ADMIN_PASSWORD = "root@installation.test", "installation-password"
PASSWORD = "correct horse battery"
CANARY_KEY = "sk-CANARY-installation-0123456789"
START_WITHIN = timedelta(seconds=60)
Bus = Literal["postgres", "nats"]
# Loading the certificates of the world takes longer than most requests here.
TLS = ssl.create_default_context()


@dataclass
class Edge:
    port: int
    child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/chat"


@dataclass
class Team:
    """A tenant with a project and two members, made for one test."""

    system: "System"
    domain: str
    tenant_id: str
    admin: httpx.AsyncClient
    ada: httpx.AsyncClient
    grace: httpx.AsyncClient
    project_id: str
    people: dict[str, str] = field(default_factory=dict)

    async def elsewhere(self, name: str = "Another project") -> "Team":
        """The same people in a project of its own; much cheaper than a tenant."""
        project = checked(await self.ada.post("/api/projects", json={"name": name}))
        path = f"/api/projects/{project['id']}/members/{self.people['grace']}"
        checked(await self.ada.put(path, json={"role": "editor"}))
        return replace(self, project_id=project["id"])

    async def conversation(self, title: str = "A conversation") -> str:
        answer = await self.ada.post(
            f"/api/projects/{self.project_id}/conversations", json={"title": title}
        )
        return str(checked(answer)["id"])

    @asynccontextmanager
    async def room(self, who: str = "ada", edge: int = 0) -> AsyncIterator[RoomClient]:
        async with joined(
            getattr(self, who), self.system.edges[edge].ws, self.project_id
        ) as client:
            yield client

    async def datasource(self, name: str = "shop", **config: Any) -> str:
        answer = await self.ada.post(
            f"/api/projects/{self.project_id}/datasources", json={"name": name, **config}
        )
        return str(checked(answer)["id"])

    async def sqlite_shop(self) -> str:
        """A datasource over a small SQLite file of the project; its id."""
        folder = self.system.folder / "data/files" / self.tenant_id / self.project_id
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
            shop.execute("CREATE TABLE IF NOT EXISTS items (name TEXT NOT NULL, price REAL)")
            shop.executemany(
                "INSERT INTO items VALUES (?, ?)", [("lamp", 12.5), ("chair", 40), ("desk", 99)]
            )
        return await self.datasource("shop", kind="sqlite", config={"path": "shop.db"})


def checked(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.url}: {answer.text}"
    return answer.json() if answer.content else None


class System:
    """Servers, edges, workers and the model server of one test session.

    Args:
        durable: Whether PostgreSQL keeps what it has confirmed when it crashes.
    """

    def __init__(
        self, stack: AsyncExitStack, pg: Postgres, model: ModelServer, folder: Path, durable: bool
    ) -> None:
        self.postgres = pg
        self.temporal = Temporal(port=free_port(), ui_port=None, http_port=free_port())
        self.model = model
        self.folder = folder
        self.edges: list[Edge] = []
        self.workers: list[Child] = []
        self.logs: list[str] = []
        self.postgres_child: Child | None = None
        self.temporal_child: Child | None = None
        self.nats: NatsServer | None = None
        self._durable = durable
        self._stack = stack
        self._root: httpx.AsyncClient | None = None

    # --- servers --------------------------------------------------------------------------------

    async def start_postgres(self) -> None:
        """Start it, again after it was stopped."""
        command = postgres.start_command(
            self.folder / "pg", self.postgres.port, durable=self._durable
        )
        self.postgres_child = await postgres.start(command, self.postgres, self.folder / "pg")
        self._stack.push_async_callback(self.postgres_child.stop)

    async def crash_postgres(self) -> None:
        """``pg_ctl stop -m immediate``: no checkpoint, no goodbye."""
        assert self.postgres_child is not None
        os.kill(self.postgres_child.pid, signal.SIGQUIT)
        await self.postgres_child.wait()

    async def start_temporal(self) -> None:
        """Start it on its file, again after it was killed."""
        command = temporal.start_command(self.temporal, db_file=self.folder / "temporal.db")
        self.temporal_child = await temporal.start(command, self.temporal)
        self._stack.push_async_callback(self.temporal_child.stop)

    async def kill_temporal(self) -> None:
        assert self.temporal_child is not None
        await self.kill(self.temporal_child)

    # --- the bus --------------------------------------------------------------------------------

    async def start_nats(self) -> None:
        """Start it, again after it was killed; processes started from now on use it."""
        self.nats = self.nats or NatsServer(self.folder)
        child = await self.nats.start(lambda line: self.logs.append(f"nats {line}"))
        self._stack.push_async_callback(child.stop)

    async def cut_bus(self, name: str) -> int:
        """End all ``everturn-listen`` or ``everturn-bus`` connections; how many there were."""
        if self.nats is not None:
            return await self.nats.cut(name)
        rows = await self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
            name,
        )
        return len(rows)

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notice past the application, as anybody could who reaches the bus."""
        if self.nats is not None:
            await self.nats.publish(f"everturn.{channel}", payload.encode())
        else:
            await self.sql("SELECT pg_notify($1, $2)", channel, payload)

    # --- processes ------------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        ours = {
            "EVERTURN_DATABASE_URL": sqlalchemy_url(self.postgres.app_dsn),
            "EVERTURN_MIGRATIONS_DATABASE_URL": sqlalchemy_url(self.postgres.owner_dsn),
            "EVERTURN_SECRET_KEYS": "c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0=",
            "EVERTURN_TEMPORAL_ADDRESS": self.temporal.address,
            "EVERTURN_ADMIN_EMAIL": ADMIN_EMAIL,
            "EVERTURN_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "EVERTURN_PRIVATE_HOSTS": "127.0.0.1,localhost,::1",
            "EVERTURN_DATA_DIR": str(self.folder / "data"),
            "OPENAI_API_KEY": CANARY_KEY,
            "OPENAI_BASE_URL": self.model.url,
            "OPENAI_MODEL": "stub",
            "PYTHONWARNINGS": "default",
        }
        if self.nats is not None:
            ours["EVERTURN_BUS_URL"] = self.nats.url
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("EVERTURN_", "OPENAI_"))}
        return clean | ours | more

    def settings(self) -> Settings:
        """What its processes are told."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment().items():
                patch.setenv(name, value)
            return Settings(_env_file=None)  # type: ignore[call-arg]

    def _start(self, name: str, argv: list[str], env: dict[str, str], grace: float = 15) -> Child:
        command = Command(
            name=name, argv=[sys.executable, *argv], env=env, grace=timedelta(seconds=grace)
        )
        return Child(command, lambda line: self.logs.append(f"{name} {line}"))

    async def start_edge(self, port: int | None = None, **env: str) -> Edge:
        port = port or free_port()
        child = self._start(
            f"edge{len(self.edges)}",
            ["-m", "api"],
            self.environment(EVERTURN_PORT=str(port), **env),
        )

        async def live() -> bool:
            return (await http_get(port, "/api/health/live"))[0] == 200

        await until_ready(child, live, within=START_WITHIN)
        self._stack.push_async_callback(child.stop)
        return Edge(port, child)

    async def start_worker(self, *arguments: str, module: str = "worker", **env: str) -> Child:
        child = self._start("worker", ["-m", module, *arguments], self.environment(**env))
        heard = len(self.logs)

        async def ready() -> bool:
            return any("worker_ready" in line for line in self.logs[heard:])

        await until_ready(child, ready, within=START_WITHIN)
        self._stack.push_async_callback(child.stop)
        return child

    async def migrate(self) -> None:
        child = self._start("migrations", ["-m", "migrations", "upgrade"], self.environment())
        await child.require_end()

    async def kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()

    async def restart_edge(self, index: int) -> None:
        old = self.edges[index]
        await self.kill(old.child)
        self.edges[index] = await self.start_edge(old.port)

    async def restart_worker(self, index: int = 0) -> None:
        if self.workers[index].alive:
            await self.kill(self.workers[index])
        self.workers[index] = await self.start_worker()

    async def sign_in(
        self, email: str, password: str = PASSWORD, edge: int = 0
    ) -> httpx.AsyncClient:
        http = httpx.AsyncClient(base_url=self.edges[edge].url, timeout=30, verify=TLS)
        self._stack.push_async_callback(http.aclose)
        checked(await http.post("/api/auth/login", json={"email": email, "password": password}))
        return http

    async def team(self, **limits: int) -> Team:
        """A new tenant with an admin, an owner (ada) and an editor (grace) of one project."""
        domain = f"t{uuid.uuid4().hex[:10]}.test"
        if self._root is None:
            self._root = await self.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
        root = self._root
        tenant = checked(
            await root.post(
                "/api/admin/tenants",
                json={
                    "name": domain, "slug": domain.split(".")[0], "domains": [domain],
                    "admin": {"email": f"admin@{domain}", "name": "Admin", "password": PASSWORD},
                },
            )
        )  # fmt: skip
        admin = await self.sign_in(f"admin@{domain}")
        # Limits have tests of their own and must not be in the way of the others.
        limits = {
            "messages_per_minute": 100_000,
            "concurrent_turns": 100,
            "shared_turns_per_second": 1_000,
            "tool_calls_per_minute": 100_000,
            "tool_calls_per_user_minute": 100_000,
        } | limits
        checked(await admin.patch("/api/admin/tenant", json={"limits": limits}))
        people = {}
        for name in ("ada", "grace"):
            user = checked(
                await admin.post(
                    "/api/admin/users",
                    json={"email": f"{name}@{domain}", "name": name.title(), "role": "member",
                          "password": PASSWORD},
                )
            )  # fmt: skip
            people[name] = user["id"]
        ada, grace = [await self.sign_in(f"{name}@{domain}") for name in ("ada", "grace")]
        project = checked(await ada.post("/api/projects", json={"name": "Shop"}))
        checked(
            await ada.put(
                f"/api/projects/{project['id']}/members/{people['grace']}", json={"role": "editor"}
            )
        )
        return Team(self, domain, tenant["id"], admin, ada, grace, project["id"], people)

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Ask or change the database itself, past every policy."""
        connection = await asyncpg.connect(self.postgres.dsn("postgres", "everturn"))
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def until(self, condition: Any, timeout: float = 30) -> Any:
        """Poll an async condition until it gives something true."""
        async with asyncio.timeout(timeout):
            while not (found := await condition()):  # noqa: ASYNC110 -- of other processes
                await asyncio.sleep(0.05)
            return found


def sqlalchemy_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    edges: int = 2,
    workers: int = 1,
    durable: bool = False,
    bus: Bus = "postgres",
) -> AsyncIterator[System]:
    """Everything, for as long as the block runs."""
    async with AsyncExitStack() as stack:
        data_dir = postgres.make_private(folder / "pg")
        keys = Keys.kept_in(data_dir)
        await postgres.initialise(data_dir, keys, durable=durable)
        model = await stack.enter_async_context(ModelServer().running())
        system = System(stack, Postgres(port=free_port(), keys=keys), model, folder, durable)
        await asyncio.gather(system.start_postgres(), system.start_temporal())
        if bus == "nats":
            await system.start_nats()
        await roles.create(system.postgres)
        await system.migrate()
        system.edges = [await system.start_edge() for _ in range(edges)]
        system.workers = [await system.start_worker() for _ in range(workers)]
        yield system
