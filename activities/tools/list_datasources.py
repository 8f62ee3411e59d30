"""The tool that shows which datasources a project has."""

from datetime import timedelta
from typing import Any

from typing_extensions import override

from activities.tools.tool import NoArguments, Tool, ToolContext
from store.texts import clean
from workflows.types import Effect, Queue

MAX_DATASOURCES = 500


class ListDatasources(Tool[NoArguments]):
    """Names, never configs or secrets."""

    name = "list_datasources"
    description = (
        "Lists the project's datasources with their ids. Databases can be queried with "
        "database_query after describe_schema; services of kind http with http_request."
    )
    arguments = NoArguments
    effect = Effect.READ
    queue = Queue.TOOLS_DATABASE
    deadline = timedelta(seconds=30)

    @override
    async def run(self, arguments: NoArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        sources = await context.datasources.list()
        return {
            "datasources": [
                {"id": str(source.id), "name": clean(source.name), "kind": source.kind}
                for source in sources[:MAX_DATASOURCES]
            ]
        }
