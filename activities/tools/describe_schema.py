"""The tool that shows the tables of a datasource: a model cannot write SQL blind."""

from datetime import timedelta
from typing import Annotated, Any

import orjson
from pydantic import Field
from typing_extensions import override

from activities.tools.http.operations import operations_shown
from activities.tools.sql.engine import (
    MAX_SCHEMA_BYTES,
    MAX_TABLES,
    Table,
    engine_of,
    target,
)
from activities.tools.sql.engines import engines
from activities.tools.tool import Arguments, Tool, ToolContext, ToolNotFound
from store.datasource.pools import Pools
from workflows.types import Effect, Queue


class DescribeSchemaArguments(Arguments):
    """Arguments of describe_schema."""

    datasource_id: Annotated[
        str, Field(max_length=64, description="Id of a datasource, from list_datasources.")
    ]
    table: Annotated[
        str | None,
        Field(
            max_length=200,
            description="Only this table, as `name` or `schema.name`. Leave it out for all.",
        ),
    ] = None


class DescribeSchema(Tool[DescribeSchemaArguments]):
    """Tables, columns and keys; no rows."""

    name = "describe_schema"
    description = (
        "Shows the tables and views of a database with their columns, types, keys and estimated "
        "numbers of rows; of a datasource of kind http the operations it offers. Call it before "
        "writing a query or a request."
    )
    arguments = DescribeSchemaArguments
    effect = Effect.READ
    queue = Queue.TOOLS_DATABASE
    deadline = timedelta(seconds=30)
    cacheable = True

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._engines = engines(pools)

    @override
    async def run(self, arguments: DescribeSchemaArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        source = await context.datasources.get(arguments.datasource_id)
        if source.kind == "http":
            return operations_shown(source, arguments.table)
        engine = engine_of(self._engines, source)
        where = target(self._pools, source, context)
        tables = await engine.tables(where, arguments.table)
        if arguments.table is not None and not tables:
            raise ToolNotFound(
                f"There is no table {arguments.table!r} that can be read here. Call "
                "describe_schema without `table` to see all."
            )
        return _bounded(tables)


def _bounded(tables: list[Table]) -> dict[str, Any]:
    shown: list[dict[str, Any]] = []
    left = MAX_SCHEMA_BYTES
    for table in tables[:MAX_TABLES]:
        described = {
            "name": table.name,
            "columns": table.columns,
            "primary_key": table.primary_key,
            "foreign_keys": table.foreign_keys,
            "row_estimate": table.row_estimate,
        }
        left -= len(orjson.dumps(described))
        if left < 0:
            break
        shown.append(described)
    return {"tables": shown, "truncated": len(shown) < len(tables)}
