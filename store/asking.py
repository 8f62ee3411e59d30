"""What accepting a message depends on, read in one query under the conversation's lock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from store import access
from store.access import Role
from store.errors import RateLimited
from store.limits import TenantLimits
from store.principal import Principal
from store.projects import ProjectSettings
from store.tables import Conversation, Message, Project, Tenant, Turn
from workflows.types import OPEN_TURN_STATUSES

MESSAGES_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, under which limits and settings, and what goes on there.

    Attributes:
        busy: Whether a turn of the conversation is open.
        recent: Messages the asker has sent within the window.
        oldest_seconds: Age of the first of them.
    """

    role: Role | None
    limits: TenantLimits
    settings: ProjectSettings
    busy: bool
    recent: int
    oldest_seconds: float
    now: datetime

    def check_rate(self) -> None:
        """Hold the asker against his rate.

        Raises:
            RateLimited: Too many messages in the last minute.
        """
        if self.recent >= self.limits.messages_per_minute:
            wait = max(1.0, MESSAGES_WINDOW_SECONDS - self.oldest_seconds)
            raise RateLimited(
                f"At most {self.limits.messages_per_minute} messages a minute; wait {wait:.0f} s.",
                retry_after=wait,
            )


async def asking(session: AsyncSession, principal: Principal, conversation: Conversation) -> Asking:
    """The facts about a message of `principal` in a conversation that is locked."""
    window = func.now() - timedelta(seconds=MESSAGES_WINDOW_SECONDS)
    recent = (
        select(
            func.count().label("count"),
            func.extract("epoch", func.now() - func.min(Message.created_at)).label("oldest"),
        )
        .where(Message.user_id == principal.user_id, Message.created_at > window)
        .subquery()
    )
    busy = exists().where(
        Turn.conversation_id == conversation.id, Turn.status.in_(OPEN_TURN_STATUSES)
    )
    row = (
        await session.execute(
            select(
                Tenant.limits,
                Project.settings,
                access.role_column(principal.user_id, conversation.project_id).label("role"),
                busy.label("busy"),
                recent.c.count.label("recent"),
                recent.c.oldest,
                func.clock_timestamp().label("now"),
            )
            .select_from(Project)
            .join(Tenant, Tenant.id == Project.tenant_id)
            .join(recent, true())
            .where(Project.id == conversation.project_id)
        )
    ).one()
    return Asking(
        role=access.role_named(row.role),
        limits=TenantLimits.of(row.limits),
        settings=ProjectSettings.of(row.settings),
        busy=row.busy,
        recent=row.recent,
        oldest_seconds=float(row.oldest or 0),
        now=row.now,
    )
