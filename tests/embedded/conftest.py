from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.embedded.command import EmbeddedCommand


@pytest.fixture(scope="session")
def archives(request: pytest.FixtureRequest) -> Path:
    """Kept between test runs, so that the demo data is downloaded once."""
    return Path(request.config.cache.mkdir("demo-data"))  # type: ignore[union-attr, unused-ignore]


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, archives: Path
) -> AsyncIterator[EmbeddedCommand]:
    """The whole system, started once for the tests of a module."""
    folder = tmp_path_factory.mktemp("stack")
    async with EmbeddedCommand(folder / "data", archives) as command:
        yield command
