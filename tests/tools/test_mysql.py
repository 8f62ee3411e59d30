"""MariaDB's limits, roles and connections, each with its end and its words."""

import asyncio
import time
from datetime import timedelta

import pytest

from activities.tools.registry import Registry, default_tools
from activities.tools.sql.values import CELL_BYTES, CUT_MARKER, RESULT_BYTES
from activities.tools.tool import (
    ToolFailed,
    ToolRefused,
    ToolTimeout,
    ToolTooLarge,
    ToolUnavailable,
)
from store.datasource.check import Surroundings, check_datasource
from store.datasource.errors import InvalidConfig, RoleTooPowerful, Unreachable
from store.datasource.mysql_role import Grant, UnknownGrant, read_grants
from store.datasource.pools import Pools
from tests.tools.conftest import LOOPBACK
from tests.tools.test_limits import until
from tests.tools.world import Caller

ENDLESS = "SELECT count(*) FROM orders a, orders b, orders c, orders d"


@pytest.fixture
def surroundings(tmp_path):
    return Surroundings(LOOPBACK, tmp_path)


def config(maria, **changes):
    return {**maria.source().config, **changes}


async def test_types_and_their_forms(maria_reader):
    result = await maria_reader.query("SELECT * FROM kinds")
    assert result["rows"] == [[
        -1, 65535, 5, "18446744073709551615", "12345678901234567890.5000000000", 0.1, 1e300,
        "0000-00-00", "2024-05-06T07:08:09.123456", "2024-05-06T07:08:09+00:00", "-838:59:59.000",
        2024, "101010101", '{"a": 12345678901234567890}', "\\xff00", "\\x0102", "x", "a,b", "abc",
        "text", "\\xff0000", "9007199254740993",
    ]]  # fmt: skip
    assert [column["type"] for column in result["columns"]] == [
        "tinyint", "smallint unsigned", "mediumint", "bigint unsigned", "decimal", "float",
        "double", "date", "datetime", "timestamp", "time", "year", "bit", "text", "varbinary",
        "blob", "enum", "set", "char", "text", "binary", "bigint",
    ]  # fmt: skip


async def test_values_no_browser_could_read(maria_reader):
    """S37"""
    result = await maria_reader.query(
        "SELECT x'ff', NULL, char(0xE2, 0x80, 0xAE USING utf8mb4), CAST('0000-00-00' AS date),"
        " 1e308, 9007199254740993, -9007199254740993, 0.1 + 0.2"
    )
    values = result["rows"][0]
    assert values[:3] == ["\\xff", None, "\u202e"]
    assert values[5:] == ["9007199254740993", "-9007199254740993", 0.3]


async def test_cells_rows_and_bytes_are_cut(maria_reader, maria):
    """S27"""
    result = await maria_reader.query("SELECT repeat('x', 10000000), repeat('€', 30000), 1")
    wide, euro, number = result["rows"][0]
    assert wide == "x" * CELL_BYTES + CUT_MARKER
    assert euro.endswith(CUT_MARKER)
    assert number == 1
    assert result["truncated"] is True
    result = await maria_reader.query("SELECT id FROM orders ORDER BY id")
    assert (result["row_count"], result["truncated"]) == (1000, True)
    result = await maria_reader.query("SELECT repeat('x', 30000), id FROM orders")
    assert result["truncated"] is True
    assert 0 < len(str(result["rows"])) <= RESULT_BYTES
    result = await maria_reader.query("SELECT a.id FROM orders a, orders b LIMIT 2000000")
    assert (result["row_count"], result["truncated"]) == (1000, True)

    async def is_gone():
        return not await maria.busy()

    await until(is_gone, within=3)


async def test_a_value_the_server_makes_null_for_its_size_is_said(maria_reader):
    with pytest.raises(ToolTooLarge, match="max_allowed_packet"):
        await maria_reader.query("SELECT repeat('x', 50000000)")


