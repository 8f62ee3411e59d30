"""Who may approve a tool call: by the database, at the moment of asking."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.access import Role, role_named
from store.tables import Message, ProjectMember, Turn, User

ROLES = {"editor": Role.EDITOR, "owner": Role.OWNER}


async def entitled(
    session: AsyncSession, user_ids: Iterable[UUID], project_id: UUID, approvers: str
) -> set[UUID]:
    """Those of some people who may approve what asks for `approvers` in a project."""
    rows = await session.execute(
        select(User.id, User.role, ProjectMember.role)
        .outerjoin(
            ProjectMember,
            (ProjectMember.user_id == User.id) & (ProjectMember.project_id == project_id),
        )
        .where(User.id.in_(set(user_ids)), User.active)
    )
    return {user_id for user_id, role, membership in rows if _may(role, membership, approvers)}


def _may(role: str, membership: str | None, approvers: str) -> bool:
    if role == "admin":
        return True
    held = role_named(membership)
    needed = ROLES.get(approvers)
    return needed is not None and held is not None and held >= needed


async def has_asked(session: AsyncSession, turn: Turn, user_id: UUID) -> bool:
    """Whether a person asked for a turn, or joined it."""
    return turn.asked_by == user_id or bool(
        await session.scalar(
            select(
                exists().where(
                    Message.turn_id == turn.id,
                    Message.role == "user",
                    Message.user_id == user_id,
                )
            )
        )
    )


async def is_alone(session: AsyncSession, turn: Turn) -> bool:
    """Whether nobody but its asker has written in a turn."""
    return turn.asked_by is not None and not await session.scalar(
        select(
            exists().where(
                Message.turn_id == turn.id,
                Message.role == "user",
                Message.user_id.is_distinct_from(turn.asked_by),
            )
        )
    )
