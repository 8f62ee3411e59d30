"""Fixtures of every test: the real system, started once."""

from collections.abc import AsyncIterator

import pytest

from tests.system import System, Team, running


@pytest.fixture(scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Two edges, one worker, PostgreSQL, Temporal and a model server, in processes of their own."""
    async with running(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture(scope="session")
async def nats_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The same over the other bus."""
    async with running(tmp_path_factory.mktemp("nats"), bus="nats") as system:
        yield system


@pytest.fixture
async def team(system: System) -> Team:
    """A tenant nobody else uses."""
    return await system.team()