async def test_a_cancelled_query_ends_at_the_server(registry, maria):
    caller = Caller(registry, [maria.source()])
    running = asyncio.create_task(caller.query(ENDLESS))

    async def is_running():
        return bool(await maria.busy())

    async def is_gone():
        return not await maria.busy()

    await until(is_running, within=5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(is_gone, within=3)
    assert (await caller.query("SELECT 1"))["rows"] == [[1]]


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
async def test_cancelling_at_any_moment_leaves_the_pool_whole(registry, maria, pause):
    caller = Caller(registry, [maria.source()])
    await caller.query("SELECT 1")
    for _ in range(5):
        task = asyncio.create_task(caller.query("SELECT id FROM orders"))
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    results = await asyncio.gather(*(caller.query(f"SELECT {n}") for n in range(8)))
    assert [result["rows"] for result in results] == [[[n]] for n in range(8)]
    assert await maria.locks() == []


async def test_one_tenants_slow_queries_do_not_slow_anothers(registry, maria, shop):
    """S43, over two kinds of databases"""
    first = maria.source()
    kinds = [first, shop.source(tenant_id=first.tenant_id)]
    callers = [Caller(registry, [kinds[n % 2]], deadline=timedelta(seconds=4)) for n in range(20)]
    slow = [asyncio.create_task(caller.query(ENDLESS)) for caller in callers]
    await asyncio.sleep(0.7)
    assert len(await maria.busy()) <= 4
    for other in (maria.source(), shop.source()):
        began = time.monotonic()
        assert (await Caller(registry, [other]).query("SELECT 1"))["rows"] == [[1]]
        assert time.monotonic() - began < 2
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(error) for error in ended} <= {ToolTimeout, ToolUnavailable}
    assert any("in use" in error.message or "are running" in error.message for error in ended)

    async def is_gone():
        return not await maria.busy()

    await until(is_gone, within=3)


async def test_idle_connections_close_and_changed_datasources_get_new_ones(
    maria, tmp_path, project_files
):
    pools = Pools(LOOPBACK, tmp_path, idle=timedelta(seconds=0.3))
    try:
        before = await maria.connections()
        source = maria.source()
        caller = Caller(Registry(default_tools(pools, project_files)), [source])
        await caller.query("SELECT 1")
        first = (await caller.query("SELECT connection_id()"))["rows"]
        assert (await caller.query("SELECT connection_id()"))["rows"] == first
        changed = maria.source("writer", id=source.id, tenant_id=source.tenant_id, version=2)
        result = await Caller(caller.registry, [changed]).query("SELECT current_user()")
        assert result["rows"] == [["writer@%"]]

        async def closed():
            return await maria.connections() <= before

        await until(closed, within=3)
    finally:
        await pools.close()


async def test_a_waiting_lock_is_a_timeout_with_words(registry, maria):
    caller = Caller(registry, [maria.source()], deadline=timedelta(seconds=10))
    await maria.run("LOCK TABLES shop.order_lines WRITE")
    try:
        with pytest.raises(ToolTimeout, match="being changed by someone else"):
            await caller.query("SELECT count(*) FROM order_lines")
    finally:
        await maria.run("UNLOCK TABLES")


