"""Housekeeping: a Temporal Schedule runs one sweep every ten seconds."""

from datetime import timedelta

from temporalio import workflow

from workflows import policies
from workflows.interfaces import HousekeepingActivities
from workflows.types import Queue

SCHEDULE_ID = "housekeeping"
INTERVAL = timedelta(seconds=10)


@workflow.defn(name="Housekeeping")
class Housekeeping:
    """Settles orphans and prunes what has expired."""

    @workflow.run
    async def run(self) -> str:
        """One sweep; returns what it did in a few words."""
        swept = await workflow.execute_activity_method(
            HousekeepingActivities.sweep,
            task_queue=Queue.TURNS,
            start_to_close_timeout=policies.SWEEP_TIMEOUT,
            retry_policy=policies.SWEEP_RETRY,
            summary="sweep",
        )
        return (
            f"started {swept.started}, settled {swept.settled},"
            f" cancelled {swept.cancelled}, pruned {swept.pruned}"
        )
