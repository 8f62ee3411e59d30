"""The audit log: append-only rows of who did what, and what was refused."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from store.principal import Principal
from store.tables import AuditEntry
from store.texts import clean, cut

MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, and from where."""

    user_id: UUID | None = None
    email: str | None = None
    address: str | None = None

    @classmethod
    def of(cls, principal: Principal, address: str | None = None) -> "Actor":
        """A signed-in person."""
        return cls(principal.user_id, principal.email, address)


async def record(
    session: AsyncSession,
    tenant_id: UUID,
    actor: Actor,
    action: str,
    resource_type: str,
    resource_id: object = None,
    *,
    outcome: str = "allowed",
    reason: str | None = None,
    project_id: UUID | None = None,
    turn_id: UUID | None = None,
    tool_execution_id: UUID | None = None,
) -> None:
    """Add a row in the caller's transaction: what it records and the record stand or fall together.

    Args:
        action: ``noun.verb``, e.g. ``tool.run``.
        outcome: ``allowed``, ``refused`` or ``failed``.
        reason: A code or rule; never content or secrets.
    """
    session.add(
        AuditEntry(
            tenant_id=tenant_id,
            user_id=actor.user_id,
            email=actor.email,
            address=actor.address,
            action=action,
            resource_type=resource_type,
            resource_id=cut(clean(str(resource_id)), 255) if resource_id is not None else None,
            outcome=outcome,
            reason=cut(clean(reason), MAX_REASON_CHARS) if reason else None,
            project_id=project_id,
            turn_id=turn_id,
            tool_execution_id=tool_execution_id,
        )
    )
    await session.flush()
