"""Results of reading tools that are given again for a while, to whoever may ask for them anew.

The database holds them, so that all workers share them. An entry's key is a hash of everything the
result depends on; a changed datasource has another version, so its old entries are never found,
and a deleted one takes them along. Authority is no part of it: it is checked before anybody looks.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from store.limits import TenantLimits
from store.tables import CachedResult, Tenant

MAX_CACHE_SECONDS = 24 * 3600
MAX_ENTRY_BYTES = 1024 * 1024

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('tool cache ' || :tenant_id, 0))")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the result of one call is kept, if it is.

    Attributes:
        keep_for: How old a result may be that is given again.
    """

    key: bytes
    tenant_id: UUID
    project_id: UUID
    datasource_id: UUID
    tool: str
    keep_for: timedelta


@dataclass(frozen=True, slots=True)
class Found:
    """A result and how many seconds ago it was found out."""

    result: Any
    age_seconds: int


async def find(session: AsyncSession, place: Place) -> Found | None:
    """The result that is kept there, unless it is too old by what its datasource says now."""
    age = func.extract("epoch", func.clock_timestamp() - CachedResult.created_at)
    row = (
        await session.execute(
            select(CachedResult.result, age.label("age")).where(
                CachedResult.tenant_id == place.tenant_id,
                CachedResult.key == place.key,
                CachedResult.expires_at > func.clock_timestamp(),
                age < place.keep_for.total_seconds(),
            )
        )
    ).one_or_none()
    return Found(row.result, int(row.age)) if row is not None else None


async def keep(session: AsyncSession, place: Place, result: Any, size: int) -> bool:
    """Keep a result; the tenant's oldest make room for it.

    Args:
        size: Bytes of the result as JSON.

    Returns:
        Whether it is kept: one that is too large is not, nor one of a datasource that is gone.
    """
    stored = await session.scalar(select(Tenant.limits).where(Tenant.id == place.tenant_id))
    most = TenantLimits.of(stored or {}).tool_cache_bytes
    if size > min(most, MAX_ENTRY_BYTES):
        return False
    await session.execute(_LOCK, {"tenant_id": str(place.tenant_id)})
    await session.execute(
        delete(CachedResult).where(
            CachedResult.tenant_id == place.tenant_id,
            (CachedResult.key == place.key) | (CachedResult.expires_at <= func.clock_timestamp()),
        )
    )
    newest_first = (
        select(
            CachedResult.key,
            func.sum(CachedResult.bytes)
            .over(order_by=(CachedResult.created_at.desc(), CachedResult.key))
            .label("total"),
        )
        .where(CachedResult.tenant_id == place.tenant_id)
        .subquery()
    )
    await session.execute(
        delete(CachedResult).where(
            CachedResult.tenant_id == place.tenant_id,
            CachedResult.key.in_(
                select(newest_first.c.key).where(newest_first.c.total > most - size)
            ),
        )
    )
    await session.execute(
        insert(CachedResult).values(
            tenant_id=place.tenant_id,
            key=place.key,
            project_id=place.project_id,
            datasource_id=place.datasource_id,
            tool=place.tool,
            result=result,
            bytes=size,
            expires_at=func.clock_timestamp() + place.keep_for,
        )
    )
    return True
