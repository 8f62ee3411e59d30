"""The edge alone over a real PostgreSQL, in this process: what REST tests need, and no more.

Temporal is not there; nothing here starts a turn. Requests come from whatever address a test says.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr

from api.app import create_app
from api.passwords import Passwords
from embedded import postgres
from embedded.postgres import Postgres
from embedded.roles import for_sqlalchemy
from store.bus import CONTROL_CHANNEL, Signer
from store.secrets import KeyRing
from store.settings import Settings
from tests.tools.web import Site

KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtMDEyMzQ1Njc4OS0="
PASSWORD = "correct horse battery"
ROOT_EMAIL, ROOT_PASSWORD = "root@installation.test", "installation-password"
ORIGIN = "http://127.0.0.1:8000"


def checked(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.url}: {answer.text}"
    return answer.json() if answer.content else None


class QuickPasswords(Passwords):
    """Hashes as weakly as argon2 allows: a test makes many people."""

    def __init__(self) -> None:
        super().__init__()
        self._hash = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
        self._nobody = self._hash.hash("nobody has this password")


@dataclass
class Company:
    """A tenant with an admin, and a project with an owner, an editor and a viewer."""

    domain: str
    id: str
    project_id: str
    people: dict[str, str]
    clients: dict[str, httpx.AsyncClient]

    def __getattr__(self, name: str) -> httpx.AsyncClient:
        if name in ("admin", "owner", "editor", "viewer", "outsider"):
            return self.clients[name]
        raise AttributeError(name)

    def email(self, name: str) -> str:
        return f"{name}@{self.domain}"


@dataclass
class Rest:
    """One edge and the means to ask it; `service` is an HTTP service it may reach."""

    app: FastAPI
    server: Postgres
    settings: Settings
    stack: AsyncExitStack
    service: Site
    origin: str = ORIGIN
    notices: list[dict[str, Any]] = field(default_factory=list)

    def client(self, address: str = "198.51.100.7") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=False, client=(address, 12345)
        )
        return httpx.AsyncClient(transport=transport, base_url=self.origin)

    async def sign_in(
        self, email: str, password: str = PASSWORD, address: str = "198.51.100.7"
    ) -> httpx.AsyncClient:
        http = self.client(address)
        checked(await http.post("/api/auth/login", json={"email": email, "password": password}))
        return http

    async def company(self) -> Company:
        domain = f"c{uuid.uuid4().hex[:10]}.test"
        root = await self.sign_in(ROOT_EMAIL, ROOT_PASSWORD)
        tenant = checked(
            await root.post(
                "/api/admin/tenants",
                json={
                    "name": domain, "slug": domain.split(".")[0], "domains": [domain],
                    "admin": {"email": f"admin@{domain}", "name": "Admin", "password": PASSWORD},
                },
            )
        )  # fmt: skip
        clients = {"admin": await self.sign_in(f"admin@{domain}")}
        people = {"admin": tenant["admin_id"]}
        for name in ("owner", "editor", "viewer", "outsider"):
            body = {"email": f"{name}@{domain}", "name": name.title(), "password": PASSWORD}
            user = checked(await clients["admin"].post("/api/admin/users", json=body))
            people[name] = user["id"]
            clients[name] = await self.sign_in(f"{name}@{domain}")
        project = checked(await clients["owner"].post("/api/projects", json={"name": "Shop"}))
        for name in ("editor", "viewer"):
            path = f"/api/projects/{project['id']}/members/{people[name]}"
            checked(await clients["owner"].put(path, json={"role": name}))
        return Company(domain, tenant["id"], project["id"], people, clients)

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Ask the database itself, past every policy."""
        connection = await asyncpg.connect(self.server.dsn("postgres", "everturn"))
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def held_up(self, table: str, **where: str) -> asyncpg.Connection:
        """Lock some rows until the connection is closed, so that two writers meet before them."""
        connection = await asyncpg.connect(self.server.dsn("postgres", "everturn"))
        await connection.execute("BEGIN")
        [(column, value)] = where.items()
        query = f"SELECT 1 FROM {table} WHERE {column} = $1::uuid FOR UPDATE"
        assert await connection.fetch(query, value)
        return connection

    async def noticed(self, **wanted: Any) -> dict[str, Any]:
        """Wait for a control notice with these fields."""
        async with asyncio.timeout(5):
            while True:
                for notice in self.notices:
                    if all(notice.get(name) == value for name, value in wanted.items()):
                        return notice
                await asyncio.sleep(0.01)

    async def audited(self, company: Company, **filters: str) -> list[dict[str, Any]]:
        answer = await company.admin.get("/api/admin/audit", params={"limit": 200, **filters})
        return list(checked(answer)["items"])


async def migrate(server: Postgres) -> None:
    ours = {
        "EVERTURN_MIGRATIONS_DATABASE_URL": for_sqlalchemy(server.owner_dsn),
        "EVERTURN_DATABASE_URL": for_sqlalchemy(server.app_dsn),
    }
    command = [sys.executable, "-m", "migrations", "upgrade"]
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | ours)
    assert await process.wait() == 0


def settings_for(server: Postgres, folder: Path, **more: Any) -> Settings:
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        database_url=SecretStr(for_sqlalchemy(server.app_dsn)),
        secret_keys=[SecretStr(KEY)],
        private_hosts=["127.0.0.1"],
        data_dir=folder / "data",
        page_dir=folder / "page",
        port=8000,
        **more,
    )


@asynccontextmanager
async def serving(server: Postgres, settings: Settings, origin: str) -> AsyncIterator[Rest]:
    """An edge with these settings, and an ear on its control notices."""
    app = create_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        app.state.edge = replace(app.state.edge, passwords=QuickPasswords())
        service = await stack.enter_async_context(Site("service").running())
        rest = Rest(app, server, settings, stack, service, origin)
        signer = Signer(KeyRing([KEY]))

        def hear(_connection: Any, _pid: int, channel: str, payload: object) -> None:
            body = signer.open(channel, str(payload))
            assert body is not None, "signed by us"
            rest.notices.append(orjson.loads(body))

        ear = await asyncpg.connect(server.app_dsn)
        stack.push_async_callback(ear.close)
        await ear.add_listener(CONTROL_CHANNEL, hear)
        yield rest


@pytest.fixture(scope="session", name="rest_server")
async def rest_server_fixture(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Postgres, Path]]:
    """A migrated PostgreSQL without any tenant."""
    folder = tmp_path_factory.mktemp("rest")
    async with postgres.running(folder / "pg") as server:
        await migrate(server)
        yield server, folder


@pytest.fixture(scope="session", name="rest")
async def rest_fixture(rest_server: tuple[Postgres, Path]) -> AsyncIterator[Rest]:
    """An edge reached over plain http."""
    server, folder = rest_server
    settings = settings_for(
        server, folder, admin_email=ROOT_EMAIL, admin_password=SecretStr(ROOT_PASSWORD)
    )
    async with serving(server, settings, ORIGIN) as rest:
        yield rest


@pytest.fixture(scope="session", name="alpha")
async def alpha_fixture(rest: Rest) -> Company:
    """A tenant that tests may look at and must not wreck."""
    return await rest.company()


@pytest.fixture(scope="session", name="beta")
async def beta_fixture(rest: Rest) -> Company:
    """Another one."""
    return await rest.company()


@pytest.fixture(name="company")
async def company_fixture(rest: Rest) -> Company:
    """A tenant of the test's own."""
    return await rest.company()
