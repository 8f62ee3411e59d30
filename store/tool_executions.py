"""Tool executions: created with the model's step, claimed before they run, settled once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from store import access, rooms
from store.access import Role
from store.database import clock
from store.errors import NotFound
from store.principal import Principal
from store.shapes import TemporalLinks
from store.tables import ToolExecution, Turn
from store.wire import encode
from workflows.events import RoomEvent, ToolResultChanged
from workflows.types import OPEN_TOOL_STATUSES, Effect, ToolStatus

STOPPED_TEXT = "Stopped before it finished."
UNKNOWN_TEXT = (
    "It was started, but whether it took effect is not known. Check before doing it again."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tool execution ended.

    Attributes:
        result: What is stored in full.
        preview: `result` cut to what rooms and lists show.
        code: Empty for success.
        result_file: The project's file with all of it, where one was written.
        cached: It was found by an earlier call, and given again.
    """

    status: ToolStatus
    result: Any | None = None
    preview: Any | None = None
    code: str = ""
    message: str = ""
    elapsed_ms: int | None = None
    result_file: str | None = None
    cached: bool = False


def result_event(
    row: ToolExecution, conversation_id: UUID, links: TemporalLinks | None = None
) -> ToolResultChanged:
    """The event that shows a tool execution as it is now."""
    return ToolResultChanged(
        conversation_id=conversation_id,
        turn_id=row.turn_id,
        tool_execution_id=row.id,
        tool_call_id=row.tool_call_id,
        tool_name=row.tool_name,
        status=row.execution_status,
        attempt=row.attempt,
        result=row.preview,
        error=(
            {"code": row.error_code, "message": row.error_message or ""} if row.error_code else None
        ),
        execution_time_ms=row.execution_time_ms,
        temporal_url=links.tool(row) if links else None,
        stalled=row.stalled,
        intervention=row.intervention,
        approval=row.approval,
    )


def apply(row: ToolExecution, outcome: Outcome, now: Any) -> None:
    """Write an outcome into a row."""
    row.execution_status = outcome.status
    row.tool_result = outcome.result
    row.result_bytes = len(encode(outcome.result)) if outcome.result is not None else 0
    row.preview = outcome.preview
    row.result_file = outcome.result_file
    row.error_code = outcome.code or None
    row.error_message = outcome.message or None
    row.execution_time_ms = outcome.elapsed_ms
    row.finished_at = now
    row.stalled = None


async def settle(
    session: AsyncSession,
    execution_id: UUID,
    attempt: int,
    outcome: Outcome,
    turn: Turn,
    links: TemporalLinks,
    *,
    among: Sequence[ToolStatus] = OPEN_TOOL_STATUSES,
) -> bool:
    """Store an outcome under the claim that produced it.

    A worker that slept through its own replacement finds another attempt in the row, or an
    outcome, or that people have taken the call over, and changes nothing.

    Args:
        among: What the call's status must be; whoever has claimed it finds it ``executing``.

    Returns:
        Whether this outcome is the one that is stored.
    """
    row = await session.get(ToolExecution, execution_id, with_for_update=True)
    if row is None or row.attempt != attempt or row.execution_status not in among:
        return False
    apply(row, outcome, await clock(session))
    await session.flush()
    await rooms.append(session, turn.project_id, [result_event(row, turn.conversation_id, links)])
    return True


async def mark_stalled(
    session: AsyncSession,
    execution_id: UUID,
    seen: tuple[str, int],
    stalled: dict[str, str] | None,
    links: TemporalLinks,
) -> None:
    """Tell the room that a call hangs, or that it does no longer.

    Args:
        seen: Status and attempt of what was looked at; nothing else is touched.
    """
    row = await session.get(ToolExecution, execution_id, with_for_update=True)
    if row is None or (row.execution_status, row.attempt) != seen:
        return
    turn = await session.get(Turn, row.turn_id)
    if turn is None:
        return
    row.stalled = stalled
    await session.flush()
    await rooms.append(session, turn.project_id, [result_event(row, turn.conversation_id, links)])


async def settle_open(session: AsyncSession, turn: Turn) -> list[RoomEvent]:
    """End every open execution of a turn that ends.

    One whose effect may have happened is ``unknown``; the rest are ``cancelled``.
    """
    rows = await session.scalars(
        select(ToolExecution)
        .where(
            ToolExecution.turn_id == turn.id,
            ToolExecution.execution_status.in_(OPEN_TOOL_STATUSES),
        )
        .order_by(ToolExecution.created_at, ToolExecution.position)
        .with_for_update()
    )
    now = await clock(session)
    events: list[RoomEvent] = []
    for row in rows:
        risky = row.effect != Effect.READ and row.execution_status == ToolStatus.EXECUTING
        apply(row, unknown() if risky else cancelled(), now)
        events.append(result_event(row, turn.conversation_id))
    return events


def cancelled() -> Outcome:
    """Outcome of a call that a stop ended, or kept from starting."""
    return Outcome(ToolStatus.CANCELLED, code="cancelled", message=STOPPED_TEXT)


def unknown() -> Outcome:
    """Outcome of an effect that was begun and never reported back."""
    return Outcome(ToolStatus.UNKNOWN, code="outcome_unknown", message=UNKNOWN_TEXT)


async def get(session: AsyncSession, principal: Principal, execution_id: UUID) -> ToolExecution:
    """A tool execution the principal may see.

    Raises:
        NotFound: There is none.
    """
    row = (
        await session.execute(
            select(ToolExecution, Turn.project_id)
            .join(Turn, Turn.id == ToolExecution.turn_id)
            .where(ToolExecution.id == execution_id)
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    execution, project_id = row
    await access.require(session, principal, project_id, Role.VIEWER)
    return execution


async def of_messages(
    session: AsyncSession, message_ids: Sequence[UUID]
) -> Sequence[ToolExecution]:
    """Executions that belong to some messages, in the order of their calls."""
    if not message_ids:
        return []
    return (
        await session.scalars(
            select(ToolExecution)
            .where(ToolExecution.message_id.in_(message_ids))
            .order_by(ToolExecution.message_id, ToolExecution.position)
        )
    ).all()
