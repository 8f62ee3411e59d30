"""What a kind of database offers to the tools. A new kind is one file and one line in `engines`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from activities.tools.tool import (
    Datasource,
    ToolContext,
    ToolError,
    ToolFailed,
    ToolRefused,
    ToolTimeout,
    ToolUnavailable,
)
from store.datasource.errors import FileUnusable
from store.datasource.files import project_folder
from store.datasource.pools import Pools
from store.errors import Refusal, Unavailable

# We end before the executor's deadline does, so that the model is told which limit it was.
MARGIN = timedelta(milliseconds=500)
MAX_TABLES = 200
MAX_COLUMNS = 500
MAX_SCHEMA_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows as the protocol shows them; cells are JSON-safe."""

    columns: list[dict[str, str]]
    rows: list[list[Any]]
    truncated: bool
    elapsed_ms: int

    def as_json(self) -> dict[str, Any]:
        """The shape of docs/protocol.md §4."""
        return {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": len(self.rows),
            "truncated": self.truncated,
            "elapsed_ms": self.elapsed_ms,
        }


@dataclass(slots=True)
class Table:
    """A table or view, named as a query can name it."""

    name: str
    columns: list[dict[str, Any]] = field(default_factory=list)
    primary_key: list[str] = field(default_factory=list)
    foreign_keys: list[dict[str, Any]] = field(default_factory=list)
    row_estimate: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A datasource as an engine uses it.

    Attributes:
        folder: Where the project's files are.
        within: Time there is.
    """

    source: Datasource
    folder: Path
    within: timedelta


class Engine(Protocol):
    """One kind of database."""

    async def query(self, target: Target, query: str) -> QueryResult:
        """Run one query that only reads.

        Raises:
            ToolError: Refused, failed, too slow or unreachable.
        """
        ...

    async def tables(self, target: Target, table: str | None) -> list[Table]:
        """Tables and views, or the one named, with at most one more than `MAX_TABLES`."""
        ...


def target(pools: Pools, source: Datasource, context: ToolContext) -> Target:
    """`source` within the surroundings of one call."""
    return Target(
        source,
        project_folder(pools.data_dir, context.tenant_id, context.project_id),
        max(context.deadline - MARGIN, context.deadline / 2),
    )


def engine_of(engines: Mapping[str, Engine], source: Datasource) -> Engine:
    """The engine of the datasource's kind.

    Raises:
        ToolFailed: It is not a database.
    """
    engine = engines.get(source.kind)
    if engine is None:
        raise ToolFailed(
            f"The datasource is of kind {source.kind!r}, which has no SQL. "
            "list_datasources shows the kind of each."
        )
    return engine


@asynccontextmanager
async def limits(within: timedelta) -> AsyncIterator[None]:
    """Hold what happens inside to the deadline, and say what went wrong in a tool's terms."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            yield
    except TimeoutError as error:
        raise too_slow(within) from error
    except Refusal as error:
        raise _as_tool_error(error) from error


def too_slow(within: timedelta) -> ToolTimeout:
    """What the model hears when the time is over."""
    return ToolTimeout(
        f"The database did not finish within {within.total_seconds():g} s, the time one query has. "
        "Filter earlier, aggregate, or ask for fewer rows."
    )


def _as_tool_error(error: Refusal) -> ToolError:
    if isinstance(error, Unavailable):
        return ToolUnavailable(error.detail)
    if isinstance(error, FileUnusable):
        return ToolFailed(error.detail)
    return ToolRefused(f"Refused by the rule {error.specific_code!r}: {error.detail}")
