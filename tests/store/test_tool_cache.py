"""Kept results: bounded, pruned, and nobody else's."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update

from activities.tools.cache import _key
from activities.tools.describe_schema import DescribeSchema, DescribeSchemaArguments
from activities.tools.tool import ToolContext
from store import tool_cache
from store.database import Database
from store.tables import CachedResult, Datasource, Project, Tenant
from store.tool_cache import Place

HOUR = timedelta(hours=1)


@dataclass
class Owner:
    """A tenant with a project and a datasource."""

    database: Database
    tenant_id: UUID
    project_id: UUID
    datasource_id: UUID

    def place(self, key: bytes = b"k", keep_for: timedelta = HOUR) -> Place:
        return Place(
            key, self.tenant_id, self.project_id, self.datasource_id, "describe_schema", keep_for
        )

    async def keep(self, key: bytes, result: object, size: int) -> bool:
        async with self.database.tenant_session(self.tenant_id) as session:
            return await tool_cache.keep(session, self.place(key), result, size)

    async def find(self, key: bytes, keep_for: timedelta = HOUR) -> object:
        async with self.database.tenant_session(self.tenant_id) as session:
            found = await tool_cache.find(session, self.place(key, keep_for))
            return found.result if found else None

    async def total(self) -> int:
        async with self.database.tenant_session(self.tenant_id) as session:
            return int(await session.scalar(select(func.sum(CachedResult.bytes))) or 0)

    async def limit(self, count: int) -> None:
        async with self.database.tenant_session(self.tenant_id) as session:
            await session.execute(update(Tenant).values(limits={"tool_cache_bytes": count}))


@pytest.fixture
async def owner(database: Database) -> Owner:
    made = Owner(database, uuid4(), uuid4(), uuid4())
    async with database.tenant_session(made.tenant_id) as session:
        await session.execute(
            insert(Tenant).values(id=made.tenant_id, name="t", slug=made.tenant_id.hex)
        )
        await session.execute(
            insert(Project).values(id=made.project_id, tenant_id=made.tenant_id, name="p")
        )
        await session.execute(
            insert(Datasource).values(
                id=made.datasource_id, tenant_id=made.tenant_id, project_id=made.project_id,
                name="d", kind="sqlite", config={},
            )
        )  # fmt: skip
    return made


async def test_what_is_kept_is_found(owner: Owner) -> None:
    assert await owner.find(b"k") is None
    assert await owner.keep(b"k", {"rows": [1]}, 10)
    assert await owner.find(b"k") == {"rows": [1]}
    assert await owner.keep(b"k", {"rows": [2]}, 10)
    assert await owner.find(b"k") == {"rows": [2]}
    assert await owner.total() == 10
    assert await owner.find(b"k", timedelta(0)) is None


async def test_another_tenant_does_not_find_it_by_the_same_key(
    database: Database, owner: Owner
) -> None:
    await owner.keep(b"k", {"rows": [1]}, 10)
    async with database.tenant_session(uuid4()) as session:
        assert await tool_cache.find(session, owner.place()) is None
        assert await session.scalar(select(func.count()).select_from(CachedResult)) == 0


async def test_the_oldest_make_room(owner: Owner) -> None:
    await owner.limit(100)
    for number in range(12):
        assert await owner.keep(f"{number}".encode(), number, 30)
        assert await owner.total() <= 100
    assert [await owner.find(f"{n}".encode()) for n in (8, 9, 10, 11)] == [None, 9, 10, 11]
    assert not await owner.keep(b"large", 0, 101)
    assert await owner.keep(b"whole", 0, 100)
    assert await owner.total() == 100
    await owner.limit(0)
    assert not await owner.keep(b"none", 0, 1)


async def test_many_at_once_stay_within_the_bound(owner: Owner) -> None:
    await owner.limit(100)
    kept = await asyncio.gather(*(owner.keep(f"{n % 7}".encode(), n, 40) for n in range(30)))
    assert all(kept)
    assert await owner.total() == 80


async def test_what_has_expired_is_pruned_and_the_rest_is_not(
    database: Database, owner: Owner
) -> None:
    await owner.keep(b"old", 1, 10)
    await owner.keep(b"new", 2, 10)
    async with database.tenant_session(owner.tenant_id) as session:
        await session.execute(
            update(CachedResult)
            .where(CachedResult.key == b"old")
            .values(expires_at=func.now() - timedelta(seconds=1))
        )
    assert await owner.find(b"old") is None
    async with database.session() as session:
        assert await session.scalar(text("SELECT prune_tool_cache()")) >= 1
    assert await owner.total() == 10
    assert await owner.find(b"new") == 2


def test_a_key_is_made_of_everything_a_result_depends_on() -> None:
    tool = DescribeSchema.__new__(DescribeSchema)

    def key(version: int = 1, tenant: int = 1, project: int = 1, **arguments: str) -> bytes:
        context = ToolContext(
            UUID(int=tenant), UUID(int=project), uuid4(), 1, str(uuid4()), HOUR,
            None,  # type: ignore[arg-type]
        )  # fmt: skip
        asked = DescribeSchemaArguments(**{"datasource_id": "d", **arguments})
        return _key(tool, asked, context, version)

    # Who runs it, and which attempt it is, make no difference.
    assert key() == key()
    keys = [
        key(), key(version=2), key(tenant=2), key(project=2), key(table="t"), key(table="u"),
        key(datasource_id="e"), key(datasource_id="d", table=""),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
