"""Queries on MySQL and MariaDB: guarded text, one statement, a read-only transaction, nothing kept.

The text is judged first (`mysql_guard`). The session is told how to read it, so that it means what
was judged, and given its limits; then the query runs in a read-only transaction, its rows are read
as they come, and what is beyond the limits is not read: the connection is ended instead, at the
server too. Otherwise the transaction is rolled back and the session reset.
"""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from asyncmy.errors import MySQLError

from activities.tools.sql import mysql_guard
from activities.tools.sql.engine import QueryResult, Table, Target, limits, too_slow
from activities.tools.sql.mysql_columns import Column
from activities.tools.sql.mysql_schema import read_tables
from activities.tools.sql.values import MAX_ROWS, Rows
from activities.tools.tool import (
    ToolError,
    ToolFailed,
    ToolRefused,
    ToolTimeout,
    ToolTooLarge,
    ToolUnavailable,
)
from store.datasource.mysql import DRIVER_ERRORS, MysqlConnection, RowTooLarge
from store.datasource.pools import Pools
from store.texts import clean

LOCK_WITHIN = timedelta(seconds=3)  # a reader waits only for changes of tables; those are short
MAX_MESSAGE_CHARS = 1000

# The text means here what it meant to the guard: backslashes escape, `"` is for texts, `||` is OR.
# Only whether ungrouped columns are an error is left as the server's owner has it.
_SESSION = """
SET SESSION
    sql_mode = IF(FIND_IN_SET('ONLY_FULL_GROUP_BY', @@GLOBAL.sql_mode), 'ONLY_FULL_GROUP_BY', ''),
    character_set_client = utf8mb4,
    character_set_connection = utf8mb4,
    character_set_results = utf8mb4,
    time_zone = '+00:00',
    lock_wait_timeout = {lock_seconds},
    sql_select_limit = {max_rows},
    {read_only} = 1,
    {deadline}
"""
_BEGIN = "START TRANSACTION READ ONLY"

_INTERRUPTED = {1317, 1969, 3024}
_ENDED = {1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 4031}
_READ_ONLY = {1290, 1792, 1836}
_VALUE_TOO_LARGE = 1301
# Servers name the user with the address he comes from, which is ours.
_USER = re.compile(r"(?:to|for) user '[^']*'@'[^']*'")


class MysqlEngine:
    """Queries on datasources of kind ``mysql``."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def query(self, target: Target, query: str) -> QueryResult:
        """See `Engine.query`."""
        statement = mysql_guard.check(query)
        started = time.monotonic()
        async with (
            limits(target.within),
            _errors(target.within),
            self._pools.mysql(target.source, target.within) as connection,
        ):
            spent = timedelta(seconds=time.monotonic() - started)
            await _begin(connection, target.within - spent, MAX_ROWS + 1 + target.skip)
            began = time.monotonic()
            await connection.query(statement.text, unbuffered=True)
            columns, rows = await _read(connection, target.skip)
            elapsed_ms = round((time.monotonic() - began) * 1000)
            await _require_whole(connection)
            return QueryResult(
                columns=[{"name": column.name, "type": column.type} for column in columns],
                rows=rows.rows,
                truncated=rows.truncated,
                elapsed_ms=elapsed_ms,
                more=rows.more,
            )

    async def tables(self, target: Target, table: str | None) -> list[Table]:
        """See `Engine.tables`."""
        async with (
            limits(target.within),
            _errors(target.within),
            self._pools.mysql(target.source, target.within) as connection,
        ):
            await _begin(connection, target.within, max_rows=1_000_000)
            return await read_tables(connection, table)


async def _begin(
    connection: MysqlConnection, left: timedelta, max_rows: int = MAX_ROWS + 1
) -> None:
    """Begin the transaction; whoever gives the connection back ends it."""
    # The server stops by itself a little before we would stop it.
    milliseconds = max(round(left.total_seconds() * 1000) - 200, 100)
    deadline = (
        f"max_statement_time = {milliseconds / 1000:.3f}"
        if connection.is_mariadb
        else f"max_execution_time = {milliseconds}"
    )
    # The transaction alone would be ended by statements that commit it before they begin.
    read_only = "tx_read_only" if connection.is_mariadb else "transaction_read_only"
    await connection.query(
        _SESSION.format(
            deadline=deadline,
            read_only=read_only,
            max_rows=max_rows,
            lock_seconds=round(LOCK_WITHIN.total_seconds()),
        )
    )
    await connection.query(_BEGIN)


async def _read(connection: MysqlConnection, skip: int) -> tuple[list[Column], Rows]:
    """Read rows, after the first `skip`, until there are no more, or enough."""
    result: Any = connection._result
    rows = Rows(skip=skip)
    if not result.unbuffered_active:  # an answer without rows
        return [], rows
    columns = [Column.of(field) for field in result.fields]
    while True:
        connection.begin_row()
        record = await result._read_rowdata_packet_unbuffered()
        if record is None:
            return columns, rows
        values = [
            None if value is None else column.value(value)
            for column, value in zip(columns, record, strict=True)
        ]
        if not rows.add(values):
            return columns, rows


async def _require_whole(connection: MysqlConnection) -> None:
    """Where the server itself gave NULL for a value that is too large, say so."""
    result: Any = connection._result
    if connection.is_reading or not result.warning_count:
        return
    for _, number, _ in await connection.fetch("SHOW WARNINGS LIMIT 100"):
        if int(number or 0) == _VALUE_TOO_LARGE:
            raise ToolTooLarge(
                "A value is larger than this server makes one (max_allowed_packet); ask for less "
                "of it, with LEFT() or SUBSTRING()."
            )


@asynccontextmanager
async def _errors(within: timedelta) -> AsyncIterator[None]:
    """Say what the server answered in a tool's terms."""
    try:
        yield
    except RowTooLarge as error:
        raise ToolTooLarge(
            "A single row is larger than a result may be; name the columns you need, and shorten "
            "them with LEFT()."
        ) from error
    except MySQLError as error:
        raise _tool_error(error, within) from error
    except DRIVER_ERRORS as error:
        raise ToolUnavailable(
            "The connection to the database was lost. The query changed nothing; try it again."
        ) from error


def _tool_error(error: MySQLError, within: timedelta) -> ToolError:
    number = error.args[0] if error.args else 0
    text = _bounded(str(error.args[1]) if len(error.args) > 1 else str(error))
    if number in _INTERRUPTED:
        return too_slow(within)
    if number == 1205:
        return ToolTimeout(
            f"A table is being changed by someone else and was not free within "
            f"{LOCK_WITHIN.total_seconds():g} s. Try again in a moment."
        )
    if number in _READ_ONLY:
        return ToolRefused(f"Refused by the rule 'read only': {text}")
    if number in _ENDED or not 1000 <= number < 2000 <= number + 1000:
        return ToolUnavailable(
            "The database ended the connection or is out of resources. Try again later."
        )
    return ToolFailed(text)


def _bounded(text: str) -> str:
    text = _USER.sub("to this user", clean(text))
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
