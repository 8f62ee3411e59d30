"""Queries on PostgreSQL: guarded text, one statement, a read-only transaction, nothing kept.

The order of one query: the tree is judged, a connection whose role is acceptable is taken, a
read-only transaction with limits begins, the catalogue is asked what the names mean, the query is
prepared (so it is one statement, and its columns are known), then run inside a SELECT of ours that
cuts wide values at the server: a 50 MB value never travels. The transaction is always rolled back.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from activities.tools.sql import catalogue, guard
from activities.tools.sql.columns import FORMS, Column
from activities.tools.sql.engine import QueryResult, Table, Target, limits, too_slow
from activities.tools.sql.postgresql_schema import read_tables
from activities.tools.sql.values import CELL_BYTES, MAX_ROWS, Rows
from activities.tools.tool import ToolError, ToolFailed, ToolRefused, ToolTimeout, ToolUnavailable
from store.datasource.pools import Pools
from store.texts import clean

# Most bytes of wide values held at once while a result is read.
BATCH_BYTES = 32 * 1024 * 1024
LOCK_WITHIN = timedelta(seconds=3)  # a reader waits only for changes of tables; those are short
MAX_MESSAGE_CHARS = 1000

# The text means here what it meant to the parser (standard_conforming_strings), texts come out in
# ISO forms, and PostgreSQL's own names come first wherever the role's search path put them.
_BEGIN = """
BEGIN TRANSACTION READ ONLY;
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = {timeout_ms};
SET LOCAL lock_timeout = {lock_ms};
SET LOCAL idle_in_transaction_session_timeout = {idle_ms};
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = iso_8601;
SET LOCAL bytea_output = hex;
SET LOCAL extra_float_digits = 1;
SET LOCAL row_security = on;
SET LOCAL client_min_messages = error;
SELECT pg_catalog.set_config('search_path',
    pg_catalog.concat('pg_catalog, ', pg_catalog.current_setting('search_path')), true)
"""


class PostgresqlEngine:
    """Queries on datasources of kind ``postgresql``."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def query(self, target: Target, query: str) -> QueryResult:
        """See `Engine.query`."""
        statement = guard.check(query)
        started = time.monotonic()
        async with (
            limits(target.within),
            _errors(target.within, query, statement),
            self._pools.postgresql(target.source, target.within) as connection,
        ):
            await _begin(connection, target.within - timedelta(seconds=time.monotonic() - started))
            await catalogue.resolve(connection, statement.names)
            began = time.monotonic()
            prepared = await connection.prepare(statement.text)
            columns = [Column.of(attribute) for attribute in prepared.get_attributes()]
            by_us = statement.explain or not columns
            rows = Rows(skip=target.skip if by_us else 0)
            if by_us:
                for record in await prepared.fetch():
                    if not rows.add(record):
                        break
            else:
                await _read(connection, statement.text, columns, rows, target.skip)
            return QueryResult(
                columns=[{"name": clean(column.name), "type": column.type} for column in columns],
                rows=rows.rows,
                truncated=rows.truncated,
                more=rows.more,
                elapsed_ms=round((time.monotonic() - began) * 1000),
            )

    async def tables(self, target: Target, table: str | None) -> list[Table]:
        """See `Engine.tables`."""
        async with (
            limits(target.within),
            _errors(target.within),
            self._pools.postgresql(target.source, target.within) as connection,
        ):
            await _begin(connection, target.within)
            # Only our own statements follow; and types are named with their schema.
            await connection.execute("SET LOCAL search_path = pg_catalog")
            return await read_tables(connection, table)


async def _begin(connection: asyncpg.Connection, left: timedelta) -> None:
    """Begin the transaction; whoever gives the connection back ends it."""
    # The server stops by itself a little before we would stop it.
    milliseconds = max(round(left.total_seconds() * 1000) - 200, 100)
    await connection.execute(
        _BEGIN.format(
            timeout_ms=milliseconds,
            lock_ms=min(milliseconds, round(LOCK_WITHIN.total_seconds() * 1000)),
            idle_ms=milliseconds + 5000,
        )
    )


async def _read(
    connection: asyncpg.Connection, text: str, columns: Sequence[Column], rows: Rows, skip: int
) -> None:
    """Run `text` within a SELECT that bounds every value at the server, and leaves out `skip` rows.

    PostgreSQL keeps the order of an ordered subquery that nothing is done to.
    """
    aliases = ", ".join(f"c{number}" for number in range(1, len(columns) + 1))
    bounded = ", ".join(
        column.bounded(f"q.c{number}") for number, column in enumerate(columns, start=1)
    )
    # A closing comment of the query ends with the line break.
    wrapped = await connection.prepare(
        f"SELECT {bounded} FROM (\n{text}\n) AS q({aliases})"  # noqa: S608
        f" LIMIT {MAX_ROWS + 1} OFFSET {skip:d}"
    )
    forms = [FORMS[column.form] for column in columns]
    wide = sum(column.is_wide for column in columns)
    batch = max(1, min(MAX_ROWS + 1, BATCH_BYTES // (wide * CELL_BYTES))) if wide else MAX_ROWS + 1
    cursor = await wrapped.cursor()
    while True:
        records = await cursor.fetch(batch)
        for record in records:
            values = [
                None if value is None else form(value)
                for form, value in zip(forms, record, strict=True)
            ]
            if not rows.add(values):
                return
        if len(records) < batch:
            return


@asynccontextmanager
async def _errors(
    within: timedelta, query: str = "", statement: guard.Statement | None = None
) -> AsyncIterator[None]:
    """Say what the server answered in a tool's terms."""
    offset = statement.offset if statement is not None else 0
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _tool_error(error, within, query, offset) from error
    except asyncpg.InternalClientError as error:
        # What asyncpg says of pseudo-types such as anyarray (pg_attribute.attmissingval).
        raise ToolFailed(
            "A column is of a type that cannot be shown. Name the columns you need instead of *."
        ) from error
    except (OSError, asyncpg.InterfaceError) as error:
        raise ToolUnavailable(
            "The connection to the database was lost. The query changed nothing; try it again."
        ) from error


def _tool_error(
    error: asyncpg.PostgresError, within: timedelta, query: str, offset: int
) -> ToolError:
    match error:
        case asyncpg.QueryCanceledError():
            return too_slow(within)
        case asyncpg.LockNotAvailableError():
            return ToolTimeout(
                f"A table is being changed by someone else and was not free within "
                f"{LOCK_WITHIN.total_seconds():g} s. Try again in a moment."
            )
        case asyncpg.ReadOnlySQLTransactionError():
            return ToolRefused(f"Refused by the rule 'read only': {_bounded(str(error))}")
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.OperatorInterventionError()
            | asyncpg.InsufficientResourcesError()
        ):
            return ToolUnavailable(
                "The database ended the connection or is out of resources. Try again later."
            )
        case _:
            return ToolFailed(_server_message(error, query, offset))


def _server_message(error: asyncpg.PostgresError, query: str, offset: int) -> str:
    parts = [str(getattr(error, "message", "") or error)]
    hint, position = getattr(error, "hint", None), getattr(error, "position", None)
    if hint:
        parts.append(f"Hint: {hint}")
    if position and str(position).isdigit() and query:
        at = int(position) - 1 + offset
        near = query[max(at - 20, 0) : at + 30].replace("\n", " ")
        parts.append(f"At character {at + 1}: {near}")
    return _bounded(". ".join(part.rstrip(".") for part in parts))


def _bounded(text: str) -> str:
    text = clean(text)
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
