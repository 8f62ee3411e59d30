"""A service is a child that should always run: when it ends, it is started again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from embedded.errors import CannotStart
from embedded.processes import Child, ChildEnded

FIRST_PAUSE = timedelta(milliseconds=50)
LONGEST_PAUSE = timedelta(seconds=10)
SETTLED_AFTER = timedelta(seconds=30)
"""A service that ran this long before it ended is not in a crash loop."""


class Service:
    """Keeps one child running."""

    def __init__(
        self, name: str, start: Callable[[], Awaitable[Child]], say: Callable[[str], None]
    ) -> None:
        self.name = name
        self._start = start
        self._say = say
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def child(self) -> Child:
        """The child that runs now."""
        if self._child is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._child

    async def start(self) -> None:
        """Start it the first time; its failure is the caller's to report.

        Raises:
            ChildEnded: it did not come up.
        """
        self._child = await self._start()

    def keep(self) -> None:
        """From now on, start it again whenever it ends."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it for good; at once when ``hurry`` is set."""
        if self._keeper:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._child:
            await self._child.stop(hurry)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        started = loop.time()
        while True:
            await self.child.wait()
            if loop.time() - started > SETTLED_AFTER.total_seconds():
                pause = FIRST_PAUSE
            self._say(f"{self.name} {self.child.how}; starting it again")
            while True:
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 2, LONGEST_PAUSE)
                started = loop.time()
                try:
                    self._child = await self._start()
                # OSError: no process or file can be made at the moment; the next try may.
                except (ChildEnded, CannotStart, OSError) as error:
                    self._say(f"{self.name}: {error}")
                    continue
                break
