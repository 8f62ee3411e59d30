"""Sign-in throttling: failed attempts per account and address, and per address.

Counted per edge process, in memory: an attacker gains at most a factor of the number of edges, and
nobody can lock an account for its owner, who comes from another address.
"""

import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from store.errors import RateLimited

FAILED_PER_ACCOUNT = RateLimitItemPerMinute(10)
# An office or a proxy is one address to us: only a guesser fails this often.
FAILED_PER_ADDRESS = RateLimitItemPerMinute(50)


class Throttle:
    """Counts failed sign-ins."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def check(self, account: str, address: str) -> None:
        """Refuse when too many attempts have failed in the last minute.

        Raises:
            RateLimited: With the time after which another attempt counts.
        """
        for item, key in self._keys(account, address):
            if not await self._limiter.test(item, *key):
                window = await self._limiter.get_window_stats(item, *key)
                wait = max(1.0, window.reset_time - time.time())
                raise RateLimited(f"Too many failed sign-ins; wait {wait:.0f} s.", retry_after=wait)

    async def failed(self, account: str, address: str) -> None:
        """Count a failed sign-in."""
        for item, key in self._keys(account, address):
            await self._limiter.hit(item, *key)

    @staticmethod
    def _keys(
        account: str, address: str
    ) -> tuple[tuple[RateLimitItemPerMinute, tuple[str, ...]], ...]:
        return (
            (FAILED_PER_ACCOUNT, ("account", account.lower()[:320], address)),
            (FAILED_PER_ADDRESS, ("address", address)),
        )
