"""A real PostgreSQL with our schema, a model server on a real socket, and the activity between."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from alembic import command

from embedded import postgres
from migrations.__main__ import alembic_config, role_of
from store.database import Database
from tests.activities.office import Office
from tests.model_server import ModelServer
from tests.system import sqlalchemy_url


@pytest.fixture(scope="session")
async def database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    async with postgres.running(tmp_path_factory.mktemp("activities")) as server:
        app = sqlalchemy_url(server.app_dsn)
        config = alembic_config(sqlalchemy_url(server.owner_dsn), role_of(app))
        # In a thread, because migrations run a loop of their own.
        await asyncio.to_thread(command.upgrade, config, "head")
        opened = Database(app, application_name="tests")
        yield opened
        await opened.close()


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer().running() as running:
        yield running


@pytest.fixture
async def office(database: Database, server: ModelServer) -> AsyncIterator[Office]:
    """A tenant nobody else uses, and the activity that answers its people."""
    async with Office.opened(database, server) as office:
        yield office
