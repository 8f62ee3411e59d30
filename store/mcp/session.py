"""One conversation with an MCP server: opened, held within its bounds, and ended.

Nothing is kept between two of them. Whatever goes wrong comes out as one `McpTrouble`; what the
server asks of us (sampling, elicitation, roots) is refused by not being offered.

Importing this loads the SDK, which takes half a second: `store.mcp.client` does it when needed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from store.mcp import stdio
from store.mcp.catalogue import MAX_TOOLS, Listing, listing_of
from store.mcp.endpoint import Endpoint
from store.mcp.errors import McpTrouble
from store.mcp.guard import MAX_BYTES, Guard
from store.mcp.surroundings import Surroundings
from store.net import AddressRefused, HostNotFound
from store.outbound.transport import GuardedTransport, unless_listed

T = TypeVar("T")

OPEN_SECONDS = 10.0
MAX_PAGES = 8
CONNECTIONS = 8
MAX_REDIRECTS = 3
_CONNECT_SECONDS = 5.0
# Codes the SDK makes up where the server did not answer the request itself.
_UNANSWERED = frozenset(
    {types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT, types.PARSE_ERROR, types.INVALID_REQUEST}
)


def _version() -> str:
    try:
        return version("everturn")
    except PackageNotFoundError:
        return "0"


_INFO = types.Implementation(name="everturn", version=_version())


class Conversation:
    """What can be asked of a server that has been greeted.

    Attributes:
        legacy: Whether it spoke a protocol that begins with ``initialize``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.legacy = client.session.initialize_result is not None

    async def tools(self) -> Listing:
        """The server's tools, as far as we take them.

        Raises:
            McpTrouble: They do not come in time.
        """
        said: list[types.Tool] = []
        cursor = None
        async with _within(OPEN_SECONDS, "It did not name its tools"):
            for _ in range(MAX_PAGES):
                params = types.PaginatedRequestParams(cursor=cursor)
                page = await self._client.session.list_tools(params=params)
                said += page.tools
                cursor = page.next_cursor
                if cursor is None or len(said) > MAX_TOOLS:
                    break
        dumped = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in said]
        return listing_of(dumped, legacy=self.legacy, more=cursor is not None)

    async def call(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call a tool. Its result is not held against the schema the server gives for it.

        Raises:
            Exception: As `talk` translates it.
        """
        params = types.CallToolRequestParams(name=tool, arguments=arguments)
        return await self._client.session.send_request(
            types.CallToolRequest(params=params), types.CallToolResult
        )


async def talk(
    endpoint: Endpoint, work: Callable[[Conversation], Awaitable[T]], surroundings: Surroundings
) -> T:
    """Greet a server, do `work` with it, and say goodbye.

    Raises:
        McpTrouble: The server cannot or may not be reached, does not keep to the protocol, or
            sends too much. Whatever `work` raises of its own comes through.
    """
    guard: Guard | None = None
    scope = anyio.CancelScope()
    try:
        with scope:
            async with _connected(endpoint, surroundings, scope) as (transport, guard):
                client = Client(
                    transport,
                    client_info=_INFO,
                    mode="legacy" if endpoint.legacy else "auto",
                    cache=None,
                )
                async with _greeted(client):
                    return await work(Conversation(client))
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 -- raised anew, translated
        if _is_cancelled():
            # A group of errors may have taken the place of our own cancellation.
            raise asyncio.CancelledError from None
        raise _translated(error, guard) from None
    trouble = guard.trouble if guard is not None else ""
    raise McpTrouble("too_large", trouble or "It sent too much.")


@asynccontextmanager
async def _connected(
    endpoint: Endpoint, surroundings: Surroundings, scope: anyio.CancelScope
) -> AsyncIterator[tuple[Any, Guard | None]]:
    if endpoint.command is not None:
        command = surroundings.command(endpoint.command)
        yield stdio.transport(command, MAX_BYTES), None
        return
    inner = GuardedTransport(
        unless_listed(surroundings.private_hosts),
        trust=surroundings.tls(),
        limits=httpx2.Limits(max_connections=CONNECTIONS),
    )
    guard = Guard(inner, scope.cancel)
    secret = {"authorization": f"Bearer {endpoint.secret}"} if endpoint.secret else {}
    async with httpx2.AsyncClient(
        transport=guard,
        # Proxies, netrc and certificates of our environment are none of theirs.
        trust_env=False,
        follow_redirects=False,
        # Of the SDK's own, which stay at the server.
        max_redirects=MAX_REDIRECTS,
        headers={"user-agent": f"everturn/{_INFO.version}", **secret},
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
    ) as http:
        yield (
            streamable_http_client(endpoint.url, http_client=http, max_sse_event_size=MAX_BYTES),
            guard,
        )


@asynccontextmanager
async def _greeted(client: Client) -> AsyncIterator[None]:
    async with _within(OPEN_SECONDS, "It did not answer the greeting"):
        await client.__aenter__()
    try:
        yield
    except BaseException as error:
        await client.__aexit__(type(error), error, error.__traceback__)
        raise
    else:
        await client.__aexit__(None, None, None)


@asynccontextmanager
async def _within(seconds: float, words: str) -> AsyncIterator[None]:
    """A deadline of our own, told from that of the caller."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except BaseException as error:
        said = any(isinstance(leaf, McpTrouble) for leaf in _leaves(error))
        if deadline.expired() and not said and not _is_cancelled():
            raise McpTrouble("timeout", f"{words} within {seconds:.0f} s.") from None
        raise


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in _leaves(child)]
    return [error]


