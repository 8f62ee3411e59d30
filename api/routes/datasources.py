"""Datasources of a project. Secrets go in and never come out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, Field

from api.audited import AuditedRoute
from api.auth import CurrentPrincipal, address_of
from api.bodies import Body, Items, Name, storable
from api.state import CurrentEdge, Edge
from api.stored_secrets import opened, secret_for
from store import access, audit, datasources
from store.access import Role
from store.audit import Actor
from store.datasource.check import Surroundings, check_datasource, own_identity
from store.datasource.config import MAX_SECRET_CHARS
from store.datasource.role import RoleReport
from store.errors import Conflict, Refusal
from store.files.folder import project_folder
from store.principal import Principal
from store.tables import Datasource
from store.tool_cache import MAX_CACHE_SECONDS

router = APIRouter(
    prefix="/api/projects/{project_id}/datasources",
    tags=["datasources"],
    route_class=AuditedRoute,
)

HIDDEN = "…"

Secret = Annotated[str, Field(max_length=MAX_SECRET_CHARS), AfterValidator(storable)]
CacheSeconds = Annotated[int, Field(strict=True, ge=0, le=MAX_CACHE_SECONDS)]


class DatasourceAnswer(BaseModel):
    """A datasource. `has_secret` is all that is said of its secret.

    Attributes:
        writable: Its role could change data; the read-only transaction is all that prevents it.
        grants: Why `writable`.
        cache_seconds: How old a result may be that is given again; 0 for not at all.
    """

    id: UUID
    project_id: UUID
    name: str
    kind: str
    config: dict[str, Any]
    has_secret: bool
    writable: bool
    grants: list[str]
    cache_seconds: int
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Datasource, role: Role) -> "DatasourceAnswer":
        """Answer for a row; header values, which may be keys, are for owners."""
        config = dict(row.config)
        if role < Role.OWNER and config.get("headers"):
            config["headers"] = dict.fromkeys(config["headers"], HIDDEN)
        return cls(
            id=row.id, project_id=row.project_id, name=row.name, kind=row.kind, config=config,
            has_secret=row.secret is not None, writable=row.writable, grants=row.grants,
            cache_seconds=row.cache_seconds, version=row.version,
            created_at=row.created_at, updated_at=row.updated_at,
        )  # fmt: skip


class NewDatasource(Body):
    """A datasource to be made."""

    name: Name
    kind: Literal["postgresql", "mysql", "sqlite", "duckdb", "http"]
    config: dict[str, Any] = Field(max_length=50)
    secret: Secret | None = None
    cache_seconds: CacheSeconds = 0


class DatasourceChange(Body):
    """What to change; `config` is replaced as a whole, an empty `secret` is forgotten."""

    name: Name | None = None
    config: dict[str, Any] | None = Field(default=None, max_length=50)
    secret: Secret | None = None
    cache_seconds: CacheSeconds | None = None


class Problem(BaseModel):
    """Why a datasource cannot be used."""

    code: str
    message: str


class TestAnswer(BaseModel):
    """How a test went."""

    __test__ = False  # not one of pytest's

    ok: bool
    writable: bool | None = None
    grants: list[str] | None = None
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class _Target:
    """What is to be asked, read in one transaction and asked outside of it."""

    kind: str
    config: Mapping[str, Any]
    secret: str


async def _check(edge: Edge, principal: Principal, project_id: UUID, target: _Target) -> RoleReport:
    """Ask the datasource; seconds may pass, so no transaction is open meanwhile."""
    surroundings = Surroundings(
        private_hosts=edge.settings.private_hosts,
        project_folder=project_folder(edge.settings.files_root, principal.tenant_id, project_id),
        own=await own_identity(edge.settings.database_url.get_secret_value())
        if target.kind == "postgresql"
        else None,
    )
    return await check_datasource(target.kind, target.config, target.secret, surroundings)


@router.get("")
async def list_datasources(
    project_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> Items[DatasourceAnswer]:
    """The project's datasources, by name."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.VIEWER)
        rows = await datasources.of_project(session, project_id)
        return Items(items=[DatasourceAnswer.of(row, role) for row in rows])


