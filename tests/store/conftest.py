"""A database of its own for tests of the schema and the store."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from embedded import postgres
from embedded.postgres import Postgres
from migrations.__main__ import alembic_config
from store.database import Database
from tests.system import sqlalchemy_url


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    async with postgres.running(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="session")
async def database(server: Postgres) -> AsyncIterator[Database]:
    from alembic import command

    config = alembic_config(sqlalchemy_url(server.owner_dsn), "everturn_app")
    # Alembic runs a loop of its own.
    for step in (command.upgrade, command.downgrade, command.upgrade):
        await asyncio.to_thread(step, config, "base" if step is command.downgrade else "head")
    database = Database(sqlalchemy_url(server.app_dsn), pool_size=5, application_name="test")
    yield database
    await database.close()
