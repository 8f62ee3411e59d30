"""The newest events of a room as they were sent, and older ones from the log."""

import asyncio
from collections import deque
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from store import rooms
from store.database import Lane

# Newest events kept as sent: a reconnect that missed fewer costs no query.
RECENT_EVENTS = 512
RECENT_CHARS = 512 * 1024


class MissedEvents:
    """What sockets of one room may have missed.

    Args:
        lane: Read for the log.
        most: A client that missed more than these gets a snapshot.
    """

    def __init__(self, project_id: UUID, tenant_id: UUID, lane: Lane, most: int) -> None:
        self._project_id = project_id
        self._tenant_id = tenant_id
        self._lane = lane
        self._most = most
        self._recent: deque[tuple[int, str]] = deque()
        self._recent_chars = 0
        self._logged = asyncio.Lock()

    def remember(self, seq: int, text: str) -> None:
        """Keep a frame that is being sent; it follows the last one that was kept."""
        self._recent.append((seq, text))
        self._recent_chars += len(text)
        while len(self._recent) > RECENT_EVENTS or self._recent_chars > RECENT_CHARS:
            _, oldest = self._recent.popleft()
            self._recent_chars -= len(oldest)

    def replayable(self, after_seq: int, head: int) -> bool:
        """Whether a client is to be sent what it missed, if there is all of it."""
        return 0 <= after_seq <= head and head - after_seq <= self._most

    def recent(self, after_seq: int, head: int) -> list[str] | None:
        """Frames after a number, without a query; None when some of them are not kept."""
        if not self.replayable(after_seq, head):
            return None
        if after_seq == head:
            return []
        if not self._recent or self._recent[0][0] > after_seq + 1:
            return None
        return [text for seq, text in self._recent if seq > after_seq]

    async def logged(self, after_seq: int, head: int) -> list[str] | None:
        """Frames after a number up to `head`, from the log; None when it does not have them all.

        One reading at a time: after a restart everybody misses about the same, and the first one's
        serves the others.
        """
        async with self._logged:
            missed = self.recent(after_seq, head)
            if missed is None:
                missed = await self._read(after_seq, head)
        return None if missed is None else missed[: head - after_seq]

    async def _read(self, after_seq: int, head: int) -> list[str] | None:
        try:
            async with self._lane.tenant_session(self._tenant_id) as session:
                events = await rooms.read(session, self._project_id, after_seq, head - after_seq)
        except (OSError, TimeoutError, SQLAlchemyError):
            return None
        # A log that was pruned starts later, and its rest would be a lie.
        if not events or events[0].seq != after_seq + 1 or events[-1].seq != head:
            return None
        texts = [(event.seq, event.frame().decode()) for event in events]
        first = self._recent[0][0] if self._recent else head + 1
        if first <= head + 1:
            later, self._recent, self._recent_chars = self._recent, deque(), 0
            for seq, text in (*(item for item in texts if item[0] < first), *later):
                self.remember(seq, text)
        return [text for _, text in texts]
