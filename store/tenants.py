"""Tenants: found by slug, added with their domains and first administrator, changed.

`add` runs in the new tenant's own transaction (``tenant_session(new_id)``): row-level security
allows no other to write the row.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store.errors import Conflict, NotFound
from store.tables import Tenant, TenantDomain

MAX_DOMAINS = 50
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = r"[a-z0-9_\u00a1-\uffef](?:[a-z0-9_\u00a1-\uffef-]{0,61}[a-z0-9_\u00a1-\uffef])?"
DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
MAX_DOMAIN_CHARS = 253

_ALL = text("SELECT id, name, slug, domains, created_at FROM all_tenants()")


@dataclass(frozen=True, slots=True)
class Listed:
    """A tenant as the installation's administrators see it."""

    id: UUID
    name: str
    slug: str
    domains: list[str]
    created_at: datetime


async def everyone(session: AsyncSession) -> list[Listed]:
    """All tenants, oldest first; works without a tenant set."""
    rows = await session.execute(_ALL)
    return [Listed(row.id, row.name, row.slug, row.domains, row.created_at) for row in rows]


async def find(session: AsyncSession) -> Tenant | None:
    """The transaction's own tenant, if it exists."""
    return await session.scalar(select(Tenant))


async def get(session: AsyncSession, *, lock: bool = False) -> Tenant:
    """The transaction's own tenant.

    Raises:
        NotFound: It is gone.
    """
    query = select(Tenant)
    if lock:
        query = query.with_for_update(key_share=True)
    row = await session.scalar(query)
    if row is None:
        raise NotFound
    return row


async def domains_of(session: AsyncSession) -> Sequence[str]:
    """Domains of the transaction's tenant, in alphabetical order."""
    return (await session.scalars(select(TenantDomain.domain).order_by(TenantDomain.domain))).all()


async def add(
    session: AsyncSession, tenant_id: UUID, name: str, slug: str, domains: Iterable[str]
) -> Tenant:
    """A new tenant.

    Raises:
        Conflict: The slug or a domain is taken.
    """
    added = await session.scalar(
        insert(Tenant)
        .values(id=tenant_id, name=name, slug=slug)
        .on_conflict_do_nothing()
        .returning(Tenant.id)
    )
    if added is None:
        raise Conflict("Another tenant has this slug.")
    await _add_domains(session, tenant_id, domains)
    return await session.get_one(Tenant, tenant_id)


async def set_domains(session: AsyncSession, tenant_id: UUID, domains: Iterable[str]) -> None:
    """Replace the tenant's domains.

    Raises:
        Conflict: One of them is another tenant's.
    """
    wanted = set(domains)
    known = set(await domains_of(session))
    await session.execute(delete(TenantDomain).where(TenantDomain.domain.in_(known - wanted)))
    await _add_domains(session, tenant_id, wanted - known)


async def _add_domains(session: AsyncSession, tenant_id: UUID, domains: Iterable[str]) -> None:
    # In one order everywhere, so that two of these never wait for each other.
    for domain in sorted(set(domains)):
        added = await session.scalar(
            insert(TenantDomain)
            .values(domain=domain, tenant_id=tenant_id)
            .on_conflict_do_nothing()
            .returning(TenantDomain.domain)
        )
        if added is None:
            raise Conflict(f"The domain {domain} leads to another tenant.")
