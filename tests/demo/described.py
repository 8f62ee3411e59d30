"""Schemas as `describe_schema` returns them, and a small shop in SQLite to ask about."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

FLIGHT_COLUMNS = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
    "hour",
    "minute",
    "time_hour",
]
TEXT = {"carrier", "tailnum", "origin", "dest"}


def table(
    name: str,
    columns: dict[str, str],
    key: list[str],
    keys: Sequence[Any] = (),
    rows: int = 0,
) -> dict[str, Any]:
    return {
        "name": name,
        "columns": [{"name": n, "type": t, "nullable": True} for n, t in columns.items()],
        "primary_key": key,
        "foreign_keys": list(keys),
        "row_estimate": rows,
    }


def key(column: str, to: str, references: str) -> dict[str, Any]:
    return {"columns": [column], "table": to, "references": [references]}


FLIGHTS = {
    "tables": [
        table("airlines", {"carrier": "text", "name": "text"}, ["carrier"], rows=16),
        table(
            "airports",
            {"faa": "text", "name": "text", "alt": "integer", "tzone": "text"},
            ["faa"],
            rows=1458,
        ),
        table(
            "planes",
            {
                "tailnum": "text",
                "year": "integer",
                "manufacturer": "text",
                "engines": "integer",
                "seats": "integer",
                "engine": "text",
            },
            ["tailnum"],
            rows=3322,
        ),
        table(
            "weather",
            {
                "origin": "text",
                "year": "integer",
                "month": "integer",
                "day": "integer",
                "hour": "integer",
                "temp": "double precision",
                "wind_speed": "double precision",
                "time_hour": "timestamp with time zone",
            },
            ["origin", "time_hour"],
            [key("origin", "airports", "faa")],
            rows=26115,
        ),
        table(
            "flights",
            {
                name: "text"
                if name in TEXT
                else "timestamp with time zone"
                if name == "time_hour"
                else "integer"
                for name in FLIGHT_COLUMNS
            },
            ["time_hour", "carrier", "flight"],
            [
                key("carrier", "airlines", "carrier"),
                key("origin", "airports", "faa"),
                key("dest", "airports", "faa"),
                key("tailnum", "planes", "tailnum"),
                {
                    "columns": ["origin", "time_hour"],
                    "table": "weather",
                    "references": ["origin", "time_hour"],
                },
            ],
            rows=336776,
        ),
    ]
}

SHOP_SQL = """
CREATE TABLE "customers" (id INTEGER PRIMARY KEY, name TEXT, city TEXT, active BOOLEAN);
CREATE TABLE "Order Items" (id INTEGER PRIMARY KEY, "order" INTEGER REFERENCES orders(id),
    product TEXT, qty INTEGER, unitPrice REAL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id),
    created_at TIMESTAMP, status TEXT);
INSERT INTO customers VALUES (1, 'Ada', 'London', 1), (2, 'Grace', 'New York', 1),
    (3, 'O''Hara', 'London', 0);
INSERT INTO orders VALUES (10, 1, '2024-01-05 10:00:00', 'paid'),
    (11, 1, '2024-02-01 23:30:00', 'open'), (12, 2, '2024-02-14 08:00:00', 'paid'),
    (13, NULL, '2023-12-31 12:00:00', 'paid');
INSERT INTO "Order Items" VALUES (1, 10, 'tea', 2, 3.5), (2, 10, 'cup', 1, 8.0),
    (3, 11, 'tea', 5, 3.25), (4, 12, 'pot', 1, 20.0);
"""


def make_shop(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SHOP_SQL)


def describe_sqlite(path: Path) -> dict[str, Any]:
    tables = []
    with closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        for name in names:
            info = database.execute(f"PRAGMA table_info('{name}')").fetchall()
            links = database.execute(f"PRAGMA foreign_key_list('{name}')").fetchall()
            tables.append(
                table(
                    name,
                    {row[1]: row[2] for row in info},
                    [row[1] for row in info if row[5]],
                    [
                        {
                            "constrained_columns": [row[3]],
                            "referred_table": row[2],
                            "referred_columns": [row[4]],
                        }
                        for row in links
                    ],
                    database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0],
                )
            )
    return {"tables": tables}


def run_sqlite(path: Path, query: str) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as database:
        cursor = database.execute(query)
        rows = [list(row) for row in cursor.fetchall()]
        names = [column[0] for column in cursor.description]
    return {
        "columns": [{"name": name, "type": ""} for name in names],
        "rows": rows,
        "row_count": len(rows),
        "truncated": False,
        "elapsed_ms": 1,
    }
