"""Room events. Durable in ``room_events``; live delivery at most once; recover with ``after_seq``.

`append` runs inside the transaction that changes the state: it takes the lock of the project's
narrow ``rooms`` row, numbers the events and sends the notice, all in one statement, so numbers are
gap-free and become visible in order. Call it last: the lock is held until commit. Over a bus that
is not PostgreSQL the notice is left with the session, which announces it after the commit.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Boolean, Text, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from store.bus import growth, room_channel
from store.database import notices_of
from store.tables import Room, RoomEvent
from store.wire import encode
from workflows.events import RoomEvent as Event

_TEXT: tuple[BindParameter[Any], ...] = (
    bindparam("events", type_=Text),
    bindparam("notify", type_=Boolean),
)
_APPEND = text(
    """
    WITH room AS (
        UPDATE rooms SET head = head + :n WHERE project_id = :project_id
        RETURNING tenant_id, head
    ), added AS (
        INSERT INTO room_events (project_id, seq, tenant_id, type, data)
        SELECT :project_id, room.head - :n + e.place, room.tenant_id, e.type, e.data
        FROM room, ROWS FROM (
            jsonb_to_recordset(CAST(:events AS jsonb)) AS (type text, data jsonb)
        ) WITH ORDINALITY AS e (type, data, place)
    )
    SELECT room.head, CASE WHEN :notify THEN pg_notify(:channel, 'S' || room.head) END FROM room
    """
).bindparams(*_TEXT)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A durable event as it goes to clients; `at` is milliseconds since the epoch."""

    seq: int
    type: str
    data: dict[str, Any]
    at: int

    def frame(self) -> bytes:
        """The envelope, serialised once for every socket."""
        return encode({"type": self.type, "data": self.data, "timestamp": self.at})


async def append(session: AsyncSession, project_id: UUID, events: Sequence[Event]) -> int:
    """Add events to a project's log and wake its readers when the transaction commits.

    Returns:
        The new head.

    Raises:
        LookupError: The project has no room (it was deleted).
    """
    channel, waiting = room_channel(project_id), notices_of(session)
    rows = encode([{"type": event.type, "data": asdict(event)} for event in events])
    head = await session.scalar(
        _APPEND,
        {
            "n": len(events),
            "project_id": project_id,
            "events": rows.decode(),
            "channel": channel,
            "notify": waiting is None,
        },
    )
    if head is None:
        raise LookupError(f"no room for project {project_id}")
    if waiting is not None:
        waiting.append((channel, growth(head)))
    return int(head)


async def head_of(session: AsyncSession, project_id: UUID) -> int | None:
    """Number of the newest event; None when there is no such room."""
    return await session.scalar(select(Room.head).where(Room.project_id == project_id))


async def read(
    session: AsyncSession, project_id: UUID, after_seq: int, limit: int
) -> list[StoredEvent]:
    """Events with a number above `after_seq`, in order, at most `limit`."""
    rows = await session.execute(
        select(RoomEvent.seq, RoomEvent.type, RoomEvent.data, RoomEvent.created_at)
        .where(RoomEvent.project_id == project_id, RoomEvent.seq > after_seq)
        .order_by(RoomEvent.seq)
        .limit(limit)
    )
    return [
        StoredEvent(
            row.seq,
            row.type,
            {**row.data, "project_id": str(project_id), "seq": row.seq},
            int(row.created_at.timestamp() * 1000),
        )
        for row in rows
    ]
