"""Tools of other packages: what the entry points of the group ``everturn.tools`` lead to.

An entry point names a callable that returns tools, and takes `Surroundings` or nothing. Whoever
installs a package beside the worker trusts it like the worker itself. A package that cannot be used
keeps the worker from starting: a tool that is quietly missing would be found out by the people.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from activities.tools.registry import Registry, ToolSource
from activities.tools.tool import Tool
from store.datasource.pools import Pools

GROUP = "everturn.tools"


class BrokenPlugin(Exception):
    """A package's tools cannot be used; says which package, and why."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a package may use to make its tools.

    Attributes:
        pools: Connections to datasources, bounded per tenant.
        data_dir: Where this installation keeps its files.
    """

    pools: Pools
    data_dir: Path


def with_plugins(
    built_in: Iterable[Tool[Any]],
    surroundings: Surroundings,
    sources: Sequence[ToolSource] = (),
) -> Registry:
    """A registry of our own tools and those of every installed package.

    Args:
        sources: Where tools come from that a project has of its own.

    Raises:
        BrokenPlugin: A package's tools cannot be loaded, declared or named so.
    """
    tools = list(built_in)
    registry = Registry(tools, sources)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        tools += _tools_of(point, surroundings)
        try:
            registry = Registry(tools, sources)
        except ValueError as error:
            raise _broken(point, str(error)) from error
    return registry


def _tools_of(point: EntryPoint, surroundings: Surroundings) -> list[Tool[Any]]:
    try:
        make: Callable[..., Any] = point.load()
        wants = [
            parameter
            for parameter in inspect.signature(make).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        made = list(make(surroundings) if wants else make())
    except Exception as error:
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    for tool in made:
        if not isinstance(tool, Tool):
            raise _broken(point, f"it returned {type(tool).__name__}, which is no Tool")
    return made


def _broken(point: EntryPoint, why: str) -> BrokenPlugin:
    package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return BrokenPlugin(f"the plugin {point.name!r} ({point.value}{package}) is broken: {why}")