async def test_a_lost_connection_is_said_and_the_next_call_works(registry, maria):
    caller = Caller(registry, [maria.source()])
    running = asyncio.create_task(caller.query(ENDLESS))
    await asyncio.sleep(0.5)
    for (number,) in await maria.admin.fetch(
        "SELECT id FROM information_schema.processlist WHERE user = 'reader'"
    ):
        await maria.run(f"KILL {int(number)}")
    with pytest.raises((ToolUnavailable, ToolTimeout)):
        await running
    assert (await caller.query("SELECT 1"))["rows"] == [[1]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT nope FROM orders", "Unknown column 'nope'"),
        ("SELECT * FROM nope", "nope' doesn't exist"),
        ("SELECT id FROM", "."),
        ("SELECT * FROM other.things", "denied to this user"),
        (" ; ", "empty"),
    ],
)
async def test_the_servers_errors_are_told(maria_reader, query, words):
    with pytest.raises(ToolFailed, match=words) as caught:
        await maria_reader.query(query)
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"port": 1}, ToolUnavailable, "No connection"),
        ({"database": "nope"}, ToolUnavailable, "no database of that name"),
        ({"host": "169.254.169.254"}, ToolRefused, "never be reached"),
        ({"host": "10.1.2.3"}, ToolRefused, "not a public address"),
        ({"ssl": "require"}, ToolUnavailable, "TLS"),
        ({"database": "mysql"}, ToolRefused, "the server's own"),
    ],
)
async def test_why_there_is_no_connection(registry, maria, changes, error, words):
    source = maria.source(config=config(maria, **changes))
    with pytest.raises(error, match=words):
        await Caller(registry, [source]).query("SELECT 1")


async def test_errors_and_logs_hold_no_secret(registry, maria, caplog):
    caplog.set_level("DEBUG")
    source = maria.source("reader", secret="CANARY-PASSWORD")
    with pytest.raises(ToolUnavailable, match="refused the sign-in") as caught:
        await Caller(registry, [source]).query("SELECT 'CANARY-QUERY'")
    await Caller(registry, [maria.source()]).query("SELECT 'CANARY-QUERY'")
    assert "CANARY" not in caught.value.message + caplog.text + repr(caught.value.__cause__)
    assert "127.0.0.1" not in caught.value.message


async def test_the_schema_is_described(maria_reader):
    found = await maria_reader(
        "describe_schema", datasource_id=str(maria_reader.sources[0].id), table="shop.order_lines"
    )
    assert found["tables"] == [
        {
            "name": "order_lines",
            "columns": [
                {"name": "order_id", "type": "int(11)", "nullable": False},
                {"name": "position", "type": "int(11)", "nullable": False},
                {"name": "article", "type": "text", "nullable": True},
            ],
            "primary_key": ["order_id", "position"],
            "foreign_keys": [
                {"columns": ["order_id"], "references": {"table": "orders", "columns": ["id"]}}
            ],
            "row_estimate": 100,
        }
    ]


async def test_a_reading_user_is_accepted_and_not_writable(maria, surroundings):
    report = await check_datasource("mysql", config(maria), "reader-password", surroundings)
    assert (report.role, report.writable, list(report.grants)) == ("reader", False, [])


async def test_a_writing_user_is_accepted_and_said_to_be_writable(maria, surroundings):
    await maria.run(
        "CREATE USER clerk IDENTIFIED BY 'p'", "GRANT SELECT, INSERT ON shop.log TO clerk",
        "GRANT UPDATE (customer, total) ON shop.orders TO clerk",
        "GRANT EXECUTE ON FUNCTION shop.bump TO clerk",
    )  # fmt: skip
    try:
        report = await check_datasource("mysql", config(maria, user="clerk"), "p", surroundings)
        assert report.writable is True
        assert set(report.grants) == {
            "INSERT on shop.log", "UPDATE on shop.orders", "EXECUTE on FUNCTION shop.bump",
        }  # fmt: skip
    finally:
        await maria.run("DROP USER clerk")


