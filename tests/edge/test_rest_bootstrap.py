"""The first inhabitants: made once, by however many edges."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.bootstrap import bootstrap
from embedded import postgres
from embedded.postgres import Postgres
from store.database import Database
from store.secrets import KeyRing
from tests.edge.rest_fixtures import (
    KEY,
    ORIGIN,
    PASSWORD,
    QuickPasswords,
    Rest,
    checked,
    migrate,
    serving,
    settings_for,
)

DEMO = {
    "demo": True,
    "demo_password": SecretStr(PASSWORD),
    "admin_email": "Root@Example.org",
    "admin_password": SecretStr("the first password"),
}


@pytest.fixture(scope="module", name="server")
async def server_fixture(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    async with postgres.running(tmp_path_factory.mktemp("bootstrap")) as server:
        await migrate(server)
        yield server


async def start(server: Postgres, folder: Path, times: int = 1, **more: Any) -> None:
    """What several edges do when they start at once."""
    given: dict[str, Any] = {"demo_datasource_url": SecretStr(server.demo_reader_dsn)}
    settings = settings_for(server, folder, **(DEMO | given | more))
    url, keys = settings.database_url.get_secret_value(), KeyRing([KEY])
    database = Database(url, application_name="test", pool_size=1)
    databases = [database, *(Database(url, application_name="test") for _ in range(times - 1))]
    try:
        await asyncio.gather(*(bootstrap(db, keys, QuickPasswords(), settings) for db in databases))
    finally:
        for db in databases:
            await db.close()


async def test_edges_that_start_together_make_everything_once(
    server: Postgres, tmp_path: Path
) -> None:
    await start(server, tmp_path, times=4)
    async with serving(server, settings_for(server, tmp_path), ORIGIN) as rest:
        counts = await rest.rows(
            "SELECT (SELECT count(*) FROM tenants) AS tenants, (SELECT count(*) FROM users) AS"
            " people, (SELECT count(*) FROM projects) AS projects, (SELECT count(*) FROM rooms) AS"
            " rooms, (SELECT count(*) FROM datasources) AS datasources"
        )
        assert tuple(counts[0]) == (2, 3, 1, 1, 1)
        ada = await rest.sign_in("ada@demo.test")
        me = checked(await ada.get("/api/auth/me"))
        assert (me["tenant"]["slug"], me["user"]["role"]) == ("demo", "admin")
        assert me["user"]["installation_admin"] is True
        checked(await ada.get("/api/admin/tenants"))
        grace = await rest.sign_in("grace@demo.test")
        [project] = checked(await grace.get("/api/projects"))["items"]
        assert (project["name"], project["role"]) == ("Demo", "editor")
        path = f"/api/projects/{project['id']}/datasources"
        [source] = checked(await grace.get(path))["items"]
        assert (source["name"], source["kind"]) == ("nycflights13", "postgresql")
        answer = checked(await grace.post(f"{path}/{source['id']}/test"))
        assert answer["ok"] is True, answer
        root = await rest.sign_in("root@example.org", "the first password")
        assert checked(await root.get("/api/auth/me"))["tenant"]["slug"] == "installation"
        assert checked(await root.get("/api/projects"))["items"] == []


async def snapshot(rest: Rest) -> list[Any]:
    return [
        [tuple(row.values()) for row in await rest.rows(f"SELECT * FROM {table} ORDER BY 1, 2")]
        for table in ("tenants", "tenant_domains", "users", "projects", "project_members", "rooms",
                      "datasources")
    ]  # fmt: skip


async def test_starting_again_changes_nothing(server: Postgres, tmp_path: Path) -> None:
    await start(server, tmp_path)
    async with serving(server, settings_for(server, tmp_path), ORIGIN) as rest:
        before = await snapshot(rest)
        await start(server, tmp_path, times=2)
        assert await snapshot(rest) == before


async def test_what_the_settings_say_anew_holds(server: Postgres, tmp_path: Path) -> None:
    await start(server, tmp_path)
    async with serving(server, settings_for(server, tmp_path), ORIGIN) as rest:
        ada = await rest.sign_in("ada@demo.test")
        [project] = checked(await ada.get("/api/projects"))["items"]
        path = f"/api/projects/{project['id']}"
        checked(await ada.patch(path, json={"name": "Renamed"}))
        [before] = checked(await ada.get(f"{path}/datasources"))["items"]
        elsewhere = SecretStr("postgresql://demo_reader:n%C3%A9w@127.0.0.1:1/nycflights13")
        await start(
            server, tmp_path, demo_password=SecretStr("changed password"),
            demo_datasource_url=elsewhere,
        )  # fmt: skip
        await rest.sign_in("ada@demo.test", "changed password")
        await rest.sign_in("grace@demo.test", "changed password")
        assert [p["name"] for p in checked(await ada.get("/api/projects"))["items"]] == ["Renamed"]
        [after] = checked(await ada.get(f"{path}/datasources"))["items"]
        assert (after["id"], after["version"]) == (before["id"], before["version"] + 1)
        [row] = await rest.rows("SELECT tenant_id, secret FROM datasources")
        assert KeyRing([KEY]).decrypt(row["secret"], row["tenant_id"]) == "néw"


async def test_what_people_changed_stays(server: Postgres, tmp_path: Path) -> None:
    await start(server, tmp_path)
    async with serving(server, settings_for(server, tmp_path), ORIGIN) as rest:
        root = await rest.sign_in("root@example.org", "the first password")
        change = {"current": "the first password", "new": "a password of my own"}
        checked(await root.post("/api/auth/password", json=change))
        await start(server, tmp_path)
        await rest.sign_in("root@example.org", "a password of my own")
        ada = await rest.sign_in("ada@demo.test")
        [project] = checked(await ada.get("/api/projects"))["items"]
        checked(await ada.delete(f"/api/projects/{project['id']}"))
        checked(await ada.post("/api/projects", json={"name": "Demo"}))
        await start(server, tmp_path)
        [own] = checked(await ada.get("/api/projects"))["items"]
        assert own["name"] == "Demo"
        assert checked(await ada.get(f"/api/projects/{own['id']}/datasources"))["items"] == []
