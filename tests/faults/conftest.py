"""A system of their own for tests that break it: what crashes must not take others along."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene
from tests.system import running


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Two edges and one worker over servers that keep what they have confirmed."""
    folder: Path = tmp_path_factory.mktemp("faults")
    async with running(folder, workers=0, durable=True) as system:
        team = await system.team()
        scene = Scene(system, team, folder / "sink")
        scene.sink.touch()
        await scene.allow("pay")
        await scene.hire()
        yield scene


@pytest.fixture(autouse=True)
async def quiet_end(scene: Scene) -> AsyncIterator[None]:
    """After every fault: everything runs again, and nothing has been lost or doubled."""
    await scene.fresh_project()
    yield
    await scene.heal()
    await scene.reconcile()
