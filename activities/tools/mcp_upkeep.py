"""Keeps what is known of MCP servers' tools fresh, beside a worker that serves `tools-mcp`.

What changed is not offered until an owner approves it. A server that cannot be asked keeps its
tools, and says on its row why.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from activities.tools.mcp import McpTools
from store import mcp_servers
from store.mcp.client import tools_of
from store.mcp.errors import McpTrouble
from store.tables import McpServer

log = structlog.get_logger(__name__)

EVERY = timedelta(minutes=5)
LOOK_EVERY = timedelta(seconds=5)
AT_ONCE = 4


async def keep_fresh(tools: McpTools) -> None:
    """Read servers' tools anew when they are due, until cancelled."""
    while True:
        try:
            due = await mcp_servers.claim_checks(tools.database, EVERY, AT_ONCE)
            await asyncio.gather(*(_check(tools, *one) for one in due))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("mcp_upkeep_failed", error=type(error).__name__)
            due = []
        if len(due) < AT_ONCE:
            await asyncio.sleep(LOOK_EVERY.total_seconds())


async def _check(tools: McpTools, tenant_id: UUID, server_id: UUID) -> None:
    async with tools.database.tenant_session(tenant_id) as session:
        server = await session.get(McpServer, server_id)
    if server is None:
        return
    try:
        listing = await tools_of(tools.endpoint(server), tools.surroundings)
    except McpTrouble as trouble:
        async with tools.database.tenant_session(tenant_id) as session:
            row = await session.get(McpServer, server_id, with_for_update=True)
            if row is not None and row.version == server.version:
                await mcp_servers.note_problem(session, row, trouble.message)
    except Exception as error:
        # One server's oddity must not keep the others from being looked at.
        log.exception("mcp_check_crashed", server_id=str(server_id), error=type(error).__name__)
    else:
        await tools.note(server, listing)
