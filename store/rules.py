"""Rules: the rows of ``tool_policies`` as people write them, a whole list at a time.

`store.policies` judges a call by them and takes the stricter of tenant and project, so a rule that
is too loose has no effect; `require_tighter` tells the person who writes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from store.errors import Invalid
from store.policies import STRICTNESS, default_policy
from store.tables import ToolPolicy
from store.terms import APPROVERS
from workflows.types import Effect


@dataclass(frozen=True, slots=True)
class Rule:
    """One row.

    Attributes:
        tool: Glob over tool names.
        effect: None for tools of any effect.
        approvals: How many people must agree.
        not_asker: Whoever asked for the turn does not count.
        expires_minutes: After which an open question counts as denied; None for never.
    """

    tool: str
    effect: str | None
    policy: str
    approvers: str = "editor"
    approvals: int = 1
    not_asker: bool = False
    expires_minutes: int | None = None

    def tightness(self) -> tuple[int, int, int, int, float]:
        """Every dimension in which a rule can be tighter, larger being tighter."""
        asks = self.policy == "ask"
        return (
            STRICTNESS[self.policy],
            APPROVERS[self.approvers] if asks else 0,
            self.approvals if asks else 0,
            int(self.not_asker) if asks else 0,
            -(self.expires_minutes or float("inf")) if asks else 0,
        )


async def of(session: AsyncSession, project_id: UUID | None) -> list[Rule]:
    """Rules of a project, or the tenant's own."""
    rows = await session.scalars(
        select(ToolPolicy)
        .where(ToolPolicy.project_id.is_not_distinct_from(project_id))
        .order_by(ToolPolicy.tool, ToolPolicy.effect)
    )
    return [
        Rule(
            row.tool, row.effect, row.policy, row.approvers, row.approvals, row.not_asker,
            row.expires_minutes,
        )
        for row in rows
    ]  # fmt: skip


async def replace(
    session: AsyncSession, tenant_id: UUID, project_id: UUID | None, rules: Sequence[Rule]
) -> None:
    """Put `rules` in the place of all that were; call with the project or tenant locked.

    Raises:
        Invalid: Two of them say something about the same tools.
    """
    seen: set[tuple[str, str | None]] = set()
    for rule in rules:
        if (rule.tool, rule.effect) in seen:
            raise Invalid(f"There are two rules for {rule.tool} with the same effect.")
        seen.add((rule.tool, rule.effect))
    await session.execute(
        delete(ToolPolicy).where(ToolPolicy.project_id.is_not_distinct_from(project_id))
    )
    session.add_all(
        ToolPolicy(
            tenant_id=tenant_id, project_id=project_id, tool=rule.tool, effect=rule.effect,
            policy=rule.policy, approvers=rule.approvers, approvals=rule.approvals,
            not_asker=rule.not_asker, expires_minutes=rule.expires_minutes,
        )
        for rule in rules
    )  # fmt: skip
    await session.flush()


def require_tighter(tenant: Sequence[Rule], project: Sequence[Rule]) -> None:
    """Hold a project's rules against its tenant's.

    A glob is compared as a name of its own; where it also covers a tool that the tenant names,
    the tenant's word still holds when the tool is called.

    Raises:
        Invalid: One of them allows more; ``errors`` names each.
    """
    errors = [
        {"field": f"items.{place}", "message": f"{rule.tool} is looser than the tenant's rules"}
        for place, rule in enumerate(project)
        if _is_looser(tenant, rule)
    ]
    if errors:
        raise Invalid(
            "A project may only tighten its tenant's tool policies; see `errors`.", errors=errors
        )


def _is_looser(tenant: Sequence[Rule], rule: Rule) -> bool:
    effects = [Effect(rule.effect)] if rule.effect else list(Effect)
    for effect in effects:
        held = _speaking(tenant, rule.tool, effect)
        if rule.policy == held.policy:
            pairs = zip(rule.tightness(), held.tightness(), strict=True)
            if any(mine < theirs for mine, theirs in pairs):
                return True
        elif STRICTNESS[rule.policy] < STRICTNESS[held.policy]:
            return True
    return False


def _speaking(rules: Sequence[Rule], tool: str, effect: Effect) -> Rule:
    matching = [
        rule
        for rule in rules
        if fnmatchcase(tool, rule.tool) and rule.effect in (None, effect.value)
    ]
    if not matching:
        return Rule(tool, effect, default_policy(effect))
    return max(
        matching,
        key=lambda rule: (
            rule.tool == tool,
            len(rule.tool.replace("*", "")),
            rule.effect is not None,
            STRICTNESS[rule.policy],
        ),
    )
