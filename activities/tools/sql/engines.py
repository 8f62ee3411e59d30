"""The kinds of databases there are."""

from collections.abc import Mapping
from functools import lru_cache

from activities.tools.sql.duckdb import DuckdbEngine
from activities.tools.sql.engine import Engine
from activities.tools.sql.mysql import MysqlEngine
from activities.tools.sql.postgresql import PostgresqlEngine
from activities.tools.sql.sqlite import SqliteEngine
from store.datasource.pools import Pools


@lru_cache(maxsize=4)  # a process has one `Pools`
def engines(pools: Pools) -> Mapping[str, Engine]:
    """One engine per kind, the same for all tools."""
    return {
        "postgresql": PostgresqlEngine(pools),
        "mysql": MysqlEngine(pools),
        "sqlite": SqliteEngine(pools),
        "duckdb": DuckdbEngine(pools),
    }
