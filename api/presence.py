"""Who is in a room: told when it has changed, at most every so often, and never without end."""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import UUID

from store.principal import Principal

# Whoever reloads a page leaves and returns within this time, and nobody hears of it.
INTERVAL_SECONDS = 0.25
# A change goes to every socket of the room: the more there are, the less often.
SECONDS_PER_SOCKET = 0.001
MAX_SHOWN = 100


class Presence:
    """The people of a room, each once however many sockets they have.

    Args:
        tell: Sends every member the data of a ``presence`` event.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._people: dict[UUID, tuple[str, int]] = {}
        self._sockets = 0
        self._told: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, principal: Principal) -> None:
        """Count a socket of a person."""
        name, sockets = self._people.get(principal.user_id, (principal.name, 0))
        self._people[principal.user_id] = (name, sockets + 1)
        self._sockets += 1
        if not sockets:
            self._changed()

    def leave(self, principal: Principal) -> None:
        """Count a socket of a person no longer."""
        name, sockets = self._people[principal.user_id]
        self._sockets -= 1
        if sockets > 1:
            self._people[principal.user_id] = (name, sockets - 1)
        else:
            del self._people[principal.user_id]
            self._changed()

    def users(self) -> list[dict[str, str]]:
        """Ids and names of whoever is here; of a crowd, of those who have been here longest."""
        return [
            {"id": str(user_id), "name": name}
            for user_id, (name, _) in islice(self._people.items(), MAX_SHOWN)
        ]

    def close(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self) -> None:
        if self._timer is None:
            delay = max(INTERVAL_SECONDS, self._sockets * SECONDS_PER_SOCKET)
            self._timer = asyncio.get_running_loop().call_later(delay, self._say)

    def _say(self) -> None:
        self._timer = None
        now = {"users": self.users(), "total": len(self._people)}
        if now != self._told:
            self._told = now
            self._tell(now)
