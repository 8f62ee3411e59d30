"""Tool policies: allow, ask or deny, by glob over tool names and by effect.

The most specific row wins within a level (a name before a glob, an effect before none); the
project's word and the tenant's are both heard, and the stricter one holds. Where both ask, what
satisfies both is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.tables import ToolPolicy
from store.terms import Terms
from workflows.types import Effect

STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds for one tool: ``allow``, ``ask`` or ``deny``, and on which terms it asks."""

    policy: str
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class Policies:
    """What a tenant and one of its projects have said, as the database had it."""

    tenant: Sequence[ToolPolicy]
    project: Sequence[ToolPolicy]

    def verdict(self, tool: str, effect: Effect, declared: str | None = None) -> Verdict:
        """What holds for a tool; `declared` is what it says itself where nobody else does."""
        tenant, project = _best(self.tenant, tool, effect), _best(self.project, tool, effect)
        spoken = [_said(tenant) if tenant else Verdict(default_policy(effect, declared))]
        if project is not None:
            spoken.append(_said(project))
        policy = max((each.policy for each in spoken), key=STRICTNESS.__getitem__)
        terms = Terms()
        for each in spoken:
            if each.policy == "ask":
                terms = terms.with_all_of(each.terms)
        return Verdict(policy, terms)


def default_policy(effect: Effect, declared: str | None = None) -> str:
    """What holds where nobody has said anything: reading is allowed, the rest asks.

    Args:
        declared: What the tool itself says instead.
    """
    return declared or ("allow" if effect is Effect.READ else "ask")


async def policies_of(session: AsyncSession, project_id: UUID) -> Policies:
    """All rows that speak in a project."""
    rows = (
        await session.scalars(
            select(ToolPolicy).where(
                or_(ToolPolicy.project_id == project_id, ToolPolicy.project_id.is_(None))
            )
        )
    ).all()
    return Policies(
        [row for row in rows if row.project_id is None],
        [row for row in rows if row.project_id is not None],
    )


async def verdict_for(
    session: AsyncSession, project_id: UUID, tool: str, effect: Effect, declared: str | None = None
) -> Verdict:
    """What holds for one tool in one project, as the database has it now."""
    return (await policies_of(session, project_id)).verdict(tool, effect, declared)


def _said(row: ToolPolicy) -> Verdict:
    terms = Terms(row.approvers, row.approvals, row.not_asker, row.expires_minutes)
    return Verdict(row.policy, terms)


def _best(rows: Sequence[ToolPolicy], tool: str, effect: Effect) -> ToolPolicy | None:
    matching = [
        row for row in rows if fnmatchcase(tool, row.tool) and row.effect in (None, effect.value)
    ]
    return max(
        matching,
        key=lambda row: (
            row.tool == tool,
            len(row.tool.replace("*", "")),
            row.effect is not None,
            STRICTNESS[row.policy],
        ),
        default=None,
    )
