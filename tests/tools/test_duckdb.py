"""Files of a project, read by DuckDB: nothing else, nothing written."""

import asyncio
import gzip
import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import duckdb
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
from store.datasource.pools import Pools
from store.files.folder import project_folder
from tests.tools.world import Caller

ENDLESS = "SELECT count(*) FROM range(100000000000000) WHERE range % 7 = 3"

PWNED = Path("/tmp/pwned")

SCHEMA = """
CREATE TABLE orders (
    id integer PRIMARY KEY, customer varchar NOT NULL, total decimal(12,2), "delete" boolean
);
INSERT INTO orders SELECT n, 'customer ' || n, n * 1.25, n % 2 = 0 FROM range(1, 1501) AS r(n);
CREATE TABLE lines (order_id integer REFERENCES orders (id), article varchar);
INSERT INTO lines VALUES (1, 'a'), (2, 'b');
CREATE VIEW plain AS SELECT id, upper(customer) AS customer FROM orders;
CREATE VIEW spying AS SELECT * FROM read_text('/etc/passwd');
CREATE SEQUENCE s1;
"""


class Project:
    def __init__(self, pools, registry):
        self.tenant_id, self.project_id = uuid4(), uuid4()
        self.folder = project_folder(pools.files_dir, self.tenant_id, self.project_id)
        self.folder.mkdir(parents=True)
        self.registry = registry

    def caller(self, path="shop.duckdb", **options):
        source = Datasource(uuid4(), self.tenant_id, "file", "duckdb", 1, {"path": path})
        return Caller(self.registry, [source], project_id=self.project_id, **options)

    def state(self):
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="session")
def project(pools, registry):
    made = Project(pools, registry)
    database = duckdb.connect(str(made.folder / "shop.duckdb"))
    database.execute(SCHEMA)
    database.close()
    data = made.folder / "data"
    data.mkdir()
    (data / "sales.csv").write_text("id,region,amount\n1,north,10.5\n2,south,20\n3,north,\n")
    with gzip.open(data / "packed.csv.gz", "wt") as file:
        file.write("a,b\n1,x\n")
    (data / "Über uns; --.csv").write_text("a\n7\n")
    (data / "events.jsonl").write_text('{"a": 1, "b": [1, 2]}\n{"a": 2, "b": []}\n')
    duckdb.connect().execute(
        "COPY (SELECT n AS id, n * 2 AS twice FROM range(3000) AS r(n))"
        f" TO '{data}/numbers.parquet'"
    )
    (data / "notes.txt").write_text("CANARY")
    (made.folder / "secret.csv").write_text("token\nCANARY-SECRET\n")
    return made


