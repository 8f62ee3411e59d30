"""Time, rows, bytes and connections, each with its end and its words."""

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from activities.tools.sql.values import CELL_BYTES, CUT_MARKER, RESULT_BYTES
from activities.tools.tool import (
    ToolFailed,
    ToolNotFound,
    ToolRefused,
    ToolTimeout,
    ToolUnavailable,
)
from store.datasource.pools import Pools
from tests.tools.conftest import LOOPBACK
from tests.tools.world import Caller

ENDLESS = "SELECT count(*) FROM orders a, orders b, orders c, orders d"


async def until(condition, within=1.0):
    ends = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < ends, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_slow_query_is_cut_and_gone_from_the_server(registry, shop):
    caller = Caller(registry, [shop.source()], deadline=timedelta(seconds=2))
    began = time.monotonic()
    with pytest.raises(ToolTimeout, match=r"within 1\.5 s"):
        await caller.query(ENDLESS)
    assert time.monotonic() - began < 3
    assert await shop.busy() == []


async def test_a_cancelled_query_ends_at_the_server(registry, shop):
    caller = Caller(registry, [shop.source()])
    running = asyncio.create_task(caller.query(ENDLESS))

    async def is_running():
        return bool(await shop.busy())

    async def is_gone():
        return not await shop.busy()

    await until(is_running, within=5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(is_gone)
    assert (await caller.query("SELECT 1"))["rows"] == [[1]]


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
async def test_cancelling_at_any_moment_leaves_the_pool_whole(registry, shop, pause):
    caller = Caller(registry, [shop.source()])
    await caller.query("SELECT 1")
    for _ in range(5):
        task = asyncio.create_task(caller.query("SELECT id FROM orders"))
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    results = await asyncio.gather(*(caller.query(f"SELECT {n}") for n in range(8)))
    assert [result["rows"] for result in results] == [[[n]] for n in range(8)]
    assert await shop.busy() == []


async def test_a_huge_cell_is_cut_at_the_server(reader):
    result = await reader.query("SELECT repeat('x',50000000), repeat('ab', 10), 1")
    cell, short, number = result["rows"][0]
    assert cell == "x" * CELL_BYTES + CUT_MARKER
    assert (short, number) == ("abababababababababab", 1)
    assert result["truncated"] is True


@pytest.mark.parametrize(
    "expression",
    [
        "repeat('€', 1000000)",
        "repeat('😀', 1000000)",
        "convert_to(repeat('x', 1000000), 'UTF8')",
        "array_fill(7, ARRAY[1000000])",
        "to_jsonb(repeat('x', 1000000))",
        "jsonb_build_object('a', repeat('\"', 1000000))",
        "repeat('1', 100000)::numeric",
        "ROW(repeat('x', 1000000), 1)",
        "repeat('1', 1000000)::bit varying",
        "ARRAY[repeat('x', 1000000)]",
    ],
)  # fmt: skip
async def test_every_wide_type_is_cut(reader, expression):
    result = await reader.query(f"SELECT {expression} AS wide")
    cell = result["rows"][0][0]
    assert isinstance(cell, str)
    assert cell.endswith(CUT_MARKER)
    assert len(cell.encode()) <= CELL_BYTES + len(CUT_MARKER.encode())
    assert result["truncated"] is True


async def test_a_result_has_a_size(reader):
    result = await reader.query("SELECT repeat('x', 30000), n FROM generate_series(1, 1000) AS n")
    assert result["truncated"] is True
    assert 0 < len(str(result["rows"])) <= RESULT_BYTES
    assert result["row_count"] == len(result["rows"]) < 40


async def test_values_no_browser_could_read(reader):
    """S37"""
    result = await reader.query(
        "SELECT 'NaN'::float8, 'infinity'::timestamptz, '-infinity'::date, 1e400::numeric,"
        r" '\xff'::bytea, chr(8238), NULL"
    )
    values = result["rows"][0]
    assert values[:3] == ["NaN", "infinity", "-infinity"]
    assert values[3] == "1" + "0" * 400
    assert values[4:] == ["\\xff", "\u202e", None]


async def test_types_and_their_forms(reader):
    result = await reader.query(
        "SELECT 9007199254740993::int8 AS a, 9007199254740991::int8 AS b, 1.10::numeric(9,2) AS c,"
        " 12345678901234567890.5::numeric AS d, 'Infinity'::float4 AS e, 0.1::float4 AS f,"
        " '{1,NULL}'::int[] AS g, ARRAY[1.5, 'NaN']::numeric[] AS h, '[1,5)'::int4range AS i,"
        " '10.0.0.1/8'::inet AS j, '1 year 2 days'::interval AS k, '25:00'::interval AS l,"
        " '{\"a\": 12345678901234567890}'::json AS m, '(1,2)'::point AS n,"
        " 'a'::\"char\" AS o, B'101' AS p, '12:00+02'::timetz AS q, '0044-03-15 BC'::date AS r,"
        " '00000000-0000-0000-0000-000000000001'::uuid AS s, 'a b'::tsvector AS u,"
        " '{}'::text[] AS v, 'app.orders'::regclass AS w, 1::money AS x, 'null'::jsonb AS y"
    )
    assert result["rows"] == [[
        "9007199254740993", 9007199254740991, 1.1, "12345678901234567890.5", "Infinity", 0.1,
        [1, None], [1.5, "NaN"], "[1,5)", "10.0.0.1/8", "P1Y2D", "PT25H",
        {"a": "12345678901234567890"}, "(1,2)", "a", "101", "12:00:00+02", "0044-03-15 BC",
        "00000000-0000-0000-0000-000000000001", "'a' 'b'", [], "orders", "$1.00", None,
    ]]  # fmt: skip
    assert [column["type"] for column in result["columns"]] == [
        "bigint", "bigint", "numeric", "numeric", "real", "real", "integer[]", "numeric[]",
        "int4range", "inet", "interval", "interval", "json", "point", '"char"', "bit",
        "time with time zone", "date", "uuid", "tsvector", "text[]", "regclass", "money",
        "jsonb",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM app.orders", 'column "nope" does not exist'),
        ("SELECT * FROM app.nope", 'relation "app.nope" does not exist'),
        ("SELECT 1/0", "division by zero"),
        ("SELECT 'x'::int", "invalid input syntax"),
        (" ; ", "empty"),
    ],
)
async def test_the_servers_errors_are_told(reader, query, words):
    with pytest.raises(ToolFailed, match=words):
        await reader.query(query)


