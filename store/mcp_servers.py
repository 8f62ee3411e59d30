"""MCP servers of a project and their tools: rows, what was found, and what an owner has approved.

Functions run within the tenant's transaction; asking a server takes seconds and is done outside
of one (`store.mcp.client`). A tool is offered and runs only as it was approved: with the hash of
everything its server said of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store import audit
from store.audit import Actor
from store.database import Database, clock
from store.errors import Conflict, Invalid, NotFound
from store.mcp.catalogue import FoundTool, Listing
from store.mcp.names import call_name, other_slug, slug_of
from store.tables import McpServer, McpTool

MAX_SERVERS = 16
NAME_TAKEN = "The project has an MCP server of this name already."
CHANGED = "its description or arguments have changed"
COLLIDES = "its name reads like that of another tool of the server"

_CLAIM = text("SELECT tenant_id, server_id FROM claim_mcp_checks(:next_after, :at_most)")


@dataclass(frozen=True, slots=True)
class Approval:
    """An owner's word on one tool.

    Attributes:
        hash: Of what the owner has seen.
        read_only: It only reads: it need not be asked for, and may be tried again.
    """

    name: str
    hash: str
    read_only: bool = False


async def of_project(session: AsyncSession, project_id: UUID) -> Sequence[McpServer]:
    """A project's servers, by name."""
    query = select(McpServer).where(McpServer.project_id == project_id)
    return (await session.scalars(query.order_by(McpServer.name, McpServer.id))).all()


