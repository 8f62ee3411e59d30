"""Who tells that a log has grown: the transaction itself, or whoever committed it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from embedded.postgres import Postgres
from store import people, projects, rooms, tenants
from store.bus import room_channel
from store.database import Database
from tests.system import sqlalchemy_url
from workflows.events import ConversationDeleted, RoomEvent

EVENT: RoomEvent = ConversationDeleted(conversation={"id": str(uuid4())})


@pytest.fixture
async def place(database: Database) -> tuple[UUID, UUID]:
    """A tenant and a project of it."""
    tenant_id, domain = uuid4(), f"t{uuid4().hex[:10]}.test"
    async with database.tenant_session(tenant_id) as session:
        await tenants.add(session, tenant_id, domain, domain.split(".")[0], [domain])
        user = await people.add(session, tenant_id, f"ada@{domain}", "Ada", "member")
        project = await projects.add(session, tenant_id, user.id, "Shop")
    return tenant_id, project.id


class Ear:
    """What NOTIFY says of a project."""

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection
        self._heard: list[str] = []
        self._now = asyncio.Event()

    async def listen(self, channel: str) -> None:
        await self._connection.add_listener(channel, lambda *said: self._heard.append(str(said[3])))
        await self._connection.add_listener("now", lambda *_: self._now.set())

    async def heard(self) -> list[str]:
        """All until now: notices come in the order of their commits."""
        await self._connection.execute("NOTIFY now")
        await self._now.wait()
        return self._heard


@pytest.fixture
async def ear(server: Postgres, place: tuple[UUID, UUID]) -> AsyncIterator[Ear]:
    connection = await asyncpg.connect(server.app_dsn)
    ear = Ear(connection)
    await ear.listen(room_channel(place[1]))
    yield ear
    await connection.close()


async def fail(database: Database, tenant_id: UUID, project_id: UUID) -> None:
    async with database.tenant_session(tenant_id) as session:
        await rooms.append(session, project_id, [EVENT])
        raise ZeroDivisionError


async def test_over_postgresql_the_transaction_tells(
    database: Database, place: tuple[UUID, UUID], ear: Ear
) -> None:
    tenant_id, project_id = place
    async with database.tenant_session(tenant_id) as session:
        head = await rooms.append(session, project_id, [EVENT, EVENT])
    with pytest.raises(ZeroDivisionError):
        await fail(database, tenant_id, project_id)
    assert await ear.heard() == [f"S{head}"]


async def test_over_another_bus_whoever_has_committed_tells(
    server: Postgres, place: tuple[UUID, UUID], ear: Ear
) -> None:
    tenant_id, project_id = place
    told: list[tuple[str, str]] = []
    database = Database(
        sqlalchemy_url(server.app_dsn),
        pool_size=2,
        application_name="test",
        announce=lambda channel, payload: told.append((channel, payload)),
    )
    async with database.tenant_session(tenant_id) as session:
        head = await rooms.append(session, project_id, [EVENT, EVENT])
        assert told == [], "nobody can read it yet"
    assert told == [(room_channel(project_id), f"S{head}")]
    with pytest.raises(ZeroDivisionError):
        await fail(database, tenant_id, project_id)
    async with database.session():
        pass
    assert len(told) == 1
    await database.close()
    assert await ear.heard() == []
