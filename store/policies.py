"""Tool policies: allow, ask or deny, by glob over tool names and by effect.

The most specific row wins within a level (a name before a glob, an effect before none); the
project's word and the tenant's are both heard, and the stricter one holds.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import ToolPolicy
from workflows.types import Effect

STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}


def default_policy(effect: Effect, declared: str | None = None) -> str:
    """What holds where nobody has said anything: reading is allowed, the rest asks.

    Args:
        declared: What the tool itself says instead.
    """
    return declared or ("allow" if effect is Effect.READ else "ask")


async def policy_for(
    session: AsyncSession, project_id: UUID, tool: str, effect: Effect, declared: str | None = None
) -> str:
    """``allow``, ``ask`` or ``deny`` for one tool in one project, as the database has it now."""
    rows = (
        await session.scalars(
            select(ToolPolicy).where(
                or_(ToolPolicy.project_id == project_id, ToolPolicy.project_id.is_(None))
            )
        )
    ).all()
    tenant = _best([row for row in rows if row.project_id is None], tool, effect)
    project = _best([row for row in rows if row.project_id is not None], tool, effect)
    spoken = [policy for policy in (tenant or default_policy(effect, declared), project) if policy]
    return max(spoken, key=STRICTNESS.__getitem__)


def _best(rows: Sequence[ToolPolicy], tool: str, effect: Effect) -> str | None:
    matching = [
        row for row in rows if fnmatchcase(tool, row.tool) and row.effect in (None, effect.value)
    ]
    if not matching:
        return None
    best = max(
        matching,
        key=lambda row: (
            row.tool == tool,
            len(row.tool.replace("*", "")),
            row.effect is not None,
            STRICTNESS[row.policy],
        ),
    )
    return best.policy
