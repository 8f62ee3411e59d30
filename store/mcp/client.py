"""The door to `store.mcp.session`, which is loaded when the first server is spoken to."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from store.mcp.catalogue import Listing
from store.mcp.endpoint import Endpoint
from store.mcp.surroundings import Surroundings

if TYPE_CHECKING:
    from store.mcp.session import Conversation

T = TypeVar("T")


async def talk(
    endpoint: Endpoint, work: "Callable[[Conversation], Awaitable[T]]", surroundings: Surroundings
) -> T:
    """See `store.mcp.session.talk`."""
    # Half a second, which would stop everything else this process does.
    session = await asyncio.to_thread(importlib.import_module, "store.mcp.session")
    result: T = await session.talk(endpoint, work, surroundings)
    return result


async def tools_of(endpoint: Endpoint, surroundings: Surroundings) -> Listing:
    """What a server has.

    Raises:
        McpTrouble: It cannot be asked.
    """
    # The SDK tries both protocols where neither is known to be spoken.
    return await talk(Endpoint(endpoint.url, endpoint.secret), _list, surroundings)


async def _list(conversation: "Conversation") -> Listing:
    return await conversation.tools()
