"""A system whose tools have a worker of their own, so that it can hang while turns go on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedded.processes import Child
from tests.faults.scene import Scene
from tests.hands.people import CORE, TOOLS
from tests.system import running


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("hands")
    async with running(folder, workers=0, durable=True) as system:
        scene = Scene(system, await system.team(), folder / "sink")
        scene.sink.touch()
        await scene.allow("p*")
        await scene.hire(*CORE)
        yield scene


@pytest.fixture(autouse=True)
async def quiet_end(scene: Scene) -> AsyncIterator[None]:
    """After every test: the tools' worker is gone, and nothing has been lost or doubled."""
    await scene.fresh_project()
    yield
    await scene.heal()
    await scene.reconcile()


@pytest.fixture
async def tools(scene: Scene, quiet_end: None) -> Child:
    """The tools' own worker."""
    return await scene.hire(TOOLS)