def _translated(error: BaseException, guard: Guard | None) -> BaseException:
    """The one error that says most; what is none of the server's doing as it was."""
    if guard is not None and guard.trouble:
        return McpTrouble("too_large", guard.trouble)
    leaves = _leaves(error)
    ours = next((leaf for leaf in leaves if not isinstance(leaf, _FORESEEN)), None)
    if ours is not None:
        return ours
    leaves.sort(key=lambda leaf: [isinstance(leaf, kind) for kind in _FORESEEN].index(True))
    status = guard.status if guard is not None else 0
    match leaves[0]:
        case AddressRefused() as refused:
            return McpTrouble("refused", f"Its address was refused. {refused}")
        case McpTrouble() as trouble:
            return trouble
        case MCPError() as said:
            return _of_protocol(said, status)
        case HostNotFound() | httpx2.ConnectError() | httpx2.ConnectTimeout():
            return McpTrouble("unavailable", "It cannot be reached.")
        case httpx2.HTTPError() | httpx2.StreamError() | OSError():
            return McpTrouble("unavailable", "The connection to it broke.")
        case _:
            return McpTrouble("failed", "It does not speak the protocol as it should.")


# Those that say most come first.
_FORESEEN: tuple[type[BaseException], ...] = (
    AddressRefused, HostNotFound, McpTrouble, MCPError, httpx2.HTTPError, httpx2.StreamError,
    OSError, ValidationError, RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError,
)  # fmt: skip


def _of_protocol(said: MCPError, status: int) -> McpTrouble:
    match status:
        case 401 | 403:
            words = "It does not accept our sign-in. An owner can set the server's `secret`."
            return McpTrouble("failed", words, answered=True)
        case _ if 300 <= status < 400:
            words = "It redirects to another place, and that is not followed."
            return McpTrouble("refused", words, answered=True)
        case _ if 400 <= status < 500 and said.code in {types.INTERNAL_ERROR, *_UNANSWERED}:
            return McpTrouble("failed", f"It answered with HTTP status {status}.", answered=True)
        case _ if status >= 500:
            return McpTrouble("unavailable", f"It answered with HTTP status {status}.")
    if said.code == types.CONNECTION_CLOSED:
        return McpTrouble("unavailable", "The connection to it broke.")
    if said.code in (types.PARSE_ERROR, types.INVALID_REQUEST):
        return McpTrouble("failed", "It sent something that is no answer.")
    return McpTrouble(
        "failed", f"It answered: {said.message}", answered=said.code not in _UNANSWERED
    )
