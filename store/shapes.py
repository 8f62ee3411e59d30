"""What clients are shown of rows: the shapes of docs/protocol.md §4, for REST and rooms alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from store.tables import Conversation, Message, ToolExecution, Turn
from workflows.types import OPEN_TOOL_STATUSES, turn_workflow_id


class Shape(BaseModel):
    """Base of every shape."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def wire(self) -> dict[str, Any]:
        """JSON-safe form."""
        return self.model_dump(mode="json")


class AuthorShape(Shape):
    """Who wrote a message."""

    id: UUID
    name: str


class ErrorShape(Shape):
    """Why a tool execution failed."""

    code: str
    message: str


class VoteShape(Shape):
    """What one person said to a question; which arguments it is about is the question's."""

    user: AuthorShape
    decision: str
    note: str | None = None
    scope: str = "once"
    at: datetime


class ApprovalShape(Shape):
    """A question to people about a tool call, and how it was decided.

    Attributes:
        question: Grows with every question about the call; changed arguments are a new one.
        decision: ``approved``, ``denied`` or ``expired``; null while the question stands.
        arguments: What is to run, or ran, where it is not what the model sent.
        scope: For how long the approval holds.
        grant_id: The earlier approval by which this call need not ask.
        votes: What was said to this question so far.
    """

    question: int
    approvers: str
    approvals: int
    not_asker: bool
    asked_at: datetime
    expires_at: datetime | None = None
    decision: str | None = None
    decided_by: AuthorShape | None = None
    decided_at: datetime | None = None
    arguments: dict[str, Any] | None = None
    changed_by: AuthorShape | None = None
    note: str | None = None
    scope: str = "once"
    grant_id: UUID | None = None
    votes: list[VoteShape] = []


class ToolExecutionShape(Shape):
    """A tool call and how it went."""

    id: UUID
    turn_id: UUID
    message_id: UUID
    tool_call_id: str
    tool_name: str
    queue: str
    effect: str
    parameters: Any
    status: str
    attempt: int
    result: Any | None
    error: ErrorShape | None
    execution_time_ms: int | None
    created_at: datetime
    temporal_url: str | None
    requires_approval: bool
    approval: ApprovalShape | None
    stalled: Any | None = None
    intervention: Any | None = None

    @classmethod
    def of(
        cls, row: ToolExecution, links: "TemporalLinks", *, full: bool = False
    ) -> "ToolExecutionShape":
        """Shape of a row; the bounded preview unless `full`."""
        return cls(
            id=row.id,
            turn_id=row.turn_id,
            message_id=row.message_id,
            tool_call_id=row.tool_call_id,
            tool_name=row.tool_name,
            queue=row.queue,
            effect=row.effect,
            parameters=row.tool_parameters,
            status=row.execution_status,
            attempt=row.attempt,
            result=row.tool_result if full else row.preview,
            error=(
                ErrorShape(code=row.error_code, message=row.error_message or "")
                if row.error_code
                else None
            ),
            execution_time_ms=row.execution_time_ms,
            created_at=row.created_at,
            temporal_url=links.tool(row),
            requires_approval=row.requires_approval,
            approval=ApprovalShape.model_validate(row.approval) if row.approval else None,
            stalled=row.stalled,
            intervention=row.intervention,
        )


class GrantShape(Shape):
    """A tool that somebody's turns need not ask for."""

    id: UUID
    conversation_id: UUID
    turn_id: UUID | None
    user: AuthorShape
    tool: str
    effect: str
    granted_by: list[AuthorShape]
    created_at: datetime


class MessageShape(Shape):
    """A message with its tool executions."""

    id: UUID
    conversation_id: UUID
    turn_id: UUID | None
    role: str
    author: AuthorShape | None
    content: str
    status: str
    epoch: int
    tool_calls: list[Any]
    tool_executions: list[ToolExecutionShape]
    metadata: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(
        cls,
        row: Message,
        author_name: str | None,
        executions: list[ToolExecutionShape] | None = None,
        content: str | None = None,
    ) -> "MessageShape":
        """Shape of a row; `content` replaces the stored one while it streams."""
        return cls(
            id=row.id,
            conversation_id=row.conversation_id,
            turn_id=row.turn_id,
            role=row.role,
            author=AuthorShape(id=row.user_id, name=author_name or "") if row.user_id else None,
            content=row.content if content is None else content,
            status=row.status,
            epoch=row.epoch,
            tool_calls=row.tool_calls,
            tool_executions=executions or [],
            metadata=row.extra,
            created_at=row.created_at,
        )


class LiveShape(Shape):
    """The open turn of a conversation."""

    turn_id: UUID
    status: str


class ConversationShape(Shape):
    """A conversation with its live turn, if one is open."""

    id: UUID
    project_id: UUID
    title: str
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    live: LiveShape | None

    @classmethod
    def of(cls, row: Conversation, live: LiveShape | None = None) -> "ConversationShape":
        """Shape of a row."""
        return cls(
            id=row.id,
            project_id=row.project_id,
            title=row.title,
            created_by=row.user_id,
            created_at=row.created_at,
            updated_at=row.updated_at,
            live=live,
        )


class TurnShape(Shape):
    """A turn."""

    id: UUID
    conversation_id: UUID
    message_id: UUID
    status: str
    code: str | None
    detail: str | None
    asked_by: UUID | None
    stopped_by: UUID | None
    steps: int
    usage: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    temporal_url: str | None

    @classmethod
    def of(cls, row: Turn, links: "TemporalLinks") -> "TurnShape":
        """Shape of a row."""
        return cls(
            id=row.id,
            conversation_id=row.conversation_id,
            message_id=row.message_id,
            status=row.status,
            code=row.code,
            detail=row.detail,
            asked_by=row.asked_by,
            stopped_by=row.stopped_by,
            steps=row.steps,
            usage=row.usage,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            temporal_url=links.turn(row.id),
        )


class TemporalLinks:
    """Addresses of runs in the Temporal Web UI.

    Args:
        base: Address of the UI without a trailing slash; empty for none.
        namespace: Temporal namespace.
    """

    def __init__(self, base: str, namespace: str) -> None:
        self._prefix = f"{base}/namespaces/{namespace}/workflows/" if base else ""

    def turn(self, turn_id: UUID) -> str | None:
        """Address of a turn's run."""
        return self._prefix + turn_workflow_id(turn_id) if self._prefix else None

    def tool(self, row: ToolExecution) -> str | None:
        """Address of the run that a tool execution was claimed in, opened where the call is seen.

        The newest run of its turn, where no worker has claimed it yet.
        """
        turn = self.turn(row.turn_id)
        if turn is None or row.workflow_run is None:
            return turn
        if row.execution_status in OPEN_TOOL_STATUSES:
            return self.activity(row.turn_id, row.workflow_run)
        return f"{turn}/{row.workflow_run}/history"

    def activity(self, turn_id: UUID, run_id: str) -> str | None:
        """Address of what a run of a turn is waiting for."""
        turn = self.turn(turn_id)
        return f"{turn}/{run_id}/pending-activities" if turn else None
