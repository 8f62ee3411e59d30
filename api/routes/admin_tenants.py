"""The tenant's own row, and the installation's tenants; part of `admin`."""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.audited import AuditedRoute
from api.auth import InstallationAdmin, TenantAdmin, address_of
from api.bodies import Body, Email, Items, Name, NewPassword, storable
from api.routes.admin_people import invite_url
from api.state import CurrentEdge, Edge
from store import audit, people, tenants
from store.audit import Actor
from store.errors import Forbidden, Invalid
from store.limits import TenantLimits
from store.net import AddressRefused, HostNotFound, check_host
from store.principal import Principal
from store.settings import Settings
from store.tables import Tenant

router = APIRouter(route_class=AuditedRoute)

# Of a shorter key, four characters would be too much of it.
MIN_HINTED_KEY_CHARS = 12


def _domain(value: str) -> str:
    value = value.strip().lower().rstrip(".")
    if len(value) > tenants.MAX_DOMAIN_CHARS or not tenants.DOMAIN.fullmatch(value):
        raise ValueError("is not a host name")
    return value


def _slug(value: str) -> str:
    if not tenants.SLUG.fullmatch(value):
        raise ValueError("has lower-case letters, digits and hyphens, 1 to 63 of them")
    return value


def _url(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("is not a URL")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        raise ValueError("is not a URL") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("is not an http or https URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("has a sign-in, a query or a fragment; the key belongs in ai_api_key")
    return value.rstrip("/")


def _key(value: str) -> str:
    value = storable(value).strip()
    # It becomes a header.
    if not value.isascii() or not value.isprintable():
        raise ValueError("has characters that no key has")
    return value


Domains = Annotated[
    list[Annotated[str, Field(max_length=255), AfterValidator(_domain)]],
    Field(max_length=tenants.MAX_DOMAINS),
]


class TenantAnswer(BaseModel):
    """The tenant; of `ai_api_key` the last four characters are shown."""

    id: UUID
    name: str
    slug: str
    domains: list[str]
    ai_api_url: str | None
    ai_api_key: str | None
    ai_api_model: str | None
    ai_api_kind: str
    limits: TenantLimits
    created_at: datetime


class TenantChange(Body):
    """What to change; null clears, of `limits` the fields that are sent change."""

    name: Name | None = None
    domains: Domains | None = None
    ai_api_url: Annotated[str, Field(max_length=2048), AfterValidator(_url)] | None = None
    ai_api_key: Annotated[str, Field(max_length=1024), AfterValidator(_key)] | None = None
    ai_api_model: Name | None = None
    ai_api_kind: Literal["chat_completions", "responses"] | None = None
    limits: TenantLimits | None = None


class FirstAdmin(Body):
    """The new tenant's first administrator."""

    email: Email
    name: Name
    password: NewPassword | None = None


class NewTenant(Body):
    """A tenant to be made."""

    name: Name
    slug: Annotated[str, AfterValidator(_slug)]
    domains: Domains = Field(default_factory=list)
    admin: FirstAdmin


class ListedTenant(BaseModel):
    """A tenant as the installation's administrators see it."""

    id: UUID
    name: str
    slug: str
    domains: list[str]
    created_at: datetime


class CreatedTenant(ListedTenant):
    """A tenant that was just made; `invite_url` is its administrator's, if he has no password."""

    admin_id: UUID
    invite_url: str | None


async def _answer(session: AsyncSession, row: Tenant) -> TenantAnswer:
    return TenantAnswer(
        id=row.id, name=row.name, slug=row.slug,
        domains=list(await tenants.domains_of(session)),
        ai_api_url=row.ai_api_url,
        ai_api_key=f"…{row.ai_api_key_hint or ''}" if row.ai_api_key is not None else None,
        ai_api_model=row.ai_api_model, ai_api_kind=row.ai_api_kind,
        limits=TenantLimits.of(row.limits), created_at=row.created_at,
    )  # fmt: skip


async def _check_reachable(url: str, settings: Settings) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        await check_host(parts.hostname or "", port, settings.private_hosts)
    except AddressRefused as exc:
        raise Invalid(str(exc), code="refused") from exc
    except HostNotFound:
        return  # the name service may be away; whoever connects checks again


def _check_domains(domains: list[str], known: set[str], edge: Edge, principal: Principal) -> None:
    # Everybody comes to these hosts: a tenant that took one would take the others' sign-ins.
    shared = {urlsplit(origin).hostname for origin in edge.settings.origins}
    if not principal.installation_admin and shared & (set(domains) - known):
        raise Forbidden("This installation's own host is given by its administrators.")


@router.get("/tenant")
async def get_tenant(principal: TenantAdmin, edge: CurrentEdge) -> TenantAnswer:
    """One's own tenant."""
    async with edge.database.tenant_session(principal.tenant_id) as session:
        return await _answer(session, await tenants.get(session))


@router.patch("/tenant")
async def change_tenant(
    body: TenantChange, principal: TenantAdmin, request: Request, edge: CurrentEdge
) -> TenantAnswer:
    """Change one's own tenant. A stored key does not follow to another host."""
    sent = body.model_fields_set
    if body.ai_api_url is not None:
        await _check_reachable(body.ai_api_url, edge.settings)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        row = await tenants.get(session, lock=True)
        row.name = body.name or row.name
        row.ai_api_kind = body.ai_api_kind or row.ai_api_kind
        if "ai_api_model" in sent:
            row.ai_api_model = body.ai_api_model
        if "ai_api_url" in sent:
            if _host(row.ai_api_url) != _host(body.ai_api_url):
                row.ai_api_key = row.ai_api_key_hint = None
            row.ai_api_url = body.ai_api_url
        if "ai_api_key" in sent:
            key = body.ai_api_key or ""
            row.ai_api_key = edge.keys.encrypt(key, row.id) if key else None
            row.ai_api_key_hint = key[-4:] if len(key) >= MIN_HINTED_KEY_CHARS else None
        if body.limits is not None:
            row.limits = {**row.limits, **body.limits.model_dump(exclude_unset=True)}
        if body.domains is not None:
            known = set(await tenants.domains_of(session))
            _check_domains(body.domains, known, edge, principal)
            await tenants.set_domains(session, row.id, body.domains)
        await audit.record(
            session, principal.tenant_id, Actor.of(principal, address_of(request)),
            "tenant.update", "tenant", row.id, reason=" ".join(sorted(sent)),
        )  # fmt: skip
        return await _answer(session, row)


def _host(url: str | None) -> tuple[str, str | None, int | None] | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port)


@router.get("/tenants")
async def list_tenants(_principal: InstallationAdmin, edge: CurrentEdge) -> Items[ListedTenant]:
    """All tenants of the installation, oldest first."""
    async with edge.database.session() as session:
        found = await tenants.everyone(session)
    return Items(
        items=[
            ListedTenant(
                id=row.id, name=row.name, slug=row.slug, domains=row.domains,
                created_at=row.created_at,
            )
            for row in found
        ]
    )  # fmt: skip


@router.post("/tenants", status_code=201)
async def create_tenant(
    body: NewTenant, principal: InstallationAdmin, request: Request, edge: CurrentEdge
) -> CreatedTenant:
    """Make a tenant with its domains and first administrator."""
    tenant_id, actor = uuid4(), Actor.of(principal, address_of(request))
    password = body.admin.password
    hashed = await edge.passwords.hash(password) if password else None
    async with edge.database.tenant_session(tenant_id) as session:
        row = await tenants.add(session, tenant_id, body.name, body.slug, body.domains)
        admin = await people.add(
            session, tenant_id, body.admin.email, body.admin.name, "admin", password_hash=hashed
        )
        domains = await tenants.domains_of(session)
        await audit.record(session, tenant_id, actor, "tenant.create", "tenant", tenant_id)
    async with edge.database.tenant_session(principal.tenant_id) as session:
        await audit.record(
            session, principal.tenant_id, actor, "tenant.create", "tenant", tenant_id
        )
    return CreatedTenant(
        id=row.id, name=row.name, slug=row.slug, domains=list(domains), created_at=row.created_at,
        admin_id=admin.id, invite_url=None if hashed else invite_url(edge, admin),
    )  # fmt: skip
