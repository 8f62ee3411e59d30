"""A turnstile per tenant: so many of its messages are being stored at once, the rest wait here.

Waiting costs a task and nothing else, while a place in the database's pool is everybody's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from store.errors import Unavailable


class Turnstile:
    """Lets `width` at once through for each tenant, in the order in which they came.

    Args:
        patience_seconds: How long one waits before it is refused.
    """

    def __init__(self, width: int, patience_seconds: float) -> None:
        self._width = width
        self._patience = patience_seconds
        self._gates: dict[UUID, asyncio.Semaphore] = {}
        self._users: dict[UUID, int] = {}

    @asynccontextmanager
    async def passed(self, tenant_id: UUID) -> AsyncIterator[None]:
        """Hold one of the tenant's places within the block.

        Raises:
            Unavailable: None became free in time; nothing was done.
        """
        gate = self._gates.setdefault(tenant_id, asyncio.Semaphore(self._width))
        self._users[tenant_id] = self._users.get(tenant_id, 0) + 1
        try:
            try:
                async with asyncio.timeout(self._patience):
                    await gate.acquire()
            except TimeoutError:
                raise Unavailable(
                    "Too many messages are being sent at once. Send this one again in a moment.",
                    retry_after=1,
                ) from None
            try:
                yield
            finally:
                gate.release()
        finally:
            self._users[tenant_id] -= 1
            if not self._users[tenant_id]:
                del self._users[tenant_id], self._gates[tenant_id]
