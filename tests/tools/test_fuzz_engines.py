"""Random statements on every other kind of database, with users and transactions that could write.

`EVERTURN_LIMITS=full` makes them 10,000 of each kind, `SQL_FUZZ_EXAMPLES` as many as it says.
"""

import contextlib
import sqlite3
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from activities.tools.sql import mysql
from activities.tools.tool import Datasource, ToolError
from store.files.folder import project_folder
from tests.tools import test_duckdb, test_sqlite
from tests.tools.grammar import DUCKDB, MYSQL, SQLITE, examples, statements
from tests.tools.world import Caller

EXAMPLES = examples(300)
DUCKDB_EXAMPLES = examples(60)  # a process for each
PWNED = Path("/tmp/pwned")

SETTINGS = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.fixture(params=["read-only transaction", "guard alone"])
def transaction(request, monkeypatch):
    """Takes the last layer away, so that the guard's is seen to hold alone."""
    if request.param == "guard alone":
        monkeypatch.setattr(mysql, "_BEGIN", "START TRANSACTION READ WRITE")
        monkeypatch.setattr(
            mysql, "_SESSION", mysql._SESSION.replace("{read_only} = 1", "{read_only} = 0")
        )


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("transaction")
@settings(max_examples=EXAMPLES, **SETTINGS)
@given(query=statements(MYSQL))
async def test_no_statement_changes_mariadb(query, maria_writer, maria):
    before = await maria.state()
    with contextlib.suppress(ToolError):
        await maria_writer.query(query)
    assert await maria.state() == before
    assert await maria.locks() == []


@pytest.fixture(scope="session")
def files(pools):
    """A folder that can be written, with a database of each kind of file."""
    tenant_id, project_id = uuid4(), uuid4()
    folder = project_folder(pools.files_dir, tenant_id, project_id)
    folder.mkdir(parents=True)
    database = sqlite3.connect(folder / "shop.db")
    database.executescript(test_sqlite.SCHEMA)
    database.execute("INSERT INTO orders VALUES (1, 'a', 1, 1)")
    database.commit()
    database.close()
    other = duckdb.connect(str(folder / "shop.duckdb"))
    other.execute(test_duckdb.SCHEMA)
    other.close()
    return tenant_id, project_id, folder


def caller_of(files, registry, kind, path):
    tenant_id, project_id, _ = files
    source = Datasource(uuid4(), tenant_id, "file", kind, 1, {"path": path})
    return Caller(registry, [source], project_id=project_id)


def state(files):
    found = {path.name: path.read_bytes() for path in sorted(files[2].iterdir())}
    return {**found, "pwned": PWNED.exists()}


@pytest.mark.timeout(3600)
@settings(max_examples=EXAMPLES, **SETTINGS)
@given(query=statements(SQLITE))
async def test_no_statement_changes_sqlite(query, registry, files):
    before = state(files)
    with contextlib.suppress(ToolError):
        await caller_of(files, registry, "sqlite", "shop.db").query(query)
    assert state(files) == before


@pytest.mark.timeout(7200)
@settings(max_examples=DUCKDB_EXAMPLES, **SETTINGS)
@given(query=statements(DUCKDB))
async def test_no_statement_changes_duckdb(query, registry, files):
    before = state(files)
    with contextlib.suppress(ToolError):
        await caller_of(files, registry, "duckdb", "shop.duckdb").query(query)
    assert state(files) == before
