"""Heartbeats of a running activity.

Temporal answers a heartbeat with "cancelled" when the turn was stopped, so their interval is also
how fast a stop arrives. The worker's throttle must not be longer (`worker.main`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity

HEARTBEAT_INTERVAL = timedelta(milliseconds=500)


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Heartbeat while the block runs."""
    task = asyncio.create_task(_beat(), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_INTERVAL.total_seconds())
