"""Questions: tool calls that wait for people, from the policy that asks to what people are shown.

The terms are kept in the row as they were when the question was put; what counts when the tool
runs is the policy of that moment (`store.decisions.covers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from store import audit, grants, rooms, waiting
from store.audit import Actor
from store.policies import Policies, policies_of
from store.shapes import ApprovalShape, TemporalLinks
from store.tables import ToolExecution, Turn, User
from store.terms import Terms
from store.tool_executions import result_event
from workflows.types import Effect, ToolStatus


@dataclass(frozen=True, slots=True)
class NewCall:
    """A tool call the model asked for.

    Attributes:
        parameters: Parsed arguments; the raw text where they do not parse.
        refused: Code and text where it is settled at once, e.g. an unknown tool.
        unfit: What is wrong with the arguments: such a call is not worth a question to people.
        schema: What arguments that people change are held against.
        policy: What the tool itself says where no policy speaks of it.
    """

    call_id: str
    name: str
    arguments: str
    parameters: Any
    queue: str
    effect: str
    refused: tuple[str, str] | None = None
    unfit: str | None = None
    schema: dict[str, Any] | None = None
    policy: str | None = None


def ask(row: ToolExecution, terms: Terms, now: datetime) -> None:
    """Put a call before people; what they said to earlier questions about it is over."""
    row.question = (row.question or 0) + 1
    row.execution_status = ToolStatus.AWAITING_APPROVAL
    row.requires_approval = True
    row.approved_arguments = row.decided_at = row.told_at = None
    row.expires_at = now + terms.patience
    row.approval = ApprovalShape(
        question=row.question,
        approvers=terms.approvers,
        approvals=terms.approvals,
        not_asker=terms.not_asker,
        asked_at=now,
        expires_at=row.expires_at,
    ).wire()


def shown(row: ToolExecution) -> ApprovalShape | None:
    """What people are shown of a call's question."""
    return ApprovalShape.model_validate(row.approval) if row.approval else None


def terms_of(view: ApprovalShape) -> Terms:
    """On which terms a question was put."""
    return Terms(view.approvers, view.approvals, view.not_asker)


async def tell_room(
    session: AsyncSession, turn: Turn, row: ToolExecution, links: TemporalLinks
) -> None:
    """Tell a room of a call's question, and what it means for the turn, whose row is locked."""
    await session.flush()
    events = await waiting.review(session, turn)
    await rooms.append(
        session, turn.project_id, [result_event(row, turn.conversation_id, links), *events]
    )


async def judge(
    session: AsyncSession,
    turn: Turn,
    calls: Sequence[NewCall],
    rows: Sequence[ToolExecution],
    now: datetime,
) -> None:
    """Let the policies of this moment decide about calls that are about to be stored.

    Call with the turn's row locked. Refusals are on record.
    """
    policies: Policies | None = None
    for call, row in zip(calls, rows, strict=True):
        if call.refused is None:
            policies = policies or await policies_of(session, turn.project_id)
            await _judge(session, turn, call, row, policies, now)
        if row.execution_status == ToolStatus.FAILED:
            await record_refusal(session, turn, row)


async def _judge(
    session: AsyncSession,
    turn: Turn,
    call: NewCall,
    row: ToolExecution,
    policies: Policies,
    now: datetime,
) -> None:
    verdict = policies.verdict(row.tool_name, Effect(row.effect), call.policy)
    if verdict.policy == "deny":
        _refuse(row, "denied", denied_text(row.tool_name), now)
    elif verdict.policy == "ask" and call.unfit is not None:
        _refuse(row, "invalid_arguments", call.unfit, now)
    elif verdict.policy == "ask":
        row.argument_schema = call.schema
        grant = await grants.covering(session, turn, row.tool_name, row.effect, verdict.terms)
        if grant is None:
            ask(row, verdict.terms, now)
        else:
            row.approval = await grants.view(session, grant)


def denied_text(tool: str) -> str:
    """What the model and people are told of a policy that denies."""
    return f"The project's policy does not allow {tool}."


def _refuse(row: ToolExecution, code: str, message: str, now: datetime) -> None:
    row.execution_status = ToolStatus.FAILED
    row.error_code, row.error_message = code, message
    row.finished_at = now


async def record_refusal(session: AsyncSession, turn: Turn, row: ToolExecution) -> None:
    """Put a call that was refused before it could run on record."""
    asker = await session.get(User, turn.asked_by) if turn.asked_by else None
    await audit.record(
        session,
        row.tenant_id,
        Actor(asker.id, asker.email) if asker else Actor(),
        "tool.run",
        "tool",
        row.tool_name,
        outcome="refused",
        reason=f"{row.error_code}: {row.error_message}",
        project_id=turn.project_id,
        turn_id=turn.id,
        tool_execution_id=UUID(str(row.id)),
    )
