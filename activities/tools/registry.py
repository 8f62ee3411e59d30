"""The tools there are. A new tool is one file and one line in `default_tools`."""

import re
from collections.abc import Iterable
from typing import Any

from activities.tools.arguments import InvalidArguments, parse_arguments
from activities.tools.database_query import DatabaseQuery
from activities.tools.describe_schema import DescribeSchema
from activities.tools.http_request import HttpRequest
from activities.tools.list_datasources import ListDatasources
from activities.tools.list_files import ListFiles
from activities.tools.read_file import ReadFile
from activities.tools.schemas import parameters
from activities.tools.search_files import SearchFiles
from activities.tools.tool import Tool
from activities.tools.write_file import WriteFile
from store.datasource.pools import Pools
from store.files.project_files import ProjectFiles

__all__ = ["InvalidArguments", "Registry", "default_tools", "parse_arguments"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what model APIs accept


class Registry:
    """Tools by name; what is not in it does not exist.

    Raises:
        ValueError: Two tools have one name, or a name no model can call.
    """

    def __init__(self, tools: Iterable[Tool[Any]]) -> None:
        self._tools: dict[str, Tool[Any]] = {}
        for tool in tools:
            if not _NAME.fullmatch(tool.name):
                raise ValueError(f"a model cannot call a tool named {tool.name!r}")
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


def _spec(tool: Tool[Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": parameters(tool.arguments),
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
