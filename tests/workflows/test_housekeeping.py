"""A sweep says what it did, and one that fails is left for the next."""

from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError

from tests.workflows.world import World
from workflows.housekeeping import INTERVAL, Housekeeping
from workflows.policies import SWEEP_TIMEOUT
from workflows.types import Queue, SweepResult


async def sweep(world: World) -> str:
    return await world.client.execute_workflow(
        Housekeeping.run, id=f"housekeeping-{uuid4()}", task_queue=Queue.TURNS
    )


async def test_a_sweep_says_what_it_did(world: World) -> None:
    world.sweep.result = SweepResult(started=1, settled=2, cancelled=3, pruned=4)
    assert await sweep(world) == "started 1, settled 2, cancelled 3, pruned 4"
    assert world.sweep.sweeps == 1


async def test_a_sweep_that_fails_is_not_repeated(world: World) -> None:
    """The schedule's next run is its retry."""
    world.sweep.result = RuntimeError("the database is away")
    with pytest.raises(WorkflowFailureError):
        await sweep(world)
    assert world.sweep.sweeps == 1
    world.sweep.result = SweepResult()
    assert await sweep(world) == "started 0, settled 0, cancelled 0, pruned 0"


def test_a_sweep_that_hangs_does_not_hold_up_the_schedule_for_long() -> None:
    assert SWEEP_TIMEOUT < 10 * INTERVAL
