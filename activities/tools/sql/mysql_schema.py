"""What tables a MySQL or MariaDB user can read in the datasource's database."""

import re
from typing import Any

from activities.tools.sql.engine import MAX_COLUMNS, MAX_TABLES, Table
from store.datasource.mysql import MysqlConnection
from store.texts import clean

_TABLES = f"""
SELECT table_name, table_rows FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
ORDER BY table_name LIMIT {MAX_TABLES + 1}
"""  # noqa: S608 - our own constants
_ONE = f"""
SELECT table_name, table_rows FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
  AND table_name = {{name}} ORDER BY table_name LIMIT {MAX_TABLES + 1}
"""  # noqa: S608
_COLUMNS = f"""
SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns
WHERE table_schema = DATABASE() AND ordinal_position <= {MAX_COLUMNS} AND table_name IN ({{names}})
ORDER BY table_name, ordinal_position
"""  # noqa: S608
_KEYS = """
SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name,
       referenced_table_schema = DATABASE(), referenced_table_schema
FROM information_schema.key_column_usage
WHERE table_schema = DATABASE() AND table_name IN ({names})
  AND (constraint_name = 'PRIMARY' OR referenced_table_name IS NOT NULL)
ORDER BY table_name, constraint_name, ordinal_position
"""
_PLAIN = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")


def _literal(name: str) -> str:
    """A text without anything that could end it, whatever the sql_mode."""
    return f"CONVERT(x'{name.encode().hex()}' USING utf8mb4)"


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _unquoted(name: str) -> str:
    """The table's own name, of how a query names it."""
    last: str
    *_, last = re.findall(r"`(?:[^`]|``)*`|[^.`]+", name) or [name]
    return last[1:-1].replace("``", "`") if last.startswith("`") else last


async def _rows(connection: MysqlConnection, query: str) -> list[list[str | None]]:
    return [
        [None if value is None else clean(value.decode(errors="replace")) for value in row]
        for row in await connection.fetch(query)
    ]


async def read_tables(connection: MysqlConnection, table: str | None) -> list[Table]:
    """Tables and views the user may read, one more than is shown."""
    query = _TABLES if table is None else _ONE.format(name=_literal(_unquoted(table)))
    found = await _rows(connection, query)
    tables = {
        str(name): Table(name=_quoted(str(name)), row_estimate=None if rows is None else int(rows))
        for name, rows in found
    }
    if not tables:
        return []
    names = ", ".join(_literal(name) for name in tables)
    for name, column, kind, nullable in await _rows(connection, _COLUMNS.format(names=names)):
        if name in tables:
            tables[name].columns.append(
                {"name": column, "type": kind, "nullable": nullable == "YES"}
            )
    links: dict[tuple[str, str], dict[str, Any]] = {}
    for row in await _rows(connection, _KEYS.format(names=names)):
        name, constraint, column, target, target_column, is_here, database = map(str, row)
        if name not in tables:
            continue
        if row[3] is None:
            tables[name].primary_key.append(column)
            continue
        where = _quoted(target) if is_here == "1" else f"{_quoted(database)}.{_quoted(target)}"
        link = links.setdefault(
            (name, constraint), {"columns": [], "references": {"table": where, "columns": []}}
        )
        link["columns"].append(column)
        link["references"]["columns"].append(target_column)
        if len(link["columns"]) == 1:
            tables[name].foreign_keys.append(link)
    return list(tables.values())
