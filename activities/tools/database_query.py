"""The tool that runs a query on a project's database. It can only read."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from activities.tools.sql import paging
from activities.tools.sql.engine import engine_of, target
from activities.tools.sql.engines import engines
from activities.tools.tool import Arguments, Tool, ToolContext
from store.datasource.pools import Pools
from workflows.types import Effect, Queue


class DatabaseQueryArguments(Arguments):
    """Arguments of database_query."""

    datasource_id: Annotated[
        str, Field(max_length=64, description="Id of a datasource, from list_datasources.")
    ]
    query: Annotated[
        str,
        Field(
            min_length=1,
            description="One SELECT in the SQL of the datasource's kind, without parameters.",
        ),
    ]
    page: Annotated[
        str | None,
        Field(
            max_length=paging.MAX_HANDLE_CHARS,
            description="Where a result had `next`: that text, with the same query, for more rows.",
        ),
    ] = None


class DatabaseQuery(Tool[DatabaseQueryArguments]):
    """Runs one query and returns its rows."""

    name = "database_query"
    description = (
        "Runs one read-only SQL query on a database of the project and returns at most 1,000 rows, "
        "with a handle for the next ones where there are more. "
        "SELECT, WITH, VALUES, TABLE and EXPLAIN are allowed, with the database's built-in "
        "functions. Large integers and exact decimals come as text."
    )
    arguments = DatabaseQueryArguments
    effect = Effect.READ
    queue = Queue.TOOLS_DATABASE
    deadline = timedelta(seconds=30)
    cacheable = True

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._engines = engines(pools)

    @override
    async def run(self, arguments: DatabaseQueryArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        source = await context.datasources.get(arguments.datasource_id)
        engine = engine_of(self._engines, source)
        skip = paging.skipped(arguments.page, source, arguments.query, context)
        where = replace(target(self._pools, source, context), skip=skip)
        result = await engine.query(where, arguments.query)
        return paging.paged(result, skip, source, arguments.query, context)
