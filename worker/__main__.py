"""``python -m worker [--queues turns,model,…]``: serves task queues until it is told to stop.

``python -m worker promote`` makes the version ``EVERTURN_BUILD_ID`` current once its workers poll.
"""

import argparse
import asyncio
import os
import signal
import sys
from datetime import timedelta

import uvloop
from temporalio.service import RPCError

from activities.tools.plugins import BrokenPlugin
from store.mcp.operator import ConfigurationError
from store.secrets import SecretError
from store.settings import Settings
from store.telemetry import configure_logging
from store.temporal import connect
from worker.deployment import PROMOTE_WITHIN, NotPromoted, promote
from worker.main import ALL_QUEUES, run
from workflows.types import Queue


def _queues(text: str) -> list[Queue]:
    try:
        return [Queue(name.strip()) for name in text.split(",") if name.strip()]
    except ValueError:
        known = ", ".join(ALL_QUEUES)
        raise argparse.ArgumentTypeError(f"{text!r}: queues are {known}") from None


async def _serve(settings: Settings, queues: list[Queue]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    await run(settings, queues, stop)


async def _promote(settings: Settings, within: timedelta) -> None:
    if not settings.build_id:
        raise NotPromoted("EVERTURN_BUILD_ID is empty: it names the version to promote")
    try:
        client = await connect(settings)
    except (RPCError, RuntimeError) as exc:
        raise NotPromoted(f"no Temporal at {settings.temporal_address}") from exc
    await promote(client, settings.build_id, within)


def main() -> int:
    """Run the worker; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker")
    parser.add_argument("--queues", type=_queues, default=list(ALL_QUEUES), metavar="A,B,…")
    commands = parser.add_subparsers(dest="command")
    promoting = commands.add_parser(
        "promote", help="make the version EVERTURN_BUILD_ID current as soon as its workers poll"
    )
    promoting.add_argument(
        "--within", type=float, default=PROMOTE_WITHIN.total_seconds(), metavar="SECONDS"
    )
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if arguments.command == "promote":
                runner.run(_promote(settings, timedelta(seconds=arguments.within)))
            else:
                runner.run(_serve(settings, arguments.queues))
    except NotPromoted as exc:
        print(f"worker: {exc}", file=sys.stderr)  # noqa: T201 -- for the person at the terminal
        return 1
    except (SecretError, BrokenPlugin, ConfigurationError) as exc:
        print(f"worker: {exc}", file=sys.stderr)  # noqa: T201 -- for the person at the terminal
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The Temporal SDK's core can crash the interpreter while it is torn down.
    os._exit(code)
