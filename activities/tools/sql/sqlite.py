"""Queries on a project's SQLite files, held by the engine's own authorizer.

SQLite asks the authorizer about everything a statement would do, while it compiles it and so before
anything is done; what is not on the list is refused. Each query opens the file anew: nothing is
kept. It runs in a thread of the pools, and stops there when time is over or its task is cancelled.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from activities.tools.sql.engine import (
    MAX_COLUMNS,
    MAX_TABLES,
    QueryResult,
    Table,
    Target,
    limits,
    too_slow,
)
from activities.tools.sql.guard import MAX_QUERY_BYTES, refused
from activities.tools.sql.sqlite_functions import ALLOWED
from activities.tools.sql.values import Rows
from activities.tools.tool import ToolFailed, ToolRefused, ToolTooLarge
from store.datasource.config import SqliteConfig, parse_config
from store.datasource.errors import InvalidConfig
from store.datasource.pools import Pools
from store.datasource.sqlite import open_file
from store.texts import clean

STEPS_BETWEEN_CHECKS = 5_000  # well under a millisecond
STOPS_WITHIN = timedelta(seconds=5)
MAX_MESSAGE_CHARS = 1000
_SYSTEM_TABLES = frozenset({"sqlite_master", "sqlite_schema", "sqlite_sequence", "sqlite_stat1"})
_TABLE_FUNCTIONS = ("json_each", "json_tree")
_ALLOWED_ACTIONS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})

R = TypeVar("R")


class SqliteEngine:
    """Queries on datasources of kind ``sqlite``."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def query(self, target: Target, query: str) -> QueryResult:
        """See `Engine.query`."""
        if "\0" in query:
            raise refused("text", "the query holds a NUL character.")
        if len(query.encode(errors="replace")) > MAX_QUERY_BYTES:
            raise refused("length", f"a query has at most {MAX_QUERY_BYTES // 1024} KiB.")
        return await self._run(target, partial(_query, query=clean(query), where=target))

    async def tables(self, target: Target, table: str | None) -> list[Table]:
        """See `Engine.tables`."""
        return await self._run(target, partial(_tables, table=table))

    async def _run(self, target: Target, work: Callable[[sqlite3.Connection], R]) -> R:
        stop = threading.Event()
        ends = time.monotonic() + target.within.total_seconds()

        def in_thread() -> R:
            config = parse_config(target.source.kind, target.source.config)
            if not isinstance(config, SqliteConfig):
                raise InvalidConfig("This datasource is not a SQLite file.")
            with contextlib.closing(open_file(target.folder, config)) as connection:
                connection.set_progress_handler(
                    lambda: stop.is_set() or time.monotonic() > ends, STEPS_BETWEEN_CHECKS
                )
                try:
                    return work(connection)
                except sqlite3.OperationalError as error:
                    if "interrupted" in str(error):
                        raise too_slow(target.within) from error
                    raise

        loop = asyncio.get_running_loop()
        async with (
            limits(target.within + timedelta(milliseconds=250)),
            self._pools.slot(target.source.tenant_id, target.within),
        ):
            running = loop.run_in_executor(self._pools.threads, in_thread)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                stop.set()
                # The thread is waited for, so that the slot is free only when it is.
                await asyncio.wait([running], timeout=STOPS_WITHIN.total_seconds())
                if running.done() and not running.cancelled():
                    running.exception()  # looked at, so that nobody logs it
                raise


