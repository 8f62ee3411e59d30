"""What tables a PostgreSQL role can read, from the catalogue and without reading any of them."""

import json
from typing import Any

import asyncpg

from activities.tools.sql.engine import MAX_COLUMNS, MAX_TABLES, Table
from store.texts import clean

_TABLES = """
SELECT
    c.oid,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS row_estimate
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT c.relispartition
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND (pg_catalog.has_table_privilege(c.oid, 'SELECT')
       OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))
  AND ($1::text IS NULL OR $1 IN (
      c.relname, n.nspname || '.' || c.relname,
      pg_catalog.quote_ident(c.relname),
      pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
  ))
ORDER BY n.nspname, c.relname
LIMIT $2
"""

_COLUMNS = """
SELECT
    a.attrelid AS oid, a.attname::text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attnum <= $2
ORDER BY a.attrelid, a.attnum
"""

_KEYS = """
SELECT
    k.conrelid AS oid, k.contype = 'p' AS is_primary,
    pg_catalog.to_json(ARRAY(
        SELECT a.attname FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u(number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number
        ORDER BY u.place
    ))::text AS columns,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(r.relname) AS target,
    pg_catalog.to_json(ARRAY(
        SELECT a.attname FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u(number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number
        ORDER BY u.place
    ))::text AS target_columns
FROM pg_catalog.pg_constraint AS k
LEFT JOIN pg_catalog.pg_class AS r ON r.oid = k.confrelid
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
WHERE k.conrelid = ANY($1::oid[]) AND k.contype IN ('p', 'f')
ORDER BY k.conrelid, k.conname
"""


async def read_tables(connection: asyncpg.Connection, table: str | None) -> list[Table]:
    """Tables and views the role may read, partitions left out, one more than is shown."""
    found = await connection.fetch(_TABLES, table, MAX_TABLES + 1)
    tables: dict[int, Table] = {
        row["oid"]: Table(name=clean(row["name"]), row_estimate=row["row_estimate"])
        for row in found
    }
    oids = list(tables)
    for row in await connection.fetch(_COLUMNS, oids, MAX_COLUMNS):
        tables[row["oid"]].columns.append(
            {"name": clean(row["name"]), "type": row["type"], "nullable": row["nullable"]}
        )
    for row in await connection.fetch(_KEYS, oids):
        columns: list[Any] = json.loads(row["columns"])
        if row["is_primary"]:
            tables[row["oid"]].primary_key.extend(columns)
        elif row["target"] is not None:
            tables[row["oid"]].foreign_keys.append(
                {
                    "columns": columns,
                    "references": {
                        "table": clean(row["target"]),
                        "columns": json.loads(row["target_columns"]),
                    },
                }
            )
    return list(tables.values())
