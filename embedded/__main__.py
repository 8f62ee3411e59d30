"""``python -m embedded``: the whole system on this machine, in the foreground.

Exit codes: 0 stopped as asked, 1 something did not come up, 2 a setting stands in the way.
"""

import argparse
import asyncio
import os
import signal
import sys
import time

import asyncpg
from pydantic import ValidationError

from embedded.console import Console
from embedded.data_dir import SETTING, DataDir, locked
from embedded.errors import CannotStart
from embedded.greeting import greet
from embedded.launch import tie_to_parent
from embedded.processes import ChildEnded
from embedded.stack import Stack
from store.settings import Settings

AGAIN_AFTER = 0.3  # seconds
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wishes:
    """What signals asked for."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._since = 0.0
        loop = asyncio.get_running_loop()
        for each in STOP_SIGNALS:
            loop.add_signal_handler(each, self._hear, each)

    def _hear(self, which: signal.Signals) -> None:
        now = time.monotonic()
        # Programs send one wish as several signals at once: only people are impatient.
        if self.stop.is_set() and which is signal.SIGINT and now - self._since > AGAIN_AFTER:
            self.hurry.set()
        elif not self.stop.is_set():
            self._since = now
            self.stop.set()


async def run(settings: Settings, data: DataDir, console: Console) -> None:
    """Start the stack, keep it until a signal comes, stop it.

    Raises:
        CannotStart: a setting stands in the way.
        ChildEnded: something did not come up.
    """
    wishes = Wishes()
    stack = Stack(settings, data, console)
    stop = asyncio.create_task(wishes.stop.wait())
    up = asyncio.create_task(stack.up())
    try:
        await asyncio.wait((up, stop), return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            up.result()
            greet(stack.environment, console)
        await stop
        console.say("\nstopping; Ctrl-C again to stop at once")
    finally:
        up.cancel()
        await asyncio.wait((up,))
        if stack.runs:
            with console.step("stopped"):
                await stack.down(wishes.hurry)


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    parser.add_argument(
        "--with-parent", type=int, metavar="PID", help="stop when this parent process ends"
    )
    if parent := parser.parse_args().with_parent:
        tie_to_parent(parent, signal.SIGTERM)
    console = Console()
    try:
        settings = Settings()
        with locked(settings.data_dir) as data:
            asyncio.run(run(settings, data, console))
    except CannotStart as error:
        problem, code = str(error), 2
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem, code = f"EVERTURN_{str(first['loc'][0]).upper()}: {first['msg']}", 2
    except OSError as error:
        # A file of ours that cannot be used; anything else is the machine's trouble.
        where = f"{SETTING}: {error.filename}: " if error.filename else ""
        problem, code = f"{where}{error.strerror or error}", 2 if where else 1
    except (ChildEnded, asyncpg.PostgresError) as error:
        problem, code = str(error), 1
    else:
        problem, code = "", 0
    console.close()
    if problem:
        print(f"everturn: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
