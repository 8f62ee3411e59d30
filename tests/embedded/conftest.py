from collections.abc import AsyncIterator, Callable
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


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Callable[..., EmbeddedCommand]]:
    """Makes commands with a folder of their own; whatever becomes of the test, they end with it."""
    made: list[EmbeddedCommand] = []

    def make(data_dir: Path | None = None, **settings: str) -> EmbeddedCommand:
        made.append(EmbeddedCommand(data_dir or tmp_path / "data", settings=settings))
        return made[-1]

    yield make
    for each in made:
        await each.stop()