@router.get("/{datasource_id}")
async def get_datasource(
    project_id: UUID, datasource_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> DatasourceAnswer:
    """One datasource."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.VIEWER)
        return DatasourceAnswer.of(await datasources.get(session, project_id, datasource_id), role)


@router.post("", status_code=201)
async def create_datasource(
    project_id: UUID,
    body: NewDatasource,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> DatasourceAnswer:
    """Add a datasource that answers and whose role is not too powerful (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
    config = datasources.checked_config(body.kind, body.config).model_dump()
    report = await _check(
        edge, principal, project_id, _Target(body.kind, config, body.secret or "")
    )
    secret = edge.keys.encrypt(body.secret, principal.tenant_id) if body.secret else None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        # Again: seconds have passed.
        role = await access.require(session, principal, project_id, Role.OWNER)
        row = await datasources.add(
            session, principal.tenant_id, project_id, body.name, body.kind, config, secret, report,
            body.cache_seconds,
        )  # fmt: skip
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "datasource.create", "datasource", row.id, project_id=project_id,
        )  # fmt: skip
        return DatasourceAnswer.of(row, role)


@router.patch("/{datasource_id}")
async def change_datasource(
    project_id: UUID,
    datasource_id: UUID,
    body: DatasourceChange,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> DatasourceAnswer:
    """Change a datasource (owner). A stored secret does not follow to another host."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        row = await datasources.get(session, project_id, datasource_id)
        version, kind, before = row.version, row.kind, row.config
    reconnects = body.config is not None or body.secret is not None
    report, config, secret = None, before, row.secret
    if reconnects:
        if body.config is not None:
            config = datasources.checked_config(kind, body.config).model_dump()
        moves = datasources.destination(kind, config) != datasources.destination(kind, before)
        plain = secret_for(edge.keys, row, body.secret, moves=moves)
        report = await _check(edge, principal, project_id, _Target(kind, config, plain))
        if body.secret is not None:
            secret = edge.keys.encrypt(plain, principal.tenant_id) if plain else None
    async with edge.database.tenant_session(principal.tenant_id) as session:
        role = await access.require(session, principal, project_id, Role.OWNER)
        row = await datasources.get(session, project_id, datasource_id, lock=True)
        if reconnects and row.version != version:
            raise Conflict("Somebody else changed this datasource meanwhile. Look at it again.")
        if body.name is not None:
            await datasources.rename(session, row, body.name)
        if body.cache_seconds is not None:
            row.cache_seconds = body.cache_seconds
        if report is not None:
            await datasources.reconnect(session, row, config, secret)
            datasources.note(row, report)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "datasource.update", "datasource", row.id,
            reason=" ".join(sorted(body.model_fields_set)), project_id=project_id,
        )  # fmt: skip
        return DatasourceAnswer.of(row, role)


@router.delete("/{datasource_id}", status_code=204)
async def delete_datasource(
    project_id: UUID,
    datasource_id: UUID,
    principal: CurrentPrincipal,
    request: Request,
    edge: CurrentEdge,
) -> None:
    """Delete a datasource (owner)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.OWNER)
        await datasources.drop(session, project_id, datasource_id)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "datasource.delete", "datasource", datasource_id, project_id=project_id,
        )  # fmt: skip


@router.post("/{datasource_id}/test")
async def run_test(
    project_id: UUID, datasource_id: UUID, principal: CurrentPrincipal, edge: CurrentEdge
) -> TestAnswer:
    """Connect and see what the role may do (editor)."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await access.require(session, principal, project_id, Role.EDITOR)
        row = await datasources.get(session, project_id, datasource_id)
    try:
        target = _Target(row.kind, row.config, opened(edge.keys, row))
        report = await _check(edge, principal, project_id, target)
    except Refusal as refusal:
        return TestAnswer(
            ok=False, error=Problem(code=refusal.specific_code, message=refusal.detail)
        )
    async with edge.database.tenant_session(principal.tenant_id) as session:
        now = await datasources.get(session, project_id, datasource_id, lock=True)
        if now.version == row.version:
            datasources.note(now, report)
    return TestAnswer(ok=True, writable=report.writable, grants=list(report.grants))
