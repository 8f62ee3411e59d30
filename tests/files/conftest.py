"""Two tenants' projects with real folders, over a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command

from embedded import postgres
from embedded.postgres import Postgres
from migrations.__main__ import alembic_config, role_of
from store.database import Database
from store.files.project_files import ProjectFiles
from tests.files.desk import Desk
from tests.system import sqlalchemy_url


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    async with postgres.running(tmp_path_factory.mktemp("files-postgres")) as server:
        config = alembic_config(
            sqlalchemy_url(server.owner_dsn), role_of(sqlalchemy_url(server.app_dsn))
        )
        await asyncio.to_thread(command.upgrade, config, "head")
        yield server


@pytest.fixture(scope="session")
async def database(server: Postgres) -> AsyncIterator[Database]:
    opened = Database(sqlalchemy_url(server.app_dsn), pool_size=5, application_name="tests")
    yield opened
    await opened.close()


@pytest.fixture
async def files(database: Database, tmp_path: Path) -> AsyncIterator[ProjectFiles]:
    made = ProjectFiles(database, tmp_path / "files")
    yield made
    made.close()


@pytest.fixture
async def desk(database: Database, files: ProjectFiles, tmp_path: Path) -> Desk:
    """A project nobody else uses."""
    return await Desk.of(database, files, tmp_path / "files")


@pytest.fixture
async def other(database: Database, files: ProjectFiles, tmp_path: Path) -> Desk:
    """A project of another tenant."""
    return await Desk.of(database, files, tmp_path / "files")
