"""Whose role and whose database it is, asked of a real server."""

import asyncpg
import pytest

from activities.tools.tool import ToolRefused
from store.datasource.check import Surroundings, check_datasource, own_identity
from store.datasource.errors import (
    AddressNotAllowed,
    FileUnusable,
    InvalidConfig,
    OwnDatabase,
    RoleTooPowerful,
    Unreachable,
)
from store.datasource.pools import Pools
from store.datasource.role import OWN_TABLES, identity, inspect_role
from store.tables import Base
from tests.tools.conftest import LOOPBACK
from tests.tools.world import Caller


@pytest.fixture
def surroundings(tmp_path):
    return Surroundings(LOOPBACK, tmp_path)


def config(shop, **changes):
    return {**shop.source().config, **changes}


async def test_a_reading_role_is_accepted_and_not_writable(shop, surroundings):
    report = await check_datasource("postgresql", config(shop), "reader-password", surroundings)
    assert report.writable is False
    assert list(report.grants) == []
    assert report.role == "reader"


async def test_a_writing_role_is_accepted_and_said_to_be_writable(shop, surroundings):
    report = await check_datasource(
        "postgresql", config(shop, user="writer"), "writer-password", surroundings
    )
    assert report.writable is True
    assert "INSERT, UPDATE, DELETE, TRUNCATE on app.orders" in report.grants
    assert "CREATE on schema app" in report.grants
    assert "USAGE on sequence app.s1" in report.grants


@pytest.mark.parametrize(
    "power",
    [
        "SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS",
        "IN ROLE pg_read_server_files", "IN ROLE pg_write_server_files",
        "IN ROLE pg_execute_server_program", "IN ROLE pg_signal_backend", "IN ROLE postgres",
        "NOINHERIT IN ROLE pg_read_server_files",
    ],
)  # fmt: skip
async def test_a_role_that_can_do_more_is_refused(shop, surroundings, power):
    await shop.admin.execute(f"CREATE ROLE strong LOGIN PASSWORD 'p' {power}")
    try:
        with pytest.raises(RoleTooPowerful) as caught:
            await check_datasource("postgresql", config(shop, user="strong"), "p", surroundings)
        assert caught.value.specific_code == "role_too_powerful"
        assert caught.value.status == 422
    finally:
        await shop.admin.execute("DROP ROLE strong")


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT middle TO weak",
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO weak",
        "ALTER ROLE weak SET role = 'middle'; GRANT middle TO weak",
    ],
)
async def test_power_by_detours_is_found(shop, surroundings, grant):
    await shop.admin.execute(
        "CREATE ROLE middle IN ROLE pg_read_server_files; CREATE ROLE weak LOGIN PASSWORD 'p';"
        + grant
    )
    try:
        with pytest.raises(RoleTooPowerful):
            await check_datasource("postgresql", config(shop, user="weak"), "p", surroundings)
    finally:
        await shop.admin.execute(
            "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM weak; DROP ROLE weak, middle"
        )


async def test_a_role_that_became_strong_is_refused_at_query_time(shop, registry):
    await shop.admin.execute("CREATE ROLE promoted LOGIN PASSWORD 'p'")
    try:
        source = shop.source("promoted", secret="p")
        await Caller(registry, [source]).query("SELECT 1")
        await shop.admin.execute("ALTER ROLE promoted CREATEROLE")
        fresh = shop.source("promoted", secret="p")  # its pool has not looked yet
        with pytest.raises(ToolRefused, match="role_too_powerful"):
            await Caller(registry, [fresh]).query("SELECT 1")
        assert await shop.locks() == []
    finally:
        await shop.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'promoted'"
        )
        await shop.admin.execute("DROP ROLE promoted")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST.", "127.1", "0x7f.0.0.1", "2130706433"]
)
async def test_our_database_is_refused_under_any_name(server, tmp_path, host):
    own = await own_identity(server.app_dsn)
    assert own is not None
    surroundings = Surroundings((*LOOPBACK, "localhost"), tmp_path, own)
    where = {"host": host, "port": server.port, "database": "everturn", "user": "everturn_app"}
    with pytest.raises(OwnDatabase) as caught:
        await check_datasource("postgresql", where, server.keys.app_password, surroundings)
    assert caught.value.specific_code == "own_database"


async def test_our_database_is_refused_by_the_tools(server, shop, project_files, tmp_path):
    from activities.tools.registry import Registry, default_tools

    pools = Pools(LOOPBACK, tmp_path, lambda: own_identity(server.app_dsn))
    try:
        source = shop.source(
            config={**shop.source().config, "database": "everturn", "user": "everturn_app"},
            secret=server.keys.app_password,
        )
        caller = Caller(Registry(default_tools(pools, project_files)), [source])
        with pytest.raises(ToolRefused, match="own_database"):
            await caller.query("SELECT 1")
        with pytest.raises(ToolRefused, match="own_database"):
            await caller("describe_schema", datasource_id=str(source.id))
    finally:
        await pools.close()


async def test_a_copy_of_an_installation_is_recognised_by_its_tables(server, shop):
    assert set(OWN_TABLES) <= set(Base.metadata.tables)
    await shop.admin.execute("CREATE DATABASE copy")
    copy = await asyncpg.connect(server.dsn(database="copy"))
    try:
        assert [type(problem) for problem in (await inspect_role(copy, None)).problems] == [
            RoleTooPowerful
        ]
        for table in OWN_TABLES:
            await copy.execute(f"CREATE TABLE {table} (id int)")
        problems = (await inspect_role(copy, None)).problems
        assert [type(problem) for problem in problems] == [OwnDatabase, RoleTooPowerful]
        assert await identity(copy) != await identity(shop.admin)
    finally:
        await copy.close()
        await shop.admin.execute("DROP DATABASE copy")


@pytest.mark.parametrize(
    ("kind", "changes", "error"),
    [
        ("postgresql", {"password": "x"}, InvalidConfig),
        ("postgresql", {"port": "5432"}, InvalidConfig),
        ("postgresql", {"port": 0}, InvalidConfig),
        ("postgresql", {"database": ""}, InvalidConfig),
        ("postgresql", {"database": "x" * 64}, InvalidConfig),
        ("postgresql", {"user": "a\0b"}, InvalidConfig),
        ("postgresql", {"host": "a b"}, InvalidConfig),
        ("postgresql", {"host": "/var/run/postgresql"}, InvalidConfig),
        ("postgresql", {"ssl": "maybe"}, InvalidConfig),
        ("postgresql", {"host": "169.254.169.254"}, AddressNotAllowed),
        ("postgresql", {"host": "192.168.0.1"}, AddressNotAllowed),
        ("postgresql", {"host": "no-such-host.invalid"}, Unreachable),
        ("postgresql", {"port": 1}, Unreachable),
        ("postgresql", {"user": "nobody"}, Unreachable),
        ("oracle", {}, InvalidConfig),
        ("sqlite", {}, InvalidConfig),
    ],
)
async def test_what_is_wrong_is_said(shop, surroundings, kind, changes, error):
    with pytest.raises(error) as caught:
        await check_datasource(kind, config(shop, **changes), "CANARY", surroundings)
    assert "CANARY" not in str(caught.value) + repr(caught.value.errors)


async def test_kinds_without_a_role(surroundings):
    with pytest.raises(FileUnusable):
        await check_datasource("sqlite", {"path": "no.db"}, "", surroundings)