async def get(
    session: AsyncSession, project_id: UUID, server_id: UUID, *, lock: bool = False
) -> McpServer:
    """A server of this very project.

    Raises:
        NotFound: There is none.
    """
    query = select(McpServer).where(McpServer.id == server_id, McpServer.project_id == project_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound
    return row


async def tools_of(
    session: AsyncSession, server_ids: Sequence[UUID]
) -> Mapping[UUID, Sequence[McpTool]]:
    """All tools that are kept, by server, in the order of their names."""
    found: dict[UUID, list[McpTool]] = {server_id: [] for server_id in server_ids}
    query = select(McpTool).where(McpTool.server_id.in_(server_ids)).order_by(McpTool.name)
    for tool in await session.scalars(query):
        found[tool.server_id].append(tool)
    return found


async def add(
    session: AsyncSession,
    tenant_id: UUID,
    project_id: UUID,
    name: str,
    url: str,
    secret: bytes | None,
) -> McpServer:
    """A new server; call with the project locked.

    Raises:
        Conflict: The project has one of this name.
        Invalid: It has as many as a project may have.
    """
    others = await of_project(session, project_id)
    if len(others) >= MAX_SERVERS:
        raise Invalid(f"A project has at most {MAX_SERVERS} MCP servers.")
    taken = {row.slug for row in others}
    slug = slug_of(name) if slug_of(name) not in taken else other_slug(name)
    added = await session.scalar(
        insert(McpServer)
        .values(
            id=uuid4(), tenant_id=tenant_id, project_id=project_id, name=name, slug=slug,
            url=url, secret=secret,
        )
        .on_conflict_do_nothing()
        .returning(McpServer.id)
    )  # fmt: skip
    if added is None:
        raise Conflict(NAME_TAKEN)
    return await session.get_one(McpServer, added)


async def reconnect(session: AsyncSession, row: McpServer, url: str, secret: bytes | None) -> None:
    """Point a server elsewhere, or sign in with something else."""
    row.url, row.secret, row.legacy = url, secret, None
    row.version += 1
    row.updated_at = await clock(session)


async def drop(session: AsyncSession, project_id: UUID, server_id: UUID) -> None:
    """Delete a server with its tools.

    Raises:
        NotFound: There is none in this project.
    """
    dropped = await session.scalar(
        delete(McpServer)
        .where(McpServer.id == server_id, McpServer.project_id == project_id)
        .returning(McpServer.id)
    )
    if dropped is None:
        raise NotFound


# --- what was found ---------------------------------------------------------------------------


async def note_found(
    session: AsyncSession, row: McpServer, listing: Listing, *, approved_by: UUID | None = None
) -> None:
    """Take in what a server has; call with its row locked.

    An approved tool that is described differently than before loses its effect until an owner
    approves it again, and the audit log says so. One that is gone keeps its approval: it may be
    back tomorrow, and is then what was approved.

    Args:
        approved_by: An owner who points the project at this server, and so approves what it has.
    """
    kept = {tool.name: tool for tool in (await tools_of(session, [row.id]))[row.id]}
    dropped = list(listing.dropped)
    names = {tool.call_name for tool in kept.values() if tool.approved_hash is not None}
    now = await clock(session)
    listed: set[str] = set()
    for found in sorted(listing.tools, key=lambda tool: tool.name):
        called = call_name(row.slug, found.name)
        tool = kept.get(found.name)
        if called in names and (tool is None or tool.call_name != called):
            dropped.append({"name": found.name, "reason": COLLIDES})
            continue
        names.add(called)
        listed.add(found.name)
        if tool is None:
            tool = McpTool(
                id=uuid4(), tenant_id=row.tenant_id, server_id=row.id, name=found.name,
                call_name=called, read_only=False,
            )  # fmt: skip
            kept[found.name] = tool
        elif tool.hash != found.hash and tool.approved_hash == tool.hash and not approved_by:
            await _audit_change(session, row, found.name)
        _describe(tool, found)
        if approved_by is not None:
            _approve(tool, approved_by, now, read_only=tool.read_only)
    for tool in kept.values():
        tool.listed = tool.name in listed
        if not tool.listed and tool.approved_hash is None:
            await session.delete(tool)
    # Those that go make room for those that come.
    await session.flush()
    session.add_all(tool for tool in kept.values() if tool.listed)
    row.dropped, row.problem, row.legacy, row.checked_at = dropped, None, listing.legacy, now
    await session.flush()


def _describe(tool: McpTool, found: FoundTool) -> None:
    tool.description = found.description
    tool.input_schema = dict(found.input_schema)
    tool.hints = dict(found.hints)
    tool.hash = found.hash
    tool.listed = True


def _approve(tool: McpTool, who: UUID, now: Any, *, read_only: bool) -> None:
    tool.approved_hash, tool.approved_by, tool.approved_at = tool.hash, who, now
    tool.read_only = read_only


async def _audit_change(session: AsyncSession, row: McpServer, name: str) -> None:
    await audit.record(
        session, row.tenant_id, Actor(), "mcp_tool.changed", "mcp_server", row.id,
        outcome="refused", reason=f"{name}: {CHANGED}", project_id=row.project_id,
    )  # fmt: skip


async def note_problem(session: AsyncSession, row: McpServer, problem: str) -> None:
    """Keep why a server could not be asked; its tools stay what they were."""
    row.problem, row.checked_at = problem, await clock(session)


async def approve(
    session: AsyncSession, row: McpServer, approvals: Sequence[Approval], who: UUID
) -> None:
    """Approve tools as an owner has seen them; call with the server's row locked.

    Raises:
        Invalid: The server has no such tool.
        Conflict: A tool is no longer what the owner has seen.
    """
    kept = {tool.name: tool for tool in (await tools_of(session, [row.id]))[row.id]}
    now = await clock(session)
    for approval in approvals:
        tool = kept.get(approval.name)
        if tool is None or not tool.listed:
            raise Invalid(f"The server has no tool {approval.name!r}.")
        if tool.hash != approval.hash:
            raise Conflict(f"{approval.name} has changed since you looked. Look at it again.")
        _approve(tool, who, now, read_only=approval.read_only)
    await session.flush()


async def revoke(session: AsyncSession, row: McpServer, names: Sequence[str]) -> None:
    """Take approvals back.

    Raises:
        Invalid: The server has no such tool.
    """
    kept = {tool.name: tool for tool in (await tools_of(session, [row.id]))[row.id]}
    for name in names:
        if name not in kept:
            raise Invalid(f"The server has no tool {name!r}.")
        tool = kept[name]
        tool.approved_hash = tool.approved_by = tool.approved_at = None
        tool.read_only = False
    await session.flush()


# --- what is offered --------------------------------------------------------------------------


_OFFERED = (McpTool.listed, McpTool.approved_hash == McpTool.hash)


async def offered(session: AsyncSession, project_id: UUID) -> Sequence[tuple[McpServer, McpTool]]:
    """A project's tools that are what was approved, by name."""
    query = select(McpServer, McpTool).join(McpTool, McpTool.server_id == McpServer.id)
    query = query.where(McpServer.project_id == project_id, *_OFFERED)
    rows = await session.execute(query.order_by(McpTool.call_name))
    return [(server, tool) for server, tool in rows]


async def find(
    session: AsyncSession, project_id: UUID, called: str
) -> tuple[McpServer, McpTool] | None:
    """One of `offered` by the name the model calls it."""
    query = select(McpServer, McpTool).join(McpTool, McpTool.server_id == McpServer.id)
    query = query.where(McpServer.project_id == project_id, McpTool.call_name == called, *_OFFERED)
    row = (await session.execute(query)).first()
    return (row[0], row[1]) if row is not None else None


# --- reading anew -----------------------------------------------------------------------------


async def claim_checks(
    database: Database, next_after: timedelta, at_most: int
) -> Sequence[tuple[UUID, UUID]]:
    """Servers that are due, as ``(tenant, server)``; nobody else is given them for `next_after`."""
    async with database.session() as session:
        rows = await session.execute(_CLAIM, {"next_after": next_after, "at_most": at_most})
        return [(row.tenant_id, row.server_id) for row in rows]


async def check_soon(session: AsyncSession, row: McpServer) -> None:
    """Have a server's tools read anew as soon as a worker comes to it."""
    row.check_after = func.clock_timestamp()
    await session.flush()
