"""Results of reading tools, given again while their datasource allows it.

A tool declares that it may be (`Tool.cacheable`), a datasource for how long (`cache_seconds`, off
by default). Only a result that is whole is kept: no failure, nothing that was stopped.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import structlog

from activities.tools.tool import Arguments, Tool, ToolContext
from store import tool_cache
from store.database import Database
from store.tool_cache import Found, Place
from store.wire import encode

log = structlog.get_logger(__name__)

# Changed with the shape of results, so that a new version never shows an old one's.
_FORM = "1"
CACHED, AGE = "cached", "cached_age_seconds"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a call's result is kept, and what was found there."""

    place: Place
    found: Found | None

    def result(self) -> dict[str, Any] | None:
        """The result that was found, saying that it is not new and how old it is."""
        if self.found is None:
            return None
        return {**self.found.result, CACHED: True, AGE: self.found.age_seconds}


class ResultCache:
    """Looks results up and keeps them, in the database that all workers share."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(
        self, tool: Tool[Any], arguments: Arguments, context: ToolContext
    ) -> Kept | None:
        """What is kept of a call; None where nothing of it may be.

        Raises:
            ToolNotFound: The project has no such datasource.
        """
        if not tool.cacheable:
            return None
        source = await context.datasources.get(str(getattr(arguments, "datasource_id", "")))
        if source.cache_seconds <= 0:
            return None
        place = Place(
            key=_key(tool, arguments, context, source.version),
            tenant_id=context.tenant_id,
            project_id=context.project_id,
            datasource_id=source.id,
            tool=tool.name,
            keep_for=timedelta(seconds=source.cache_seconds),
        )
        async with self._database.tenant_session(context.tenant_id) as session:
            return Kept(place, await tool_cache.find(session, place))

    async def keep(self, kept: Kept, result: dict[str, Any]) -> None:
        """Keep the result of a call that has just been made; without it all goes on as well."""
        try:
            async with self._database.tenant_session(kept.place.tenant_id) as session:
                await tool_cache.keep(session, kept.place, result, len(encode(result)))
        except Exception as error:  # noqa: BLE001 -- the result itself is there
            log.warning("result_not_kept", tool=kept.place.tool, error=type(error).__name__)


def _key(tool: Tool[Any], arguments: Arguments, context: ToolContext, version: int) -> bytes:
    parts = [
        _FORM,
        str(context.tenant_id),
        str(context.project_id),
        version,
        tool.name,
        # The datasource's id is one of them.
        arguments.model_dump(mode="json"),
    ]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()