REFUSED = {
    "S01": "SELECT 1; DELETE FROM orders",
    "S04": "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d",
    "S04-insert": "WITH d AS (INSERT INTO lines VALUES (1, 'x') RETURNING *) FROM d",
    "S05": "CREATE TABLE copy1 AS SELECT 1",
    "S05-into": "SELECT * INTO copy1 FROM orders",
    "S07": "COPY orders TO '/tmp/pwned'",
    "S07-export": "EXPORT DATABASE '/tmp/pwned'",
    "S07-from": "COPY orders FROM '/etc/passwd'",
    "S09": "SELECT * FROM read_text('/etc/passwd')",
    "S09-csv": "SELECT * FROM read_csv('/etc/passwd')",
    "S09-blob": "SELECT * FROM read_blob('/etc/passwd')",
    "S09-path": "SELECT * FROM '/etc/passwd'",
    "S09-path-csv": "FROM 'secret.csv'",
    "S09-path-quoted": 'SELECT * FROM "/proc/self/environ"',
    "S09-descriptor": "SELECT * FROM read_text('/proc/self/fd/0')",
    "S09-glob": "SELECT * FROM glob('/*')",
    "S09-parquet": "SELECT * FROM parquet_metadata('/etc/passwd')",
    "S09-sniff": "SELECT * FROM sniff_csv('/etc/passwd')",
    "S09-lateral": "SELECT * FROM orders, LATERAL read_text('/etc/passwd')",
    "S09-view": "SELECT * FROM spying",
    "S11-set": "SET memory_limit = '100GB'",
    "S11-setting": "SELECT current_setting('allowed_paths')",
    "S11-pragma": "PRAGMA threads = 64",
    "S11-variable": "SET VARIABLE a = 1",
    "S11-get-variable": "SELECT getvariable('a')",
    "S11-reset": "RESET lock_configuration",
    "S13-use": "USE system",
    "S16-sleep": "SELECT sleep_ms(30000)",
    "S16-pg-sleep": "SELECT pg_sleep(30)",
    "S17-http": "SELECT * FROM read_csv('http://127.0.0.1:1/x')",
    "S17-attach": "ATTACH 'http://127.0.0.1:1/x' AS x",
    "S17-install": "INSTALL httpfs",
    "S17-load": "LOAD httpfs",
    "S17-secret": "CREATE SECRET (TYPE s3)",
    "S20-query": "SELECT * FROM query('DELETE FROM orders')",
    "S20-query-table": "SELECT * FROM query_table('orders')",
    "S20-execute": "SELECT * FROM json_execute_serialized_sql('{}')",
    "S20-call": "CALL pragma_version()",
    "S20-qualified": "SELECT system.main.lower('A')",
    "S21": "SELECT nextval('s1')",
    "S33-settings": "SELECT * FROM duckdb_settings()",
    "S33-secrets": "SELECT * FROM duckdb_secrets()",
    "S33-databases": "SELECT * FROM duckdb_databases",
    "S33-schema": "SELECT * FROM information_schema.tables",
    "S33-log": "SELECT write_log('x')",
    "S33-show": "SHOW TABLES",
    "S33-describe": "DESCRIBE orders",
    "S33-summarize": "SUMMARIZE orders",
    "S33-show-nested": "SELECT * FROM (SHOW ALL TABLES)",
    "S40": "BEGIN TRANSACTION",
    "S41-checkpoint": "CHECKPOINT",
    "S41-checkpoint-function": "SELECT * FROM force_checkpoint()",
    "S41-vacuum": "VACUUM",
    "S41-execute": "EXECUTE x",
    "S41-prepare": "PREPARE x AS SELECT 1",
    "delete": "DELETE FROM orders",
    "update": "UPDATE orders SET total = 0",
    "insert": "INSERT INTO lines VALUES (1, 'x')",
    "merge": "MERGE INTO lines USING orders ON true WHEN MATCHED THEN DELETE",
    "drop": "DROP TABLE orders",
    "create-view": "CREATE VIEW v AS SELECT 1",
    "create-macro": "CREATE MACRO m() AS 1",
    "explain-analyze": "EXPLAIN ANALYZE SELECT 1",
    "explain-option": "EXPLAIN (ANALYZE) SELECT 1",
    "explain-delete": "EXPLAIN DELETE FROM orders",
    "explain-comment": "/* */ EXPLAIN ANALYZE SELECT 1",
    "parameter": "SELECT $1",
    "question": "SELECT ?",
    "unknown-function": "SELECT no_such_function(1)",
    "pivot": "SELECT * FROM (PIVOT lines ON article USING count(*))",
    "detach": "DETACH data",
    "comment-on": "COMMENT ON TABLE orders IS 'x'",
    "long": "SELECT '" + "x" * 40_000 + "'",
}

