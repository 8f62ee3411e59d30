"""What a person at the terminal sees: steps with their times, and the children's prefixed lines.

Lines are written by a thread of their own, so that a paused terminal pauses nobody's chat. While it
is paused, lines beyond the backlog are dropped; the files in ``DATA_DIR/log`` have them all.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

BACKLOG_LINES = 5_000
FLUSH_WITHIN = timedelta(seconds=2)
NAME_WIDTH = 8
COLOURS = {"edge": 36, "worker": 35, "model": 33, "page": 32, "temporal": 34, "postgres": 34}


class Console:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(BACKLOG_LINES)
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def say(self, line: str = "") -> None:
        """Print one line."""
        with suppress(queue.Full):
            self._lines.put_nowait(line)

    def voice(self, name: str) -> Callable[[str], None]:
        """A function that prints a child's lines under its name."""
        prefix = f"{name:<{NAME_WIDTH}}│"
        if self._coloured:
            prefix = f"\x1b[{COLOURS.get(name, 37)}m{prefix}\x1b[0m"
        return lambda line: self.say(f"{prefix} {line}")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Print what has been done, and how long it took, when the block ends well."""
        start = time.monotonic()
        yield
        self.say(f"  {self._bold('✓')} {what:<44} {time.monotonic() - start:6.2f} s")

    def close(self) -> None:
        """Write what is left."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=FLUSH_WITHIN.total_seconds())
        self._thread.join(FLUSH_WITHIN.total_seconds())

    def _bold(self, text: str) -> str:
        return f"\x1b[1;32m{text}\x1b[0m" if self._coloured else text

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                sys.stdout.write(line + "\n")
                if self._lines.empty():
                    sys.stdout.flush()
            except (OSError, ValueError):  # nobody reads any more; the stack runs on
                return
