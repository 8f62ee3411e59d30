"""The kinds of databases there are."""

from collections.abc import Mapping

from activities.tools.sql.duckdb import DuckdbEngine
from activities.tools.sql.engine import Engine
from activities.tools.sql.mysql import MysqlEngine
from activities.tools.sql.postgresql import PostgresqlEngine
from activities.tools.sql.sqlite import SqliteEngine
from store.datasource.pools import Pools


def engines(pools: Pools) -> Mapping[str, Engine]:
    """One engine per kind."""
    return {
        "postgresql": PostgresqlEngine(pools),
        "mysql": MysqlEngine(pools),
        "sqlite": SqliteEngine(pools),
        "duckdb": DuckdbEngine(pools),
    }
