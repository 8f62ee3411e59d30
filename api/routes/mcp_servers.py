"""MCP servers of a project and the approval of their tools. Secrets go in and never come out."""

from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import Items
from api.mcp_bodies import (
    Approvals,
    CommandAnswer,
    NewServer,
    Revocations,
    ServerAnswer,
    ServerChange,
)
from api.state import CurrentEdge, Edge
from api.stored_secrets import opened, secret_for
from store import access, audit, mcp_servers, projects, tenants
from store.access import Role
from store.audit import Actor
from store.errors import Conflict, Invalid, Unavailable
from store.mcp.catalogue import Listing
from store.mcp.client import tools_of
from store.mcp.endpoint import STDIO, Endpoint, destination, problem_of
from store.mcp.errors import McpTrouble
from store.mcp_servers import Approval
from store.principal import Principal
from store.tables import McpServer

router = APIRouter(
    prefix="/api/projects/{project_id}/mcp-servers",
    tags=["mcp servers"],
    route_class=AuditedRoute,
)


async def _check_url(
    session: AsyncSession, edge: Edge, principal: Principal, project_id: UUID, url: str
) -> None:
    """Hold a URL somebody has typed against what may be one.

    Raises:
        Invalid: It cannot be a server of this project.
    """
    if url.startswith(STDIO):
        slug = (await tenants.get(session)).slug
        named = edge.mcp.commands.for_project(principal.tenant_id, slug, project_id)
        if url.removeprefix(STDIO) not in {command.name for command in named}:
            raise Invalid(
                "Whoever runs this installation has no server of that name for this project.",
                code="refused",
            )
    elif problem := problem_of(url):
        raise Invalid(f"The URL {problem}.", errors=[{"field": "url", "message": problem}])


async def _ask(edge: Edge, endpoint: Endpoint) -> Listing | None:
    """What a server has; seconds may pass, so no transaction is open meanwhile.

    Returns:
        None for a process, which runs beside a worker and is asked there.
    """
    if endpoint.command is not None:
        return None
    try:
        return await tools_of(endpoint, edge.mcp)
    except McpTrouble as trouble:
        words = f"The MCP server: {trouble.message}"
        if trouble.code in ("unavailable", "timeout"):
            raise Unavailable(words) from None
        code = "refused" if trouble.code == "refused" else "invalid"
        raise Invalid(words, code=code) from None


async def _answer(session: AsyncSession, row: McpServer, role: Role) -> ServerAnswer:
    tools = await mcp_servers.tools_of(session, [row.id])
    return ServerAnswer.of(row, tools[row.id], role)


async def _audit(
    session: AsyncSession,
    principal: Principal,
    request: Request,
    action: str,
    row_id: UUID,
    project_id: UUID,
    reason: str | None = None,
) -> None:
    await audit.record(
        session, principal.tenant_id, Actor.of(principal, address_of(request)), action,
        "mcp_server", row_id, reason=reason, project_id=project_id,
    )  # fmt: skip


