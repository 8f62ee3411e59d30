"""Our own metrics of a worker, beside the SDK's on the same port (``METRICS_PORT``).

No label names a tenant, a project or a person.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.common import MetricMeter

from store.database import Database
from workflows.types import OPEN_TURN_STATUSES, Queue

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=10)


async def observe(client: Client, database: Database, queues: Sequence[Queue]) -> None:
    """Keep the gauges up to date, for ever.

    Every worker of the queue ``turns`` reads the open turns itself: gauges set by whoever happens
    to sweep would stay as they were when somebody else does it.
    """
    runtime = client.service_client.config.runtime
    if runtime is None or runtime.metric_meter is MetricMeter.noop:
        return
    meter = runtime.metric_meter
    in_use = meter.create_gauge("everturn_database_connections", "Database connections in use.")
    limit = meter.create_gauge(
        "everturn_database_connections_limit", "Most of them this process opens."
    )
    limit.set(database.pool_size)
    turns = OpenTurns(meter) if Queue.TURNS in queues else None
    while True:
        in_use.set(database.in_use)
        if turns is not None:
            try:
                await turns.read(database)
            except (SQLAlchemyError, OSError, TimeoutError) as exc:
                log.warning("open_turns_not_read", error=type(exc).__name__)
        await asyncio.sleep(EVERY.total_seconds())


class OpenTurns:
    """How many turns are open, and for how long the oldest has been.

    Args:
        meter: Exports them.
    """

    def __init__(self, meter: MetricMeter) -> None:
        self._count = meter.create_gauge("everturn_open_turns", "Open turns by status.")
        self._age = meter.create_gauge_float(
            "everturn_oldest_open_turn_age_seconds",
            "Age of the oldest open turn by status, by the database's clock; 0 without one.",
        )

    async def read(self, database: Database) -> None:
        """Take the figures from the database."""
        async with database.session() as session:
            rows = await session.execute(
                text("SELECT status, turns, oldest_seconds FROM open_turn_figures()")
            )
            seen = {str(status): (int(turns), float(age)) for status, turns, age in rows}
        for status in OPEN_TURN_STATUSES:
            turns, age = seen.get(status, (0, 0.0))
            self._count.set(turns, {"status": str(status)})
            self._age.set(age, {"status": str(status)})
