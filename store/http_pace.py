"""How often a tenant's tools ask one host: a bound over all workers, exact to the request."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from store.limits import TenantLimits
from store.tables import Tenant

WITHIN_SECONDS = 60

# The row's lock makes callers take turns; no row comes back for one too many.
_ADMIT = text(
    """
    INSERT INTO http_pace AS p (tenant_id, host, asked_at)
    VALUES (:tenant, :host, ARRAY[clock_timestamp()])
    ON CONFLICT (tenant_id, host) DO UPDATE SET asked_at = array_append(
        ARRAY(SELECT a FROM unnest(p.asked_at) AS a
              WHERE a > clock_timestamp() - make_interval(secs => :within)),
        clock_timestamp())
    WHERE (SELECT count(*) FROM unnest(p.asked_at) AS a
           WHERE a > clock_timestamp() - make_interval(secs => :within)) < :most
    RETURNING 1
    """
)
_FORGET = text(
    """
    DELETE FROM http_pace WHERE (tenant_id, host) IN (
        SELECT tenant_id, host FROM http_pace
        WHERE tenant_id = :tenant AND host <> :host
          AND asked_at[cardinality(asked_at)] < clock_timestamp() - make_interval(secs => :within)
        LIMIT 10 FOR UPDATE SKIP LOCKED)
    """
)


async def admit(session: AsyncSession, tenant_id: UUID, host: str) -> int:
    """Count one request to a host, if the tenant has one left within this minute.

    Returns:
        0 if it may be sent, else how many a minute may be.
    """
    tenant = await session.get_one(Tenant, tenant_id)
    most = TenantLimits.of(tenant.limits).http_requests_per_minute
    values = {"tenant": tenant_id, "host": host, "within": WITHIN_SECONDS}
    await session.execute(_FORGET, values)
    admitted = await session.scalar(_ADMIT, values | {"most": most})
    return 0 if admitted else most
