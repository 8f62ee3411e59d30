"""A tenant whose model says too much."""

import os
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client

from tests.limits.giant_model import GiantModel
from tests.system import System, Team, checked

# Sizes of a release: minutes instead of seconds.
FULL = os.environ.get("EVERTURN_LIMITS") == "full"


@pytest.fixture(scope="session")
async def giant() -> AsyncIterator[GiantModel]:
    model = GiantModel()
    async with model.running():
        yield model


@pytest.fixture(scope="session")
async def giants(system: System, giant: GiantModel) -> Team:
    team = await system.team(steps_per_turn=250)
    settings = {"ai_api_url": giant.url, "ai_api_key": "sk-giant", "ai_api_model": "giant"}
    checked(await team.admin.patch("/api/admin/tenant", json=settings))
    return team


@pytest.fixture(scope="session")
async def temporal(system: System) -> Client:
    return await Client.connect(system.temporal.address)
