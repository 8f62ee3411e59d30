"""One model call of a turn: begun with a new epoch, completed by exactly one writer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from store import rooms, waiting
from store.database import clock
from store.generations import Generation, cut_off, remember
from store.history import HistoryMessage, before
from store.limits import TenantLimits
from store.messages import done_event, drop_draft, next_position
from store.questions import NewCall, judge
from store.shapes import TemporalLinks
from store.tables import Message, Project, Tenant, ToolExecution, Turn, Usage
from store.tool_executions import result_event
from workflows.events import RoomEvent, ToolCalled, TurnStatusChanged
from workflows.types import OPEN_TURN_STATUSES, StepInput, ToolStatus, TurnStatus

# In a message's metadata: messages that were left out of its prompt, and which of the turn's
# steps with unreadable tool calls it is.
OMITTED = "omitted_messages"
BROKEN_CALLS = "broken_calls"
OMITTED_TEXT = "The conversation is too long for this model: older messages were left out."


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The tenant's own model, as far as it names one."""

    url: str | None
    key: bytes | None
    model: str | None
    kind: str = "chat_completions"


@dataclass(frozen=True, slots=True)
class BegunStep:
    """All a model call needs.

    Attributes:
        message: The row this attempt writes, with its new epoch.
        settled: Whether the step had been completed by an earlier attempt.
        stop: Whether the turn must not go on: stopped, or already terminal.
        generation: What an earlier attempt has left, where the model's server can go on with it.
    """

    turn: Turn
    message: Message
    history: Sequence[HistoryMessage]
    instructions: str
    config: ModelConfig
    limits: TenantLimits
    settled: bool = False
    stop: bool = False
    generation: Generation | None = None

    @property
    def away_seconds(self) -> float:
        """For how long the model had been silent when the last attempt failed."""
        return float((self.turn.last_error or {}).get("away_seconds", 0.0))

    @property
    def omits(self) -> bool:
        """Whether the model has refused this turn's whole history as too long."""
        return any(OMITTED in message.extra for message in self._of_turn())

    @property
    def broken_steps(self) -> int:
        """How many earlier steps of the turn had tool calls that could not be read."""
        return sum(BROKEN_CALLS in message.extra for message in self._of_turn()[1:])

    def _of_turn(self) -> list[Message]:
        earlier = [item.message for item in self.history]
        return [self.message, *(row for row in earlier if row.turn_id == self.turn.id)]


async def begin(session: AsyncSession, step: StepInput) -> BegunStep | None:
    """Open a new attempt of a step: its message row, a new epoch, the history for the prompt.

    Returns:
        None when the turn no longer exists.
    """
    found = (
        await session.execute(
            select(Turn, Tenant, Project)
            .join(Project, Project.id == Turn.project_id)
            .join(Tenant, Tenant.id == Turn.tenant_id)
            .where(Turn.id == UUID(step.turn.turn_id))
            .with_for_update(of=Turn)
        )
    ).one_or_none()
    if found is None:
        return None
    turn, tenant, project = found
    message = await session.scalar(
        select(Message)
        .where(Message.turn_id == turn.id, Message.step == step.step)
        .with_for_update()
    )
    settled = message is not None and message.status != "streaming"
    stop = turn.status not in OPEN_TURN_STATUSES or turn.stop_requested_at is not None
    if message is None:
        message = Message(
            id=uuid4(),
            tenant_id=turn.tenant_id,
            conversation_id=turn.conversation_id,
            turn_id=turn.id,
            turn_number=turn.number,
            position=0,
            step=step.step,
            role="assistant",
            content="",
            status="streaming",
            epoch=0,
            tool_calls=[],
            extra={},
        )
        if not stop:
            message.position = await next_position(session, turn.id)
            session.add(message)
    if not settled and not stop:
        message.epoch += 1
        turn.steps = step.step
        begins = turn.status != TurnStatus.RUNNING
        if begins:
            turn.status = TurnStatus.RUNNING
            turn.started_at = turn.started_at or await clock(session)
            # One that was started without a place, by an older edge, holds one all the same.
            turn.admitted_at = turn.admitted_at or turn.started_at
        await session.flush()
        if begins:
            await rooms.append(session, turn.project_id, [_running(turn)])
    return BegunStep(
        turn=turn,
        message=message,
        history=[] if settled or stop else await before(session, turn, message),
        instructions=project.instructions,
        config=ModelConfig(
            tenant.ai_api_url, tenant.ai_api_key, tenant.ai_api_model, tenant.ai_api_kind
        ),
        limits=TenantLimits.of(tenant.limits),
        settled=settled,
        stop=stop and not settled,
        generation=None if settled or stop else await cut_off(session, message),
    )


def _running(turn: Turn, detail: str | None = None) -> TurnStatusChanged:
    return TurnStatusChanged(
        turn_id=turn.id,
        conversation_id=turn.conversation_id,
        message_id=turn.message_id,
        status=turn.status,
        detail=detail,
    )


