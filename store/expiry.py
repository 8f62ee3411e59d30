"""The end of a question's time: nobody decided, and the call counts as denied."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from store import audit, tool_executions
from store.audit import Actor
from store.database import clock
from store.questions import shown, tell_room
from store.shapes import ApprovalShape, TemporalLinks
from store.tables import ToolExecution, Turn
from store.tool_executions import Outcome
from workflows.types import OPEN_TURN_STATUSES, ToolStatus


async def expire(session: AsyncSession, turn: Turn, row: ToolExecution, now: datetime) -> bool:
    """Deny a call whose question has stood for its time; call with its row locked.

    Returns:
        Whether it did; events and the turn's review are the caller's.
    """
    view = shown(row)
    if (
        view is None
        or row.execution_status != ToolStatus.AWAITING_APPROVAL
        or row.expires_at is None
        or now < row.expires_at
    ):
        return False
    row.approval = view.model_copy(update={"decision": "expired", "decided_at": now}).wire()
    row.decided_at = now
    text = f"Nobody approved it within {_long(view)}, so it expired and counts as denied."
    tool_executions.apply(row, Outcome(ToolStatus.FAILED, code="denied", message=text), now)
    await session.flush()
    await audit.record(
        session, row.tenant_id, Actor(), "tool.expire", "tool", row.tool_name,
        outcome="refused", reason="denied: nobody decided in time", project_id=turn.project_id,
        turn_id=turn.id, tool_execution_id=row.id,
    )  # fmt: skip
    return True


def _long(view: ApprovalShape) -> str:
    if view.expires_at is None:
        return "its time"
    minutes = round((view.expires_at - view.asked_at).total_seconds() / 60)
    for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size and minutes % size == 0:
            return f"{minutes // size} {unit}{'s' if minutes > size else ''}"
    return "its time"


async def expire_now(session: AsyncSession, execution_id: UUID, links: TemporalLinks) -> bool:
    """Close a question whose time is over and that no run has closed; whether it did."""
    turn_id = await session.scalar(
        select(ToolExecution.turn_id).where(ToolExecution.id == execution_id)
    )
    turn = await session.get(Turn, turn_id, with_for_update=True) if turn_id else None
    row = await session.get(ToolExecution, execution_id, with_for_update=True)
    if turn is None or row is None or turn.status not in OPEN_TURN_STATUSES:
        return False
    if not await expire(session, turn, row, await clock(session)):
        return False
    await tell_room(session, turn, row, links)
    return True