@pytest.mark.parametrize(
    "grant",
    [
        "SUPER ON *.*", "FILE ON *.*", "PROCESS ON *.*", "RELOAD ON *.*", "INSERT ON *.*",
        "CREATE USER ON *.*", "ALL ON *.*", "REPLICATION SLAVE ON *.*", "UPDATE ON mysql.*",
        "DELETE ON `my%`.*", "INSERT ON mysql.user", "CONNECTION ADMIN ON *.*",
    ],
)  # fmt: skip
async def test_a_user_who_can_do_more_is_refused(maria, surroundings, grant):
    await maria.run("CREATE USER strong IDENTIFIED BY 'p'", f"GRANT {grant} TO strong",
                    "GRANT SELECT ON shop.* TO strong")  # fmt: skip
    try:
        with pytest.raises(RoleTooPowerful) as caught:
            await check_datasource("mysql", config(maria, user="strong"), "p", surroundings)
        assert (caught.value.specific_code, caught.value.status) == ("role_too_powerful", 422)
        assert "*" not in caught.value.detail.replace("your_database.*", "")
    finally:
        await maria.run("DROP USER strong")


@pytest.mark.parametrize("default", [True, False])
async def test_power_by_detours_is_found(maria, surroundings, default):
    await maria.run(
        "CREATE ROLE inner_role", "GRANT FILE ON *.* TO inner_role", "CREATE ROLE middle",
        "GRANT inner_role TO middle", "CREATE USER weak IDENTIFIED BY 'p'",
        "GRANT middle TO weak", "GRANT SELECT ON shop.* TO weak",
        *(["SET DEFAULT ROLE middle FOR weak"] if default else []),
    )  # fmt: skip
    try:
        with pytest.raises(RoleTooPowerful, match="FILE"):
            await check_datasource("mysql", config(maria, user="weak"), "p", surroundings)
    finally:
        await maria.run("DROP USER weak", "DROP ROLE middle", "DROP ROLE inner_role")


async def test_a_user_who_became_strong_is_refused_at_query_time(maria, registry):
    await maria.run("CREATE USER promoted IDENTIFIED BY 'p'", "GRANT SELECT ON shop.* TO promoted")
    try:
        await Caller(registry, [maria.source("promoted", secret="p")]).query("SELECT 1")
        await maria.run("GRANT FILE ON *.* TO promoted")
        with pytest.raises(ToolRefused, match="role_too_powerful"):
            await Caller(registry, [maria.source("promoted", secret="p")]).query("SELECT 1")
    finally:
        await maria.run("DROP USER promoted")


@pytest.mark.parametrize(
    ("line", "grant"),
    [
        (
            "GRANT SELECT, INSERT (`a)b`, `c`) ON `s``x`.`t` TO `u`@`%`",
            Grant(("SELECT", "INSERT"), "s`x", "t", "", with_grant=False),
        ),
        (
            "GRANT ALL PRIVILEGES ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*1' WITH GRANT OPTION",
            Grant(("ALL PRIVILEGES",), "*", "*", "", with_grant=True),
        ),
        (
            "GRANT BACKUP_ADMIN,XA_RECOVER_ADMIN ON *.* TO `u`@`%`",
            Grant(("BACKUP_ADMIN", "XA_RECOVER_ADMIN"), "*", "*", "", with_grant=False),
        ),
        (
            "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION",
            Grant(("PROXY",), "''@'%'", "", "", with_grant=True),
        ),
    ],
)
def test_grants_of_both_families_are_read(line, grant):
    assert list(read_grants([line, "GRANT `r`@`%` TO `u`@`%`"])) == [grant]


def test_a_grant_that_is_not_understood_is_too_much():
    with pytest.raises(UnknownGrant):
        list(read_grants(["GRANT EVERYTHING ON EARTH FOR `u`"]))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"password": "x"}, InvalidConfig),
        ({"port": "3306"}, InvalidConfig),
        ({"database": "information_schema"}, InvalidConfig),
        ({"host": "a b"}, InvalidConfig),
        ({"host": "no-such-host.invalid"}, Unreachable),
        ({"user": "nobody"}, Unreachable),
    ],
)
async def test_what_is_wrong_is_said(maria, surroundings, changes, error):
    with pytest.raises(error) as caught:
        await check_datasource("mysql", config(maria, **changes), "CANARY", surroundings)
    assert "CANARY" not in str(caught.value) + repr(caught.value.errors)