PASSES = {
    "cte": ("WITH a AS (SELECT id FROM orders WHERE id<3) FROM a ORDER BY 1", [[1], [2]]),
    "recursive": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) TABLE n",
        [[1], [2], [3]],
    ),
    "window": (
        "SELECT id, rank() OVER (ORDER BY total DESC) FROM orders ORDER BY 2 LIMIT 2",
        [[1500, 1], [1499, 2]],
    ),
    "values": ("VALUES (1, 'a'), (2, 'b')", [[1, "a"], [2, "b"]]),
    "string": ("SELECT '; DROP TABLE orders; --'", [["; DROP TABLE orders; --"]]),
    "dollar": ("SELECT $$;$$", [[";"]]),
    "comments": ("SELECT /* a; */ 1 -- ; end", [[1]]),
    "closing semicolon": (" \n SELECT 1 ;", [[1]]),
    "column named delete": ('SELECT "delete" FROM orders WHERE id=2', [[True]]),
    "from first": ("FROM orders SELECT count(*)", [[1500]]),
    "order kept": ("SELECT id FROM orders ORDER BY id DESC LIMIT 2 OFFSET 2", [[1498], [1497]]),
    "aggregate": (
        ('SELECT "delete", count(*), sum(total), list(id ORDER BY id) FROM orders WHERE id < 5'
        " GROUP BY ALL ORDER BY 1"),
        [[False, 2, 5.0, [1, 3]], [True, 2, 7.5, [2, 4]]],
    ),
    "join": (
        "SELECT o.id, l.article FROM orders o JOIN lines l ON l.order_id = o.id ORDER BY 1",
        [[1, "a"], [2, "b"]],
    ),
    "view": ("SELECT * FROM plain WHERE id = 2", [[2, "CUSTOMER 2"]]),
    "qualify": (
        "SELECT id FROM orders QUALIFY row_number() OVER (ORDER BY id DESC) = 1", [[1500]]
    ),
    "case": ("SELECT CASE WHEN id > 1 THEN 'no' ELSE 'one' END FROM orders LIMIT 1", [["one"]]),
    "types": (
        ("SELECT 1::hugeint * 9007199254740993, 1.10::decimal(9,2), 'NaN'::double,"
        " 'infinity'::timestamp, DATE '2024-05-06', TIMESTAMP '2024-05-06 07:08:09',"
        " TIMESTAMPTZ '2024-05-06 07:08:09+00', TIME '07:08:09', INTERVAL 1 DAY, '\\xff'::blob,"
        " {'a': 1, 'b': [1, NULL]}, MAP {'k': 1}, NULL, true, '101'::bit,"
        " '00000000-0000-0000-0000-000000000001'::uuid, [1.5, 2], '{\"a\": 1}'::json"),
        [["9007199254740993", 1.1, "NaN", "infinity", "2024-05-06", "2024-05-06T07:08:09",
          "2024-05-06T07:08:09+00:00", "07:08:09", "1 day", "\\xff", {"a": 1, "b": [1, None]},
          {"k": 1}, None, True, "101", "00000000-0000-0000-0000-000000000001", [1.5, 2],
          {"a": 1}]],
    ),
    "expressions": (
        ("SELECT [x + 1 FOR x IN [1, 2]], list_transform([1], lambda y: y * 2), 5 // 2, 2 ** 3,"
        " 'a' || 'b', 'abc' LIKE 'a%', 'abc' ~ 'a.c', 1 BETWEEN 0 AND 2, 1 IN (1, 2),"
        " TRY_CAST('x' AS int), coalesce(NULL, 1), [1, 2, 3][1:2]"),
        [[[2, 3], [2], 2, 8, "ab", True, True, True, True, None, 1, [1, 2]]],
    ),
    "dates": (
        ("SELECT date_trunc('month', DATE '2024-05-06'), extract(year FROM DATE '2024-05-06'),"
        " strftime(DATE '2024-05-06', '%Y-%m')"),
        [["2024-05-01T00:00:00", 2024, "2024-05"]],
    ),
    "star": ("SELECT * EXCLUDE (total, customer) FROM orders WHERE id = 1", [[1, False]]),
    "range": ("SELECT * FROM range(3)", [[0], [1], [2]]),
    "same names": ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
    "no rows": ("SELECT id FROM orders WHERE false", []),
}  # fmt: skip


def is_pwned():
    return PWNED.exists()


async def refusal_of(project, caller, query):
    before = project.state()
    with pytest.raises(ToolError) as caught:
        await caller.query(query)
    assert project.state() == before
    assert not is_pwned()
    assert "CANARY" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("case", REFUSED)
async def test_refused(case, project):
    error = await refusal_of(project, project.caller(), REFUSED[case])
    if case != "S05-into":  # no SQL of DuckDB's
        assert isinstance(error, ToolRefused), error.message
        assert error.message.startswith("Refused by the rule '"), error.message


@pytest.mark.parametrize("case", PASSES)
async def test_passes(case, project):
    query, rows = PASSES[case]
    before = project.state()
    result = await project.caller().query(query)
    assert result["rows"] == rows
    assert result["truncated"] is False
    assert project.state() == before


@pytest.mark.parametrize(
    ("path", "query", "rows"),
    [
        ("data/sales.csv", "SELECT region, sum(amount) FROM sales GROUP BY 1 ORDER BY 1",
         [["north", 10.5], ["south", 20.0]]),
        ("data/packed.csv.gz", "SELECT * FROM packed", [[1, "x"]]),
        ("data/numbers.parquet", "SELECT max(twice) FROM numbers", [[5998]]),
        ("data/events.jsonl", "SELECT a, b FROM events ORDER BY a", [[1, [1, 2]], [2, []]]),
        ("data", "SELECT n.twice, s.region FROM numbers n JOIN sales s USING (id) WHERE id = 2",
         [[4, "south"]]),
        ("data/*.csv", 'SELECT * FROM "Über uns; --"', [[7]]),
        ("*.duckdb", "SELECT count(*) FROM orders", [[1500]]),
    ],
)  # fmt: skip
async def test_files_are_tables(path, query, rows, project):
    assert (await project.caller(path).query(query))["rows"] == rows


