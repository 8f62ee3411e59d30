"""SQLite files of a project: read, and nothing else."""

import asyncio
import hashlib
import os
import sqlite3
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from activities.tools.sql.values import CELL_BYTES, CUT_MARKER
from activities.tools.tool import (
    Datasource,
    ToolError,
    ToolFailed,
    ToolRefused,
    ToolTimeout,
    ToolTooLarge,
    ToolUnavailable,
)
from store.datasource.files import project_folder
from tests.tools.world import Caller

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

SCHEMA = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL, "delete" INT);
CREATE TABLE lines (order_id INTEGER REFERENCES orders (id), position INTEGER, article TEXT,
                    PRIMARY KEY (order_id, position));
CREATE VIEW plain AS SELECT id, upper(customer) AS customer FROM orders;
CREATE TABLE log (what TEXT);
CREATE VIEW over_plain AS SELECT count(*) AS n FROM plain;
"""


class Project:
    def __init__(self, pools, registry):
        self.tenant_id, self.project_id = uuid4(), uuid4()
        self.folder = project_folder(pools.data_dir, self.tenant_id, self.project_id)
        self.folder.mkdir(parents=True)
        self.registry = registry

    def caller(self, path="data/shop.db", **options):
        source = Datasource(uuid4(), self.tenant_id, "file", "sqlite", 1, {"path": path})
        return Caller(self.registry, [source], project_id=self.project_id, **options)

    def state(self):
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def project(pools, registry):
    made = Project(pools, registry)
    (made.folder / "data").mkdir()
    database = sqlite3.connect(made.folder / "data/shop.db")
    database.executescript(SCHEMA)
    database.executemany(
        "INSERT INTO orders VALUES (?, ?, ?, ?)",
        [(n, f"customer {n}", n * 1.5, n % 2) for n in range(1, 1501)],
    )
    database.execute("INSERT INTO lines VALUES (1, 1, 'a'), (1, 2, 'b')")
    database.commit()
    database.close()
    return made


REFUSED = [
    "SELECT 1; DELETE FROM orders",
    "DELETE FROM orders",
    "INSERT INTO orders VALUES (0, 'x', 1, 1)",
    "INSERT INTO log SELECT customer FROM orders RETURNING 1",
    "UPDATE orders SET total = 0",
    "WITH d AS (SELECT 1) DELETE FROM orders",
    "REPLACE INTO orders VALUES (1, 'x', 1, 1)",
    "DROP TABLE orders",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE TABLE x AS SELECT 1",
    "CREATE VIRTUAL TABLE x USING fts5(a)",
    "ALTER TABLE orders ADD COLUMN x",
    "ATTACH DATABASE 'other.db' AS other",
    "ATTACH DATABASE ':memory:' AS other",
    "DETACH DATABASE main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA table_info(orders)",
    "SELECT * FROM pragma_table_info('orders')",
    "SELECT * FROM pragma_database_list",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT a",
    "SELECT load_extension('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('x', 'y')",
    "SELECT sqlite_compileoption_get(1)",
    "SELECT no_such_function(1)",
    "SELECT * FROM sqlite_dbpage",
    "SELECT * FROM dbstat",
    "SELECT 1 \ud800",
]


@pytest.mark.parametrize("query", REFUSED)
async def test_is_refused_and_nothing_changes(project, query):
    before = project.state()
    with pytest.raises(ToolError) as caught:
        await project.caller().query(query)
    assert caught.value.code in {"refused", "failed", "invalid_arguments"}
    assert project.state() == before


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("WITH a AS (SELECT id FROM orders WHERE id < 3) SELECT * FROM a", [[1], [2]]),
        ("SELECT id, rank() OVER (ORDER BY id DESC) FROM orders ORDER BY 2 LIMIT 1", [[1500, 1]]),
        ("VALUES (1, 'a'), (2, NULL)", [[1, "a"], [2, None]]),
        ("SELECT '; DROP TABLE orders' -- x", [["; DROP TABLE orders"]]),
        ("SELECT /* ; */ 1;", [[1]]),
        ('SELECT "delete" FROM orders WHERE id = 1', [[1]]),
        ("SELECT lower('A'), date('2024-01-01', '+1 day')", [["a", "2024-01-02"]]),
        ("SELECT json_extract('{\"a\": 2}', '$.a')", [[2]]),
        ("SELECT '{\"a\": 2}' ->> '$.a', x.value FROM json_each('[5]') AS x", [[2, 5]]),
        ("SELECT customer FROM plain WHERE id = 2", [["CUSTOMER 2"]]),
        ("SELECT n FROM over_plain", [[1500]]),
        ("SELECT count(*), group_concat(article, '+') FROM lines", [[2, "a+b"]]),
        ("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1 LIMIT 1", [["lines"]]),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i+1 FROM n WHERE i<2) SELECT i FROM n",
            [[1], [2]],
        ),
        ("SELECT 9007199254740993, 1e999, -1e999", [["9007199254740993", "Infinity", "-Infinity"]]),
        ("SELECT x'ff00', 'a' || char(0) || 'b'", [["\\xff00", "a\ufffdb"]]),
        ("SELECT CAST(x'ff' AS TEXT)", [["\ufffd"]]),
        ("SELECT id FROM orders WHERE customer LIKE '%7' AND total BETWEEN 10 AND 11", [[7]]),
    ],
)  # fmt: skip
async def test_passes(project, query, rows):
    before = project.state()
    assert (await project.caller().query(query))["rows"] == rows
    assert project.state() == before


async def test_columns_have_types(project):
    result = await project.caller().query(
        "SELECT 1 AS a, 'x' AS b, 1.5 AS c, x'00' AS d, NULL AS e"
    )
    assert [(column["name"], column["type"]) for column in result["columns"]] == [
        ("a", "integer"), ("b", "text"), ("c", "real"), ("d", "blob"), ("e", "null"),
    ]  # fmt: skip


async def test_rows_and_cells_are_bounded(project):
    result = await project.caller().query("SELECT * FROM orders")
    assert (result["row_count"], result["truncated"]) == (1000, True)
    result = await project.caller().query("SELECT hex(zeroblob(1000000))")
    assert result["rows"] == [["0" * CELL_BYTES + CUT_MARKER]]
    with pytest.raises(ToolTooLarge, match="ask for less"):
        await project.caller().query("SELECT hex(zeroblob(100000000))")


async def test_a_slow_query_is_cut(project):
    began = time.monotonic()
    with pytest.raises(ToolTimeout, match=r"within 0\.5 s"):
        await project.caller(deadline=timedelta(seconds=1)).query(ENDLESS)
    assert time.monotonic() - began < 1.5


async def test_a_cancelled_query_ends(project, pools):
    task = asyncio.create_task(project.caller().query(ENDLESS))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1


async def test_slow_queries_use_their_tenants_places_only(project, pools, registry):
    slow = [
        asyncio.create_task(project.caller(deadline=timedelta(seconds=2)).query(ENDLESS))
        for _ in range(12)
    ]
    await asyncio.sleep(0.2)
    other = Project(pools, registry)
    sqlite3.connect(other.folder / "x.db").execute("CREATE TABLE t (a)").connection.close()
    began = time.monotonic()
    assert (await other.caller("x.db").query("SELECT 1"))["rows"] == [[1]]
    assert time.monotonic() - began < 1
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(error) for error in ended} == {ToolTimeout, ToolUnavailable}


@pytest.mark.parametrize(
    "path",
    [
        "../other/shop.db", "data/../../x.db", "/etc/passwd", "data//shop.db", "./data/shop.db",
        "data", "data/", "", "missing.db", "data/shop.db/x", "link.db", "linked/shop.db", "pipe",
        "text.db", "empty.db", "file:data/shop.db?mode=rw", "data/shop.db?mode=rwc", "a" * 2000,
        "data/shop.db\0", "~/x.db",
    ],
)  # fmt: skip
async def test_only_files_of_the_project_are_opened(project, tmp_path, path):
    outside = sqlite3.connect(tmp_path / "shop.db")
    outside.execute("CREATE TABLE secret (token)")
    outside.close()
    os.symlink(tmp_path / "shop.db", project.folder / "link.db")
    os.symlink(tmp_path, project.folder / "linked")
    os.mkfifo(project.folder / "pipe")
    (project.folder / "text.db").write_text("not a database, but long enough to look like one")
    (project.folder / "empty.db").touch()
    before = project.state()
    with pytest.raises(ToolError) as caught:
        await project.caller(path).query("SELECT 1")
    assert caught.value.code in {"failed", "refused"}
    assert str(tmp_path) not in caught.value.message
    assert project.state() == before


async def test_a_database_in_wal_mode_is_read_without_a_trace(project):
    database = sqlite3.connect(project.folder / "wal.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE t (a)")
    database.execute("INSERT INTO t VALUES (1)")
    database.commit()
    database.close()
    before = project.state()
    assert (await project.caller("wal.db").query("SELECT a FROM t"))["rows"] == [[1]]
    assert project.state() == before


async def test_a_schema_that_calls_functions_does_not(project):
    database = sqlite3.connect(project.folder / "evil.db")
    database.execute("CREATE VIEW v AS SELECT load_extension('/tmp/x.so') AS a")
    database.execute("CREATE VIEW w AS SELECT a FROM v")
    database.close()
    for view in ("v", "w"):
        with pytest.raises((ToolRefused, ToolFailed), match="load_extension"):
            await project.caller("evil.db").query(f"SELECT a FROM {view}")


async def test_errors_are_told(project):
    with pytest.raises(ToolFailed, match="no such column: nope"):
        await project.caller().query("SELECT nope FROM orders")
    with pytest.raises(ToolFailed, match="syntax error"):
        await project.caller().query("SELEC 1")


async def test_the_schema_is_described(project):
    caller = project.caller()
    described = await caller("describe_schema", datasource_id=str(caller.sources[0].id))
    tables = {table["name"]: table for table in described["tables"]}
    assert list(tables) == ["lines", "log", "orders", "over_plain", "plain"]
    assert tables["orders"]["columns"][1] == {"name": "customer", "type": "TEXT", "nullable": False}
    assert tables["lines"]["primary_key"] == ["order_id", "position"]
    assert tables["lines"]["foreign_keys"] == [
        {"columns": ["order_id"], "references": {"table": "orders", "columns": ["id"]}}
    ]
    one = await caller("describe_schema", datasource_id=str(caller.sources[0].id), table="ORDERS")
    assert [table["name"] for table in one["tables"]] == ["orders"]