async def test_a_position_points_into_the_query_as_sent(reader):
    with pytest.raises(ToolFailed) as caught:
        await reader.query("  -- ü comment\n SELECT id, nope FROM app.orders")
    assert "At character 28: " in caught.value.message


async def test_errors_and_logs_hold_no_secret(registry, shop, caplog):
    caplog.set_level("DEBUG")
    source = shop.source("reader", secret="CANARY-PASSWORD")
    with pytest.raises(ToolUnavailable, match="refused the sign-in") as caught:
        await Caller(registry, [source]).query("SELECT 'CANARY-QUERY'")
    await Caller(registry, [shop.source()]).query("SELECT 'CANARY-QUERY'")
    told = caught.value.message + caplog.text + repr(source) + repr(caught.value.__cause__)
    assert "CANARY" not in told
    assert "127.0.0.1" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"port": 1}, ToolUnavailable, "No connection"),
        ({"database": "nope"}, ToolUnavailable, "no database of that name"),
        ({"host": "169.254.169.254"}, ToolRefused, "never be reached"),
        ({"host": "10.1.2.3"}, ToolRefused, "not a public address"),
        ({"host": "/tmp"}, ToolRefused, "host"),
        ({"host": "a,b"}, ToolRefused, "host"),
        ({"ssl": "require"}, ToolUnavailable, "TLS"),
        ({"options": "-c x=y"}, ToolRefused, "options"),
    ],
)
async def test_why_there_is_no_connection(registry, shop, changes, error, words):
    source = shop.source()
    source = shop.source(config={**source.config, **changes})
    with pytest.raises(error, match=words):
        await Caller(registry, [source]).query("SELECT 1")


