"""``python -m tests.faults.worker [QUEUE…]``: a worker whose tools' effects are counted outside.

Each effect is one line, forced to disk, in the file named by ``EVERTURN_TEST_SINK``.
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop
from typing_extensions import override

from activities.tools.tool import Arguments, Tool, ToolContext
from store.settings import Settings
from store.telemetry import configure_logging
from worker.main import ALL_QUEUES, run
from workflows.types import Effect, Queue


class Errand(Arguments):
    """What to write, and how long it takes after that."""

    key: str
    seconds: float


class Sink(Tool[Errand]):
    """Writes a line, then takes its time; a second attempt is quick."""

    arguments = Errand
    queue = Queue.TOOLS_FILES
    deadline = timedelta(seconds=60)

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    async def run(self, arguments: Errand, context: ToolContext) -> dict[str, Any]:
        with self._path.open("a") as sink:
            sink.write(f"{self.name} {arguments.key} {context.attempt}\n")
            sink.flush()
            os.fsync(sink.fileno())
        if context.attempt == 1:
            await asyncio.sleep(arguments.seconds)
        return {"key": arguments.key, "attempt": context.attempt}


class Look(Sink):
    name = "look"
    description = "Looks at something."
    effect = Effect.READ


class Glance(Look):
    name = "glance"


class Pay(Sink):
    name = "pay"
    description = "Does something that must not happen twice."
    effect = Effect.ONCE


class Post(Sink):
    name = "post"
    description = "Does something that people may let happen twice."
    effect = Effect.ONCE


TOOLS = (Look, Glance, Pay, Post)


async def serve() -> None:
    settings = Settings()
    configure_logging(settings.log_level)
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    path = Path(os.environ["EVERTURN_TEST_SINK"])
    queues = [Queue(name) for name in sys.argv[1:]] or ALL_QUEUES
    await run(settings, queues, stop, extra_tools=[kind(path) for kind in TOOLS])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
    sys.stdout.flush()
    os._exit(0)