class _Authorizer:
    """Says no to everything but reading, and remembers why for the message."""

    def __init__(self) -> None:
        self.reason: ToolRefused | None = None

    def __call__(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _ALLOWED_ACTIONS:
            return sqlite3.SQLITE_OK
        match action:
            case sqlite3.SQLITE_READ if _is_readable(first or ""):
                return sqlite3.SQLITE_OK
            case sqlite3.SQLITE_READ:
                self.reason = refused("relations", f"{first} is not readable here.")
            case sqlite3.SQLITE_FUNCTION if (second or "").lower() in ALLOWED:
                return sqlite3.SQLITE_OK
            case sqlite3.SQLITE_FUNCTION:
                self.reason = refused(
                    "functions", f"{second}() is not on the list of allowed functions."
                )
            case _:
                self.reason = refused(
                    "read only",
                    "only queries are allowed: SELECT, WITH … SELECT, VALUES and EXPLAIN. For "
                    "PRAGMA table_info and its like use describe_schema.",
                )
        return sqlite3.SQLITE_DENY


def _is_readable(table: str) -> bool:
    name = table.lower()
    return not name.startswith(("sqlite_", "pragma_", "dbstat")) or name in _SYSTEM_TABLES


def _query(connection: sqlite3.Connection, query: str, where: Target) -> QueryResult:
    authorizer = _Authorizer()
    for function in _TABLE_FUNCTIONS:
        # Made at first use, by a CREATE TABLE that the authorizer would be asked about.
        connection.execute(f"SELECT 1 FROM {function}('[]')").fetchall()  # noqa: S608 - ours
    connection.set_authorizer(authorizer)
    # Bytes that are not UTF-8 are data as well.
    connection.text_factory = lambda data: data.decode(errors="replace")
    began = time.monotonic()
    try:
        cursor = connection.execute(query)
        rows = Rows(skip=where.skip)
        names = [clean(str(column[0])) for column in cursor.description or ()]
        types: list[str] = ["null"] * len(names)
        for row in cursor:
            types = [
                kind if kind != "null" else _type(value)
                for kind, value in zip(types, row, strict=True)
            ]
            if not rows.add(row):
                break
    except (sqlite3.Warning, sqlite3.Error) as error:
        if authorizer.reason is not None:
            raise authorizer.reason from error
        if "one statement at a time" in str(error):
            raise refused("one statement", "call the tool once for each statement.") from error
        if "interrupted" in str(error):
            raise too_slow(where.within) from error
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_TOOBIG:
            raise ToolTooLarge(
                "A single value is larger than a query may make; ask for less of it, with substr()."
            ) from error
        raise ToolFailed(clean(str(error))[:MAX_MESSAGE_CHARS]) from error
    return QueryResult(
        columns=[{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)],
        rows=rows.rows,
        truncated=rows.truncated,
        more=rows.more,
        elapsed_ms=round((time.monotonic() - began) * 1000),
    )


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case int():
            return "integer"
        case float():
            return "real"
        case bytes():
            return "blob"
        case _:
            return "text"


def _tables(connection: sqlite3.Connection, table: str | None) -> list[Table]:
    connection.text_factory = lambda data: data.decode(errors="replace")
    try:
        found = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            " AND (?1 IS NULL OR name = ?1 COLLATE NOCASE)"
            " ORDER BY name LIMIT ?2",
            (table, MAX_TABLES + 1),
        ).fetchall()
        return [_table(connection, name) for (name,) in found]
    except sqlite3.Error as error:
        if "interrupted" in str(error):
            raise
        raise ToolFailed(clean(str(error))[:MAX_MESSAGE_CHARS]) from error


def _table(connection: sqlite3.Connection, name: str) -> Table:
    table = Table(name=clean(name))
    keys: list[tuple[int, str]] = []
    try:
        columns = connection.execute(
            'SELECT name, type, "notnull", pk FROM pragma_table_info(?) LIMIT ?',
            (name, MAX_COLUMNS),
        ).fetchall()
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise
        return table  # a view whose tables are gone
    for column, kind, not_null, place in columns:
        table.columns.append(
            {"name": clean(column), "type": clean(kind or ""), "nullable": not (not_null or place)}
        )
        if place:
            keys.append((place, clean(column)))
    table.primary_key = [column for _, column in sorted(keys)]
    links: dict[int, dict[str, Any]] = {}
    for number, target, source, column in connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (name,)
    ):
        link = links.setdefault(
            number, {"columns": [], "references": {"table": clean(target), "columns": []}}
        )
        link["columns"].append(clean(source))
        if column is not None:
            link["references"]["columns"].append(clean(column))
    table.foreign_keys = list(links.values())
    return table
