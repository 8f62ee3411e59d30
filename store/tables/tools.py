"""Tool calls, and what people say of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, new_id, now, tenant_key


class ToolExecution(Base):
    """One call the model asked for: its claim, its outcome, its timing.

    Attributes:
        attempt: Number of the present claim; a result is stored only under its own claim.
        preview: `tool_result` cut to what rooms and lists show.
        question: Number of the question to people that stands or stood last; 0 for none.
        approval: What people are shown of that question (`store.shapes.ApprovalShape`).
        argument_schema: What changed arguments are held against.
        approved_arguments: JSON of the arguments people approved where they are not the model's.
        decided_at: When people, or the end of their time, decided the question.
        told_at: When the turn's run was told so.
        taken_over: How many interventions there were; a run that knows of fewer may not claim.
        workflow_run: Run id of the workflow whose activity holds the present claim.
        stalled: Why, and since when, it makes no progress (`store.tool_runs`).
        intervention: What somebody did about it last, as rooms are shown it.
        watched_at: When an edge last looked after it (`api.watch`).
        result_file: The project's file with all of a result that the model was not shown whole.
        result_bytes: Of `tool_result` as JSON; what the tenant's limit counts.
    """

    __tablename__ = "tool_executions"
    __table_args__ = (
        UniqueConstraint("message_id", "position"),
        Index(None, "turn_id"),
        Index(
            "ix_tool_executions_waiting",
            "turn_id",
            postgresql_where=text("execution_status = 'awaiting_approval'"),
        ),
        Index(
            "ix_tool_executions_untold",
            "decided_at",
            postgresql_where=text("decided_at IS NOT NULL AND told_at IS NULL"),
        ),
        Index(
            "ix_tool_executions_running",
            "created_at",
            postgresql_where=text("execution_status IN ('pending', 'executing')"),
        ),
        Index(
            "ix_tool_executions_times",
            "tenant_id",
            "tool_name",
            "finished_at",
            postgresql_where=text("execution_status = 'completed'"),
        ),
        # What a tenant's limits count (`store.tool_limits`).
        Index(None, "tenant_id", "started_at"),
        Index(None, "tenant_id", "finished_at"),
        Index(
            "ix_tool_executions_executing",
            "tenant_id",
            postgresql_where=text("execution_status = 'executing'"),
        ),
        CheckConstraint(
            "execution_status IN ('pending', 'awaiting_approval', 'executing', 'completed',"
            " 'failed', 'cancelled', 'unknown')",
            name="execution_status",
        ),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    turn_id: Mapped[UUID] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    message_id: Mapped[UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    position: Mapped[int]
    tool_call_id: Mapped[str]
    tool_name: Mapped[str]
    tool_parameters: Mapped[Any] = mapped_column(JSONB)
    arguments: Mapped[str]
    tool_result: Mapped[Any | None] = mapped_column(JSONB)
    preview: Mapped[Any | None] = mapped_column(JSONB)
    result_file: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    execution_status: Mapped[str] = mapped_column(server_default="pending")
    execution_time_ms: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    queue: Mapped[str]
    effect: Mapped[str]
    requires_approval: Mapped[bool] = mapped_column(server_default=text("false"))
    result_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    question: Mapped[int] = mapped_column(server_default=text("0"))
    approval: Mapped[dict[str, Any] | None]
    argument_schema: Mapped[dict[str, Any] | None]
    approved_arguments: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    taken_over: Mapped[int] = mapped_column(server_default=text("0"))
    workflow_run: Mapped[str | None]
    stalled: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    intervention: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    watched_at: Mapped[datetime | None]


class ToolIntervention(Base):
    """What somebody did about a tool call that hung, or that he wanted to hang no longer.

    Attributes:
        number: Place among the call's interventions, from 1.
        attempt: The claim it was about.
        heard_at: When the turn's run looked at it; until then housekeeping repeats the signal.
    """

    __tablename__ = "tool_interventions"
    __table_args__ = (
        UniqueConstraint("tool_execution_id", "number"),
        UniqueConstraint("tool_execution_id", "client_intervention_id"),
        CheckConstraint("action IN ('retry', 'skip', 'cancel')", name="action"),
        Index(
            "ix_tool_interventions_unheard",
            "created_at",
            postgresql_where=text("heard_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    tool_execution_id: Mapped[UUID] = mapped_column(
        ForeignKey("tool_executions.id", ondelete="CASCADE")
    )
    number: Mapped[int]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    action: Mapped[str]
    note: Mapped[str | None]
    attempt: Mapped[int]
    client_intervention_id: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    heard_at: Mapped[datetime | None]


class ToolPolicy(Base):
    """Allow, ask or deny, by glob and effect; a project may only tighten its tenant's."""

    __tablename__ = "tool_policies"
    __table_args__ = (
        CheckConstraint("policy IN ('allow', 'ask', 'deny')", name="policy"),
        Index(None, "tenant_id", "project_id"),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    tool: Mapped[str]
    effect: Mapped[str | None]
    policy: Mapped[str]
    approvers: Mapped[str] = mapped_column(server_default="editor")
    approvals: Mapped[int] = mapped_column(server_default=text("1"))
    not_asker: Mapped[bool] = mapped_column(server_default=text("false"))
    expires_minutes: Mapped[int | None]


class ToolDecision(Base):
    """Who approved or denied a call, when, with which arguments.

    Attributes:
        question: Which question of the call it answers: changed arguments make a new one.
        arguments: Null for the model's own.
    """

    __tablename__ = "tool_decisions"
    __table_args__ = (
        UniqueConstraint("tool_execution_id", "question", "user_id", "decision"),
        CheckConstraint("decision IN ('approve', 'deny')", name="decision"),
        CheckConstraint("scope IN ('once', 'turn', 'conversation')", name="scope"),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    tool_execution_id: Mapped[UUID] = mapped_column(
        ForeignKey("tool_executions.id", ondelete="CASCADE")
    )
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    decision: Mapped[str]
    arguments: Mapped[Any | None] = mapped_column(JSONB)
    note: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    question: Mapped[int] = mapped_column(server_default=text("1"))
    scope: Mapped[str] = mapped_column(server_default="once")


class ToolGrant(Base):
    """A tool that somebody's turns need not ask for: in one turn, or in one conversation.

    Attributes:
        user_id: Whose turns; nobody else may have written in them.
        granted_by: Everybody whose approval it took, each still entitled when it is used.
        turn_id: Null for the whole conversation.
    """

    __tablename__ = "tool_grants"
    __table_args__ = (
        CheckConstraint("approvers IN ('editor', 'owner', 'admin')", name="approvers"),
        Index(None, "conversation_id"),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE")
    )
    turn_id: Mapped[UUID | None] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    tool_execution_id: Mapped[UUID] = mapped_column(
        ForeignKey("tool_executions.id", ondelete="CASCADE")
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    tool: Mapped[str]
    effect: Mapped[str]
    approvers: Mapped[str]
    approvals: Mapped[int]
    not_asker: Mapped[bool]
    granted_by: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    created_at: Mapped[datetime] = now()
