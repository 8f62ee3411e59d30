"""``python -m worker [--queues turns,model,…]``: serves task queues until it is told to stop."""

import argparse
import asyncio
import os
import signal
import sys

import uvloop

from store.secrets import SecretError
from store.settings import Settings
from store.telemetry import configure_logging
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


def main() -> int:
    """Run the worker; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker")
    parser.add_argument("--queues", type=_queues, default=list(ALL_QUEUES), metavar="A,B,…")
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, arguments.queues))
    except SecretError as exc:
        print(f"worker: {exc}", file=sys.stderr)  # noqa: T201 -- for the person at the terminal
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The Temporal SDK's core can crash the interpreter while it is torn down.
    os._exit(code)