async def test_the_operators_environment_is_not_used(registry, shop, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "reader-password")
    with pytest.raises(ToolUnavailable, match="refused the sign-in"):
        await Caller(registry, [shop.source(secret="")]).query("SELECT 1")


async def test_an_unknown_datasource_is_not_found_and_nothing_is_connected(registry, shop):
    """S35"""
    before = await shop.connections()
    caller = Caller(registry, [shop.source()])
    messages = set()
    for unknown in (str(uuid4()), str(shop.source().id), "x", ""):
        with pytest.raises(ToolNotFound) as caught:
            await caller("database_query", datasource_id=unknown, query="SELECT 1")
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert await shop.connections() == before


async def test_one_tenants_slow_queries_do_not_slow_anothers(registry, shop):
    """S43"""
    busy = Caller(registry, [shop.source()], deadline=timedelta(seconds=4))
    slow = [asyncio.create_task(busy.query(ENDLESS)) for _ in range(20)]
    await asyncio.sleep(0.5)
    assert len(await shop.busy()) <= 4
    other = Caller(registry, [shop.source()])
    began = time.monotonic()
    assert (await other.query("SELECT 1"))["rows"] == [[1]]
    assert time.monotonic() - began < 2
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(error) for error in ended} <= {ToolTimeout, ToolUnavailable}
    assert any("in use" in error.message or "are running" in error.message for error in ended)
    assert await shop.busy() == []


async def test_a_tenants_datasources_share_its_places(registry, shop):
    first = shop.source()
    sources = [first, *(shop.source(tenant_id=first.tenant_id) for _ in range(3))]
    callers = [
        Caller(registry, [source], deadline=timedelta(seconds=3))
        for source in sources
        for _ in range(4)
    ]
    slow = [asyncio.create_task(caller.query(ENDLESS)) for caller in callers]
    await asyncio.sleep(1)
    assert 4 < len(await shop.busy()) <= 8
    await asyncio.gather(*slow, return_exceptions=True)


async def test_idle_connections_close_and_changed_datasources_get_new_ones(
    shop, project_files, tmp_path
):
    from activities.tools.registry import Registry, default_tools

    pools = Pools(LOOPBACK, tmp_path, idle=timedelta(seconds=0.3))
    try:
        before = await shop.connections()
        source = shop.source()
        caller = Caller(Registry(default_tools(pools, project_files)), [source])
        await caller.query("SELECT 1")
        assert await shop.connections() == before + 1
        changed = shop.source("writer", id=source.id, tenant_id=source.tenant_id, version=2)
        result = await Caller(caller.registry, [changed]).query("SELECT current_user")
        assert result["rows"] == [["writer"]]

        async def closed():
            return await shop.connections() == before

        await until(closed, within=3)
    finally:
        await pools.close()


async def test_a_waiting_lock_is_a_timeout_with_words(registry, shop):
    locked = asyncio.Event()
    caller = Caller(registry, [shop.source()], deadline=timedelta(seconds=10))
    transaction = shop.admin.transaction()
    await transaction.start()
    try:
        await shop.admin.execute("LOCK TABLE app.lines IN ACCESS EXCLUSIVE MODE")
        locked.set()
        with pytest.raises(ToolTimeout, match="being changed by someone else"):
            await caller.query("SELECT count(*) FROM app.lines")
    finally:
        await transaction.rollback()


async def test_a_lost_connection_is_said_and_the_next_call_works(registry, shop):
    caller = Caller(registry, [shop.source()])
    running = asyncio.create_task(caller.query(ENDLESS))
    await asyncio.sleep(0.5)
    await shop.admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'everturn datasource'"
    )
    with pytest.raises(ToolUnavailable):
        await running
    assert (await caller.query("SELECT 1"))["rows"] == [[1]]
