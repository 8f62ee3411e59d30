"""Tools of a project's MCP servers: offered as an owner has approved them, called one at a time.

Before each call the server is asked, in the same conversation, what the tool is now: one that has
changed since it was approved does not run, and is not offered any more.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from pydantic import ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from activities.tools.arguments import InvalidArguments
from activities.tools.mcp_results import failure_text, result_of
from activities.tools.tool import (
    Arguments,
    Tool,
    ToolContext,
    ToolError,
    ToolFailed,
    ToolOutcomeUnknown,
    ToolRefused,
    ToolTimeout,
    ToolTooLarge,
    ToolUnavailable,
)
from store import mcp_servers
from store.database import Database
from store.errors import NotFound
from store.mcp import schema
from store.mcp.catalogue import Listing
from store.mcp.client import talk
from store.mcp.endpoint import Endpoint
from store.mcp.errors import McpTrouble
from store.mcp.names import PREFIX
from store.mcp.surroundings import Surroundings
from store.secrets import KeyRing, SecretError
from store.tables import McpServer
from store.tables import McpTool as McpToolRow
from workflows.types import Effect, Queue

if TYPE_CHECKING:
    from store.mcp.session import Conversation

# A model is offered so much of a project's servers; the rest, in the order of names, is not.
MAX_OFFERED = 100
MAX_OFFERED_BYTES = 128 * 1024

_ERRORS: dict[str, type[ToolError]] = {
    kind.code: kind
    for kind in (ToolRefused, ToolUnavailable, ToolTimeout, ToolTooLarge, ToolFailed)
}
_NO_ANSWER = "Whether it took effect is not known: check before doing it again."


class ToolGone(ToolError):
    """The server does not have it any more."""

    code = "unknown_tool"


class McpArguments(Arguments):
    """Whatever the server's schema lets through."""

    model_config = ConfigDict(extra="allow")


class McpTools:
    """The approved tools of a project's servers; a `ToolSource`.

    Args:
        database: Where they are kept.
        keys: Open the servers' secrets.
        surroundings: How servers are reached.
    """

    prefix = PREFIX

    def __init__(self, database: Database, keys: KeyRing, surroundings: Surroundings) -> None:
        self.database = database
        self.surroundings = surroundings
        self._keys = keys

    async def offered(self, session: AsyncSession, project_id: UUID) -> Sequence["McpTool"]:
        """See `ToolSource.offered`."""
        tools: list[McpTool] = []
        left = MAX_OFFERED_BYTES
        for server, row in await mcp_servers.offered(session, project_id):
            tool = McpTool(self, server, row)
            left -= len(tool.description.encode()) + len(orjson.dumps(tool.parameters()))
            if left < 0 or len(tools) == MAX_OFFERED:
                break
            tools.append(tool)
        return tools

    async def find(self, session: AsyncSession, project_id: UUID, name: str) -> "McpTool | None":
        """See `ToolSource.find`."""
        found = await mcp_servers.find(session, project_id, name)
        return McpTool(self, *found) if found is not None else None

    def endpoint(self, server: McpServer) -> Endpoint:
        """Where a server is, with its secret opened.

        Raises:
            McpTrouble: The secret does not open any more.
        """
        try:
            secret = self._keys.decrypt(server.secret, server.tenant_id) if server.secret else ""
        except SecretError:
            words = "Its stored secret does not open any more. An owner has to send it again."
            raise McpTrouble("failed", words) from None
        return Endpoint(server.url, secret, legacy=bool(server.legacy))

    async def note(self, server: McpServer, listing: Listing) -> None:
        """Keep what a server has now, unless it is another server by now."""
        async with self.database.tenant_session(server.tenant_id) as session:
            try:
                row = await mcp_servers.get(session, server.project_id, server.id, lock=True)
            except NotFound:
                return
            if row.version == server.version:
                await mcp_servers.note_found(session, row, listing)


class McpTool(Tool[McpArguments]):
    """One tool of one server, as it was approved."""

    arguments = McpArguments
    queue = Queue.TOOLS_MCP
    deadline = timedelta(seconds=60)

    def __init__(self, source: McpTools, server: McpServer, row: McpToolRow) -> None:
        self.name = row.call_name
        self.description = row.description
        self.effect = Effect.READ if row.read_only else Effect.ONCE
        self._source = source
        self._server = server
        self._row = row

    @override
    def parameters(self) -> dict[str, Any]:
        return schema.for_model(self._row.input_schema)

    @override
    def parse(self, value: dict[str, Any]) -> McpArguments:
        try:
            problems = schema.problems(self._row.input_schema, value)
        except schema.TooMuchWork:
            problems = ["arguments: are too many to be checked"]
        if problems:
            known = ", ".join(self._row.input_schema.get("properties") or {}) or "none"
            raise InvalidArguments(
                f"The arguments do not fit {self.name}. {'; '.join(problems)}. "
                f"Its fields are: {known[:1_000]}."
            )
        return McpArguments.model_validate(value)

    @override
    async def run(self, arguments: McpArguments, context: ToolContext) -> dict[str, Any]:
        """See `Tool.run`."""
        call = _Call(self._row, arguments.model_extra or {})
        try:
            return await talk(
                self._source.endpoint(self._server), call.work, self._source.surroundings
            )
        except McpTrouble as trouble:
            message = f"{self._server.name}: {trouble.message}"
            if call.sent and not trouble.answered and self.effect is not Effect.READ:
                raise ToolOutcomeUnknown(f"{message} {_NO_ANSWER}") from None
            raise _ERRORS.get(trouble.code, ToolFailed)(message) from None
        finally:
            if call.outdated is not None:
                await self._source.note(self._server, call.outdated)


class _Call:
    """What is done in one conversation.

    Attributes:
        sent: The server may have begun to do it.
        outdated: What the server has now, where that is not what was approved.
    """

    def __init__(self, row: McpToolRow, arguments: Mapping[str, Any]) -> None:
        self._row = row
        self._arguments = dict(arguments)
        self.sent = False
        self.outdated: Listing | None = None

    async def work(self, conversation: "Conversation") -> dict[str, Any]:
        listing = await conversation.tools()
        now = next((tool for tool in listing.tools if tool.name == self._row.name), None)
        if now is None:
            self.outdated = listing
            raise ToolGone("The server does not have this tool any more.")
        if now.hash != self._row.hash:
            self.outdated = listing
            raise ToolRefused(
                "The server describes this tool differently than when it was approved. "
                "An owner of the project has to look at it and approve it again."
            )
        self.sent = True
        result = await conversation.call(self._row.name, self._arguments)
        if result.is_error:
            raise ToolFailed(failure_text(result))
        return result_of(result)
