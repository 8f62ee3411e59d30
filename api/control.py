"""Notices to every edge about what just ended; sent after the commit that ended it.

They only hurry: an edge that misses one finds out by its own regular checks.
"""

from collections.abc import Iterable
from uuid import UUID

from store.bus import CONTROL_CHANNEL, Publisher
from store.wire import encode

SESSIONS_PER_NOTICE = 100  # 39 bytes each, and a notice holds 7,900


async def session_ended(publisher: Publisher, session_ids: Iterable[UUID], reason: str) -> None:
    """Browser sessions are over; their sockets are to be closed.

    Args:
        publisher: The bus.
        session_ids: Sessions whose rows are gone.
        reason: ``logout``, ``revoked``, ``password_changed`` or ``deactivated``.
    """
    ids = list(session_ids)
    for start in range(0, len(ids), SESSIONS_PER_NOTICE):
        part = ids[start : start + SESSIONS_PER_NOTICE]
        await _send(publisher, {"kind": "session_ended", "session_ids": part, "reason": reason})


async def membership(publisher: Publisher, project_id: UUID, user_id: UUID) -> None:
    """A person's place in a project changed or ended."""
    await _send(publisher, {"kind": "membership", "project_id": project_id, "user_id": user_id})


async def project_deleted(publisher: Publisher, project_id: UUID) -> None:
    """A project is gone."""
    await _send(publisher, {"kind": "project_deleted", "project_id": project_id})


async def user(publisher: Publisher, user_id: UUID) -> None:
    """A person's role, activity or tokens changed: what he holds open is to be judged anew."""
    await _send(publisher, {"kind": "user", "user_id": user_id})


async def _send(publisher: Publisher, notice: dict[str, object]) -> None:
    await publisher.publish(CONTROL_CHANNEL, encode(notice))
