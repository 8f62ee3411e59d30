"""The tools there are. A new tool is one file and one line in `default_tools`.

Tools of other packages come through `activities.tools.plugins`.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from activities.tools.arguments import InvalidArguments, parse_arguments
from activities.tools.database_query import DatabaseQuery
from activities.tools.describe_schema import DescribeSchema
from activities.tools.http_request import HttpRequest
from activities.tools.list_datasources import ListDatasources
from activities.tools.list_files import ListFiles
from activities.tools.read_file import ReadFile
from activities.tools.search_files import SearchFiles
from activities.tools.tool import Arguments, Tool
from activities.tools.write_file import WriteFile
from store.datasource.pools import Pools
from store.files.project_files import ProjectFiles
from store.mcp.names import PREFIX as MCP_PREFIX
from workflows.types import Effect, Queue

__all__ = ["InvalidArguments", "Registry", "ToolSource", "Toolbox", "default_tools",
           "parse_arguments"]  # fmt: skip

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what model APIs accept
_QUEUES = frozenset(queue for queue in Queue if queue.startswith("tools-"))
_LONGEST = timedelta(minutes=15)


class ToolSource(Protocol):
    """Tools that a project has beside the built-in ones, read from the database when asked for.

    Attributes:
        prefix: Of all their names; no built-in tool's begins with it.
    """

    prefix: str

    async def offered(self, session: AsyncSession, project_id: UUID) -> Sequence[Tool[Any]]:
        """All of a project that a model may be told of now, in a lasting order."""
        ...

    async def find(self, session: AsyncSession, project_id: UUID, name: str) -> Tool[Any] | None:
        """The one of that name among them."""
        ...


class Toolbox:
    """The tools of one project at one moment."""

    def __init__(self, tools: Iterable[Tool[Any]]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        for tool in tools:
            _check(tool)
            if tool.name in self._tools:
                raise ValueError(f"two tools are named {tool.name!r}")
            self._tools[tool.name] = tool
        self._specs = [_spec(tool) for tool in self._tools.values()]

    def get(self, name: str) -> Tool[Any] | None:
        """The tool of exactly that name."""
        return self._tools.get(name)

    def specs(self) -> list[dict[str, Any]]:
        """The ``tools`` array of a model call."""
        return list(self._specs)

    def with_more(self, tools: Sequence[Tool[Any]]) -> "Toolbox":
        """These and others; one that would take the place of one of these is left out."""
        if not tools:
            return self
        wider = Toolbox([])
        new = {tool.name: tool for tool in tools if tool.name not in self._tools}
        wider._tools = self._tools | new
        wider._specs = self._specs + [_spec(tool) for tool in new.values()]
        return wider


class Registry(Toolbox):
    """The tools every project has, and where its own come from; what is in neither does not exist.

    Raises:
        ValueError: Two tools have one name, one has that of a source, or is declared wrongly.
    """

    def __init__(self, tools: Iterable[Tool[Any]], sources: Sequence[ToolSource] = ()) -> None:
        super().__init__(tools)
        self._sources = sources
        for name in self._tools:
            if name.startswith(MCP_PREFIX):
                raise ValueError(f"{name!r} is a name for tools of MCP servers")

    async def for_project(self, session: AsyncSession, project_id: UUID) -> Toolbox:
        """All tools that a project has now."""
        toolbox: Toolbox = self
        for source in self._sources:
            toolbox = toolbox.with_more(await source.offered(session, project_id))
        return toolbox

    async def find(self, session: AsyncSession, project_id: UUID, name: str) -> Tool[Any] | None:
        """The one of that name among them; a built-in one costs no question."""
        if (tool := self.get(name)) is not None:
            return tool
        for source in self._sources:
            if name.startswith(source.prefix):
                return await source.find(session, project_id, name)
        return None


def _check(tool: Tool[Any]) -> None:
    """See that a tool's declaration holds.

    Raises:
        ValueError: It does not; names the tool and what is wrong.
    """
    kind = type(tool)
    arguments: object = getattr(tool, "arguments", None)
    for attribute in ("name", "description", "arguments", "effect", "queue", "deadline"):
        if not hasattr(tool, attribute):
            raise ValueError(f"the tool {kind.__name__} does not say its {attribute}")
    if not _NAME.fullmatch(tool.name):
        raise ValueError(f"a model cannot call a tool named {tool.name!r}")
    for holds, wrong in (
        (
            isinstance(arguments, type) and issubclass(arguments, Arguments),
            "its arguments are no subclass of Arguments",
        ),
        (isinstance(tool.effect, Effect), f"{tool.effect!r} is no Effect"),
        (tool.queue in _QUEUES, f"{tool.queue!r} is none of {', '.join(sorted(_QUEUES))}"),
        (timedelta(0) < tool.deadline <= _LONGEST, "a deadline is above 0 and at most 15 min"),
        (1 <= tool.max_attempts <= 100, "max_attempts is from 1 to 100"),
        (tool.policy in (None, "allow", "ask", "deny"), f"there is no policy {tool.policy!r}"),
        (not tool.cacheable or tool.effect is Effect.READ, "only a tool that reads is cacheable"),
        (
            not tool.cacheable or "datasource_id" in tool.arguments.model_fields,
            "a cacheable tool has an argument datasource_id",
        ),
    ):
        if not holds:
            raise ValueError(f"the tool {tool.name!r} is declared wrongly: {wrong}")


def _spec(tool: Tool[Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters(),
        },
    }


def default_tools(pools: Pools, files: ProjectFiles) -> list[Tool[Any]]:
    """Every built-in tool."""
    return [
        ListDatasources(),
        DescribeSchema(pools),
        DatabaseQuery(pools),
        HttpRequest(pools.private_hosts),
        ListFiles(files),
        SearchFiles(files),
        ReadFile(files),
        WriteFile(files),
    ]
