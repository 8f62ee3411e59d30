"""Turnstiles: so much of one tenant's, or one person's, goes on at once; the rest waits here.

Waiting costs a task and nothing else, while a place in the database's pool is everybody's.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from store.errors import Unavailable


class Turnstile:
    """Lets `width` at once through for each key, in the order in which they came.

    Args:
        patience_seconds: How long one waits before it is refused.
    """

    def __init__(self, width: int, patience_seconds: float) -> None:
        self._width = width
        self._patience = patience_seconds
        self._gates: dict[Hashable, asyncio.Semaphore] = {}
        self._users: dict[Hashable, int] = {}

    @asynccontextmanager
    async def passed(self, key: Hashable) -> AsyncIterator[None]:
        """Hold one of the key's places within the block.

        Raises:
            Unavailable: None became free in time; nothing was done.
        """
        gate = self._gates.setdefault(key, asyncio.Semaphore(self._width))
        self._users[key] = self._users.get(key, 0) + 1
        try:
            try:
                async with asyncio.timeout(self._patience):
                    await gate.acquire()
            except TimeoutError:
                raise Unavailable(
                    "Too much is being asked for at once. Try again in a moment.",
                    retry_after=1,
                ) from None
            try:
                yield
            finally:
                gate.release()
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._gates[key]
