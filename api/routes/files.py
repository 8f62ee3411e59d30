"""Files of a project: listed, uploaded, downloaded, deleted. Bodies are streamed both ways.

Whatever a file is called and holds, a browser gets it as an attachment of no particular type: no
file of a project is ever a page of this origin.
"""

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import ClientDisconnect

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import DEFAULT_PAGE, Cursor, Items, Limit, cursor_of, place_of
from api.downloads import Download
from api.state import CurrentEdge, Edge
from store import access, audit, tenants
from store.access import Role
from store.audit import Actor
from store.errors import Invalid, TooLarge
from store.files import paths
from store.files.folder import Entry, amount
from store.files.paths import Names
from store.files.project_files import Also, Receiver
from store.limits import TenantLimits
from store.principal import Principal

router = APIRouter(
    prefix="/api/projects/{project_id}/files", tags=["files"], route_class=AuditedRoute
)

# An upload that says nothing for so long is over; nor may one take for ever.
SILENCE_SECONDS = 30.0
UPLOAD_SECONDS = 30 * 60.0


class FileAnswer(BaseModel):
    """A file; `size` in bytes."""

    path: str
    size: int
    modified: datetime

    @classmethod
    def of(cls, entry: Entry) -> "FileAnswer":
        """Answer for a file."""
        return cls(path=entry.path, size=entry.size, modified=entry.modified)


async def _admitted(
    edge: Edge, principal: Principal, project_id: UUID, needed: Role
) -> TenantLimits:
    """Let in whoever has the role; before his path is looked at, for it may be another's."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, needed)
        return TenantLimits.of((await tenants.get(session)).limits)


def _on_record(
    principal: Principal, request: Request, project_id: UUID, action: str, names: Names
) -> Also:
    """Check the role again, for an upload takes its time, and write the audit row."""

    async def also(session: AsyncSession) -> None:
        await access.require(session, principal, project_id, Role.EDITOR)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            action, "file", paths.text_of(names), project_id=project_id,
        )  # fmt: skip

    return also


@router.get("")
async def list_files(
    project_id: UUID,
    principal: CurrentPrincipal,
    edge: CurrentEdge,
    prefix: Annotated[str, Query(max_length=paths.MAX_PATH_BYTES)] = "",
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Items[FileAnswer]:
    """Files whose paths begin with `prefix`, folder by folder in the order of their names."""
    after = place_of(cursor, list[str])
    await _admitted(edge, principal, project_id, Role.VIEWER)
    found = await edge.files.entries(
        principal.tenant_id, project_id,
        prefix=paths.normal(prefix), after=tuple(after[0]) if after else None, limit=limit + 1,
    )  # fmt: skip
    more, found = len(found) > limit, found[:limit]
    return Items(
        items=[FileAnswer.of(entry) for entry in found],
        next_cursor=cursor_of(list(found[-1].names)) if more else None,
    )


@router.get("/{path:path}", response_class=Download, response_model=None)
async def download_file(
    project_id: UUID, path: str, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> Download:
    """The content of a file, or one range of it; always an attachment."""
    await _admitted(edge, principal, project_id, Role.VIEWER)
    opened = await edge.files.open(principal.tenant_id, project_id, paths.parse(path))
    return Download(opened, request.headers.get("range"), request.headers.get("if-range"))


@router.put("/{path:path}")
async def upload_file(
    project_id: UUID, path: str, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> FileAnswer:
    """Make a file, or give it a new content: the raw body (editor)."""
    limits = await _admitted(edge, principal, project_id, Role.EDITOR)
    names = paths.parse(path)
    tenant_id, most = principal.tenant_id, limits.file_bytes
    announced = _announced(request)
    # What cannot be kept is not taken either.
    await edge.files.check_room(tenant_id, project_id, names, announced or 0, limits)
    async with edge.uploads.passed(principal.user_id), edge.files.receiving() as received:
        await _take(request, received, most)
        if announced is not None and received.size != announced:
            raise Invalid("The body is shorter than announced. Send it again.")
        also = _on_record(principal, request, project_id, "file.write", names)
        entry = await edge.files.keep(received, tenant_id, project_id, names, also=also)
    return FileAnswer.of(entry)


@router.delete("/{path:path}", status_code=204)
async def delete_file(
    project_id: UUID, path: str, principal: CurrentPrincipal, request: Request, edge: CurrentEdge
) -> None:
    """Delete a file, and the folders that are empty without it (editor)."""
    await _admitted(edge, principal, project_id, Role.EDITOR)
    names = paths.parse(path)
    also = _on_record(principal, request, project_id, "file.delete", names)
    await edge.files.delete(principal.tenant_id, project_id, names, also=also)


def _announced(request: Request) -> int | None:
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise Invalid("Content-Length is no number of bytes.")
    return int(value)


async def _take(request: Request, received: Receiver, most: int) -> None:
    stream = request.stream()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    piece = await anext(stream, None)
                if piece is None:
                    return
                if received.size + len(piece) > most:
                    raise TooLarge(f"A file has at most {amount(most)}.")
                await received.write(piece)
    except TimeoutError as error:
        raise Invalid("The upload stood still, or took too long. Send it again.") from error
    except ClientDisconnect as error:
        raise Invalid("The connection ended before the file did. Send it again.") from error