async def complete(
    session: AsyncSession,
    begun: BegunStep,
    *,
    content: str,
    status: str,
    finish_reason: str,
    truncated: bool,
    calls: Sequence[NewCall],
    model: str,
    usage: dict[str, int],
    links: TemporalLinks,
    broken_steps: int = 0,
    failure: tuple[str, str] | None = None,
) -> Sequence[ToolExecution] | None:
    """Store a step's final text and its tool calls with the events that announce them.

    Args:
        broken_steps: Steps of the turn with tool calls that could not be read, if this is one.
        failure: Code and text where the turn cannot go on after it.

    Returns:
        The created executions; None when this attempt no longer owns the message.
    """
    turn = await session.get(Turn, begun.turn.id, with_for_update=True)
    message = await session.get(Message, begun.message.id, with_for_update=True)
    if turn is None or message is None:
        return None
    if message.status != "streaming" or message.epoch != begun.message.epoch:
        return None
    message.content = content
    message.status = status
    message.extra = {
        **message.extra,
        "finish_reason": finish_reason,
        "model": model,
        **({"truncated": True} if truncated else {}),
        **({BROKEN_CALLS: broken_steps} if broken_steps else {}),
    }
    message.generation = None
    now = await clock(session)
    executions = [_execution(message, position, call, now) for position, call in enumerate(calls)]
    await judge(session, turn, calls, executions, now)
    message.tool_calls = [
        {
            "id": row.tool_call_id,
            "type": "function",
            "function": {"name": row.tool_name, "arguments": row.arguments},
        }
        for row in executions
    ]
    turn.usage = _added(turn.usage, usage)
    turn.last_error = {"code": failure[0], "message": failure[1]} if failure else None
    session.add_all(executions)
    session.add(
        Usage(
            tenant_id=turn.tenant_id,
            project_id=turn.project_id,
            user_id=turn.asked_by,
            turn_id=turn.id,
            step=message.step or 0,
            epoch=message.epoch,
            model=model,
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
        )
    )
    await session.flush()
    await drop_draft(session, message.id)
    events: list[RoomEvent] = [done_event(message, dict(usage))]
    if executions:
        events.append(_called(message, turn, executions))
        events += [
            result_event(row, turn.conversation_id, links)
            for row in executions
            if row.execution_status != ToolStatus.PENDING or row.approval is not None
        ]
        if any(row.execution_status == ToolStatus.AWAITING_APPROVAL for row in executions):
            events += await waiting.review(session, turn)
    await rooms.append(session, turn.project_id, events)
    return executions


def _execution(message: Message, position: int, call: NewCall, now: Any) -> ToolExecution:
    code, text = call.refused or ("", "")
    return ToolExecution(
        id=uuid4(),
        tenant_id=message.tenant_id,
        turn_id=message.turn_id,
        message_id=message.id,
        position=position,
        tool_call_id=call.call_id,
        tool_name=call.name,
        tool_parameters=call.parameters,
        arguments=call.arguments,
        execution_status=ToolStatus.FAILED if code else ToolStatus.PENDING,
        error_code=code or None,
        error_message=text or None,
        attempt=0,
        queue=call.queue,
        effect=call.effect,
        requires_approval=False,
        created_at=now,
        finished_at=now if code else None,
    )


def _called(message: Message, turn: Turn, executions: Sequence[ToolExecution]) -> ToolCalled:
    return ToolCalled(
        conversation_id=message.conversation_id,
        turn_id=turn.id,
        message_id=message.id,
        tool_calls=[
            {
                "id": row.tool_call_id,
                "tool_execution_id": str(row.id),
                "type": "function",
                "function": {"name": row.tool_name, "arguments": row.arguments},
                "effect": row.effect,
                "requires_approval": row.requires_approval,
                "queue": row.queue,
                "created_at": row.created_at.isoformat(),
            }
            for row in executions
        ],
    )


def _added(total: dict[str, Any], usage: dict[str, int]) -> dict[str, Any]:
    return {key: total.get(key, 0) + usage.get(key, 0) for key in {*total, *usage}}


async def report_trouble(
    session: AsyncSession,
    begun: BegunStep,
    code: str,
    message: str,
    *,
    away_seconds: float,
    notice: str | None,
    lost: bool,
) -> None:
    """Remember why an attempt failed; `notice` tells the room what happens next.

    Args:
        away_seconds: For how long the model has been silent, over all attempts since it last spoke.
        lost: Whether the server cannot go on with what it had begun.
    """
    turn = await _owned(session, begun)
    if turn is None:
        return
    turn.last_error = {"code": code, "message": message, "away_seconds": round(away_seconds, 3)}
    if lost:
        await remember(session, begun.message, "")
    await session.flush()
    if notice is not None:
        await _tell(session, turn, notice)


async def clear_trouble(session: AsyncSession, begun: BegunStep) -> None:
    """Take back what the room was told of a trouble: the model answers."""
    turn = await _owned(session, begun)
    if turn is not None:
        turn.last_error = None
        await _tell(session, turn, OMITTED_TEXT if begun.omits else None)


async def leave_out(session: AsyncSession, begun: BegunStep, messages: int) -> bool:
    """Put on record, and tell the room, that the model is asked without so many older messages.

    Returns:
        Whether the attempt still owns the message.
    """
    turn = await _owned(session, begun)
    if turn is None:
        return False
    message = await session.get_one(Message, begun.message.id)
    message.extra = {**message.extra, OMITTED: messages}
    begun.message.extra = message.extra
    await _tell(session, turn, OMITTED_TEXT)
    return True


async def _owned(session: AsyncSession, begun: BegunStep) -> Turn | None:
    """The step's turn, locked; None when it is over or another attempt speaks for the step."""
    turn = await session.get(Turn, begun.turn.id, with_for_update=True)
    message = await session.get(Message, begun.message.id, with_for_update=True)
    if turn is None or message is None or turn.status not in OPEN_TURN_STATUSES:
        return None
    return turn if message.epoch == begun.message.epoch else None


async def _tell(session: AsyncSession, turn: Turn, detail: str | None) -> None:
    turn.detail = detail
    await session.flush()
    await rooms.append(session, turn.project_id, [_running(turn, detail)])
