"""Search by containment, letter case aside, over titles and messages of one project."""

from typing import Any
from uuid import UUID

from sqlalchemy import null, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import Conversation, Message

EXCERPT_CHARS = 160


async def find(
    session: AsyncSession, project_id: UUID, query: str, limit: int
) -> list[dict[str, Any]]:
    """Hits, newest first, each with an excerpt around the text."""
    titles = select(
        Conversation.id.label("conversation_id"),
        Conversation.title,
        null().label("message_id"),
        null().label("role"),
        Conversation.title.label("content"),
        Conversation.updated_at.label("at"),
    ).where(
        Conversation.project_id == project_id,
        Conversation.title.icontains(query, autoescape=True),
    )
    messages = (
        select(
            Conversation.id,
            Conversation.title,
            Message.id,
            Message.role,
            Message.content,
            Message.created_at,
        )
        .join(Message, Message.conversation_id == Conversation.id)
        .where(
            Conversation.project_id == project_id,
            Message.content.icontains(query, autoescape=True),
        )
    )
    both = union_all(titles, messages).subquery()
    rows = await session.execute(select(both).order_by(both.c.at.desc()).limit(limit))
    return [
        {
            "conversation_id": row.conversation_id,
            "title": row.title,
            "message_id": row.message_id,
            "role": row.role,
            "excerpt": _excerpt(row.content, query),
        }
        for row in rows
    ]


def _excerpt(content: str, query: str) -> str:
    place = max(content.lower().find(query.lower()), 0)
    start = max(place - EXCERPT_CHARS // 3, 0)
    return content[start : start + EXCERPT_CHARS]