@router.get("")
async def list_mcp_servers(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[ServerAnswer]:
    """The project's servers with their tools, by name."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.VIEWER)
        rows = await mcp_servers.of_project(session, project_id)
        tools = await mcp_servers.tools_of(session, [row.id for row in rows])
        return Items(items=[ServerAnswer.of(row, tools[row.id], role) for row in rows])


@router.get("/available")
async def list_available_commands(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[CommandAnswer]:
    """Servers of the operator's configuration that the project may add (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        slug = (await tenants.get(session)).slug
    found = edge.mcp.commands.for_project(principal.tenant_id, slug, project_id)
    return Items(items=[CommandAnswer(name=one.name, url=f"{STDIO}{one.name}") for one in found])


@router.get("/{server_id}")
async def get_mcp_server(
    project_id: UUID, server_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> ServerAnswer:
    """One server with its tools."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.VIEWER)
        return await _answer(session, await mcp_servers.get(session, project_id, server_id), role)


@router.post("", status_code=201)
async def create_mcp_server(
    project_id: UUID,
    body: NewServer,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ServerAnswer:
    """Add a server that answers (owner); the tools it has now are approved by that."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        await _check_url(session, edge, principal, project_id, body.url)
    listing = await _ask(edge, Endpoint(body.url, body.secret or ""))
    secret = edge.keys.encrypt(body.secret, principal.tenant_id) if body.secret else None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        # Again: seconds have passed.
        role = await access.require(session, principal, project_id, Role.OWNER)
        await projects.get(session, project_id, lock=True)
        row = await mcp_servers.add(
            session, principal.tenant_id, project_id, body.name, body.url, secret
        )
        if listing is not None:
            await mcp_servers.note_found(session, row, listing, approved_by=principal.user_id)
        count = f"{len(listing.tools)} tools approved" if listing is not None else None
        await _audit(session, principal, request, "mcp_server.create", row.id, project_id, count)
        return await _answer(session, row, role)


@router.patch("/{server_id}")
async def change_mcp_server(
    project_id: UUID,
    server_id: UUID,
    body: ServerChange,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ServerAnswer:
    """Change a server (owner). A stored secret does not follow to another host.

    Another URL is another server: the tools found there are approved by it, as with a new one. With
    another secret alone, tools that have changed still wait for an approval.
    """
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        row = await mcp_servers.get(session, project_id, server_id)
        if body.url is not None:
            await _check_url(session, edge, principal, project_id, body.url)
    version, url = row.version, body.url or row.url
    moves = destination(url) != destination(row.url)
    plain = secret_for(edge.keys, row, body.secret, moves=moves)
    listing = await _ask(edge, Endpoint(url, plain))
    approved_by = principal.user_id if url != row.url else None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        row = await mcp_servers.get(session, project_id, server_id, lock=True)
        if row.version != version:
            raise Conflict("Somebody else changed this server meanwhile. Look at it again.")
        secret = edge.keys.encrypt(plain, principal.tenant_id) if plain else None
        await mcp_servers.reconnect(session, row, url, secret)
        if listing is None:
            await mcp_servers.check_soon(session, row)
        else:
            await mcp_servers.note_found(session, row, listing, approved_by=approved_by)
        changed = " ".join(sorted(body.model_fields_set))
        await _audit(session, principal, request, "mcp_server.update", row.id, project_id, changed)
        return await _answer(session, row, role)


@router.post("/{server_id}/refresh")
async def refresh_mcp_server(
    project_id: UUID,
    server_id: UUID,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ServerAnswer:
    """Read a server's tools now (owner); what is new or has changed waits for an approval."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        row = await mcp_servers.get(session, project_id, server_id)
    listing = await _ask(edge, Endpoint(row.url, opened(edge.keys, row)))
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        now = await mcp_servers.get(session, project_id, server_id, lock=True)
        if listing is None:
            await mcp_servers.check_soon(session, now)
        elif now.version == row.version:
            await mcp_servers.note_found(session, now, listing)
        await _audit(session, principal, request, "mcp_server.refresh", now.id, project_id)
        return await _answer(session, now, role)


@router.post("/{server_id}/approve")
async def approve_mcp_tools(
    project_id: UUID,
    server_id: UUID,
    body: Approvals,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ServerAnswer:
    """Approve tools as they were seen, by their hashes (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        row = await mcp_servers.get(session, project_id, server_id, lock=True)
        approvals = [Approval(**tool.model_dump()) for tool in body.tools]
        await mcp_servers.approve(session, row, approvals, principal.user_id)
        names = ", ".join(
            f"{one.name} {'(read) ' * one.read_only}{one.hash[:12]}" for one in approvals
        )
        await _audit(session, principal, request, "mcp_tool.approve", row.id, project_id, names)
        return await _answer(session, row, role)


@router.post("/{server_id}/revoke")
async def revoke_mcp_tools(
    project_id: UUID,
    server_id: UUID,
    body: Revocations,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> ServerAnswer:
    """Take approvals back (owner); such a tool is not offered and does not run."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        row = await mcp_servers.get(session, project_id, server_id, lock=True)
        await mcp_servers.revoke(session, row, body.tools)
        names = ", ".join(body.tools)
        await _audit(session, principal, request, "mcp_tool.revoke", row.id, project_id, names)
        return await _answer(session, row, role)


@router.delete("/{server_id}", status_code=204)
async def delete_mcp_server(
    project_id: UUID,
    server_id: UUID,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> None:
    """Delete a server with its tools (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        await mcp_servers.drop(session, project_id, server_id)
        await _audit(session, principal, request, "mcp_server.delete", server_id, project_id)