async def test_what_is_not_bound_is_not_there(project):
    for table in ("secret", "notes", "orders"):
        error = await refusal_of(project, project.caller("data"), f"SELECT * FROM {table}")
        assert isinstance(error, ToolFailed)


@pytest.mark.parametrize(
    "path", ["../x.csv", "/etc/passwd", "link.csv", "linked/x.csv", "pipe.csv", "none.csv",
             "wrong.duckdb", "wrong.parquet", "data/notes.txt", "*.nothing", "../*.csv",
             "linked/*.csv"],
)  # fmt: skip
async def test_paths_that_are_none(path, project):
    for name, target in (("link.csv", "/etc/passwd"), ("linked", "/etc")):
        if not (project.folder / name).is_symlink():
            (project.folder / name).symlink_to(target)
    if not (project.folder / "pipe.csv").exists():
        os.mkfifo(project.folder / "pipe.csv")
    (project.folder / "wrong.duckdb").write_text("x" * 100)
    (project.folder / "wrong.parquet").write_text("x" * 100)
    with pytest.raises(ToolFailed):
        await project.caller(path).query("SELECT 1")


async def test_a_slow_query_is_ended_with_its_process(project):
    caller = project.caller(deadline=timedelta(seconds=2))
    began = time.monotonic()
    with pytest.raises(ToolTimeout, match=r"within 1\.5 s"):
        await caller.query(ENDLESS)
    assert time.monotonic() - began < 5
    await gone()


async def test_a_cancelled_query_ends(project):
    task = asyncio.create_task(project.caller().query(ENDLESS))
    await asyncio.sleep(1)
    assert busy()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone()


def busy():
    """Processes of DuckDB that have used the processor for a while."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    is_ours = b"duckdb_process" in file.read()
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if is_ours and int(fields[1]) == os.getpid() and int(fields[11]) > 60:
                found.append(int(entry))
    return found


async def gone():
    for _ in range(100):
        if not busy():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("a process still runs")


async def test_a_process_that_dies_is_said_so(project, monkeypatch, project_files):
    from activities.tools.registry import Registry, default_tools
    from activities.tools.sql import duckdb as engine

    monkeypatch.setattr(engine, "_START", "import os; os.abort()")
    pools = Pools((), project.folder.parents[1])
    try:
        caller = project.caller()
        caller.registry = Registry(default_tools(pools, project_files))
        with pytest.raises(ToolUnavailable, match="ended the process"):
            await caller.query("SELECT 1")
    finally:
        await pools.close()


async def test_too_much_memory_is_said_so(project):
    with pytest.raises(ToolTooLarge, match="memory"):
        await project.caller().query(
            "SELECT list(n ORDER BY hash(n)) FROM range(100000000) AS r(n)"
        )


async def test_cells_and_rows_are_cut(project):
    result = await project.caller().query("SELECT repeat('x', 5000000), [1], 'y'")
    assert result["rows"][0][0] == "x" * CELL_BYTES + CUT_MARKER
    assert result["truncated"] is True
    result = await project.caller("data").query("SELECT id FROM numbers ORDER BY id DESC")
    assert result["rows"] == [[n] for n in range(2999, 1999, -1)]
    assert result["truncated"] is True


async def test_the_schema_is_described(project):
    caller = project.caller()
    found = await caller("describe_schema", datasource_id=str(caller.sources[0].id), table="lines")
    assert found["tables"] == [
        {
            "name": "lines",
            "columns": [
                {"name": "order_id", "type": "integer", "nullable": True},
                {"name": "article", "type": "varchar", "nullable": True},
            ],
            "primary_key": [],
            "foreign_keys": [
                {"columns": ["order_id"], "references": {"table": "orders", "columns": ["id"]}}
            ],
            "row_estimate": 2,
        }
    ]
    caller = project.caller("data")
    found = await caller("describe_schema", datasource_id=str(caller.sources[0].id))
    assert [table["name"] for table in found["tables"]] == [
        "events", "numbers", "packed", "sales", '"Über uns; --"',
    ]  # fmt: skip


async def test_the_process_has_no_environment_and_cannot_write(project):
    from activities.tools.sql import duckdb_process

    # What the guard refuses, asked of DuckDB as it is opened for a query.
    connection = duckdb_process.open_files([])
    for query in (
        "SELECT * FROM read_text('/proc/self/environ')",
        "COPY (SELECT 1) TO '/tmp/pwned'",
        "ATTACH '/tmp/pwned.db'",
        "SET threads = 64",
        "LOAD httpfs",
        "FROM glob('/*')",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(query).fetchall()
    assert not is_pwned()
