"""Limits on tool calls, over all workers: how many a minute, how many at once, how much they bring.

Exact by one rule: whoever is about to claim a call asks here, in the transaction of the claim. A
lock per tenant serialises them until they commit, and what is counted are the calls' own rows, so
nothing has to be given back when a worker dies. A call that was refused is not counted; a repeated
attempt keeps the place its call holds.

In the order of locks (`store.turns`) this one comes after the tool execution and before the room.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from store.limits import TenantLimits
from store.tables import Tenant

# A call that finds all places taken waits so long for one before it is refused.
MAX_WAIT = timedelta(seconds=5)
# Between two looks.
WAIT_BETWEEN = timedelta(milliseconds=200)

_ALLOWANCE = text(
    "SELECT rule, seconds FROM tool_allowance(:tenant_id, :asker, :per_minute, :per_user,"
    " :max_bytes, :at_once)"
)
_CODES = {
    "tool_calls_per_minute": "rate_limited",
    "tool_calls_per_user_minute": "rate_limited",
    "tool_result_bytes_per_minute": "over_budget",
    "concurrent_tools": "busy",
}


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why another call may not run now.

    Attributes:
        rule: The limit's name in a tenant's ``limits``.
        code: Code of the tool's failure (docs/protocol.md §4).
        message: For people and the model; says when to try again.
        passes: A place may be free in a moment: worth waiting for.
    """

    rule: str
    code: str
    message: str
    passes: bool


async def over_limit(
    session: AsyncSession, tenant_id: UUID, asked_by: UUID | None
) -> OverLimit | None:
    """Whether a limit forbids another call of `asked_by` now; None where it may run.

    To be asked in the transaction that marks the call as executing, right before it does.
    """
    stored = await session.scalar(select(Tenant.limits).where(Tenant.id == tenant_id))
    limits = TenantLimits.of(stored or {})
    found = (
        await session.execute(
            _ALLOWANCE,
            {
                "tenant_id": tenant_id,
                "asker": asked_by,
                "per_minute": limits.tool_calls_per_minute,
                "per_user": limits.tool_calls_per_user_minute,
                "max_bytes": limits.tool_result_bytes_per_minute,
                "at_once": limits.concurrent_tools,
            },
        )
    ).one_or_none()
    if found is None:
        return None
    again = f"Try again in {max(math.ceil(found.seconds), 1)} s."
    match found.rule:
        case "tool_calls_per_minute":
            said = f"All of this tenant make at most {limits.tool_calls_per_minute} tool calls"
            said += " a minute."
        case "tool_calls_per_user_minute":
            said = f"One person's turns make at most {limits.tool_calls_per_user_minute} tool calls"
            said += " a minute."
        case "tool_result_bytes_per_minute":
            most = _size(limits.tool_result_bytes_per_minute)
            said = f"Tools of this tenant bring at most {most} of results a minute."
            again += " Ask for less: filter, aggregate, or take fewer columns."
        case _:
            said = f"At most {limits.concurrent_tools} tools of this tenant run at once, and none"
            said += f" ended within {MAX_WAIT.total_seconds():.0f} s."
            again = "Try again in a few seconds, with fewer calls at once."
    return OverLimit(
        found.rule, _CODES[found.rule], f"{said} {again}", found.rule == "concurrent_tools"
    )


def _size(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB" if count >= 1024**2 else f"{count / 1024:.0f} KiB"
