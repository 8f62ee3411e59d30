"""How often a tenant's tools may ask one host: N36, exact over any number of workers."""

import asyncio
from collections import Counter

from sqlalchemy import text, update

from store import http_pace
from store.database import Database
from store.tables import Tenant
from tests.store.test_schema import tenant


async def asked(database: Database, tenant_id, host: str, times: int) -> Counter[int]:
    async def once() -> int:
        async with database.tenant_session(tenant_id) as session:
            return await http_pace.admit(session, tenant_id, host)

    return Counter(await asyncio.gather(*(once() for _ in range(times))))


async def test_sixty_a_minute_for_each_tenant_and_host(database: Database) -> None:
    mine, theirs = await tenant(database, "mine"), await tenant(database, "theirs")
    assert await asked(database, mine, "api.test", 200) == {0: 60, 60: 140}
    assert await asked(database, theirs, "api.test", 20) == {0: 20}
    assert await asked(database, mine, "other.test", 20) == {0: 20}


async def test_what_is_older_than_a_minute_does_not_count(database: Database) -> None:
    mine = await tenant(database, "later")
    assert (await asked(database, mine, "api.test", 70))[0] == 60
    async with database.tenant_session(mine) as session:
        await session.execute(
            text(
                "UPDATE http_pace SET asked_at = ARRAY(SELECT a - interval '61 s'"
                " FROM unnest(asked_at) AS a ORDER BY a LIMIT 40)"
                " || ARRAY(SELECT a FROM unnest(asked_at) AS a ORDER BY a OFFSET 40)"
            )
        )
    assert (await asked(database, mine, "api.test", 70))[0] == 40
    # A host that is not asked any more is forgotten.
    async with database.tenant_session(mine) as session:
        await session.execute(
            text("UPDATE http_pace SET asked_at = ARRAY[now() - interval '2 min']")
        )
    await asked(database, mine, "other.test", 1)
    async with database.tenant_session(mine) as session:
        assert (await session.scalars(text("SELECT host FROM http_pace"))).all() == ["other.test"]


async def test_a_tenants_own_limit(database: Database) -> None:
    mine = await tenant(database, "own")
    async with database.tenant_session(mine) as session:
        await session.execute(update(Tenant).values(limits={"http_requests_per_minute": 3}))
    assert await asked(database, mine, "api.test", 9) == {0: 3, 3: 6}
