"""Tables. Names are the field's; every tenant table has ``tenant_id`` and a row-level policy.

The policies, the functions that may look across tenants and the grants are in ``migrations/``;
the one door for reading and writing is `store.database.Database.tenant_session`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Registry of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it as a class attribute
        str: Text,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        UUID: Uuid,
    }


def _tenant() -> Mapped[UUID]:
    return mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=uuid4)


def _now() -> Mapped[datetime]:
    # The wall clock, not the transaction's start: rows of one transaction keep their order.
    return mapped_column(server_default=func.clock_timestamp())


def _json(default: str) -> Mapped[Any]:
    return mapped_column(JSONB, server_default=text(f"'{default}'::jsonb"))


class Tenant(Base):
    """A customer of the installation (the "client" of a single-tenant deployment)."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = _id()
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    ai_api_url: Mapped[str | None]
    ai_api_key: Mapped[bytes | None]
    ai_api_key_hint: Mapped[str | None]
    ai_api_model: Mapped[str | None]
    ai_api_kind: Mapped[str] = mapped_column(server_default="chat_completions")
    limits: Mapped[dict[str, Any]] = _json("{}")
    created_at: Mapped[datetime] = _now()


class TenantDomain(Base):
    """Host names and e-mail domains that lead to a tenant; unique over the installation."""

    __tablename__ = "tenant_domains"

    domain: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = _tenant()


class User(Base):
    """A person of a tenant."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("tenant_id", "email"),
        CheckConstraint("role IN ('admin', 'member')", name="role"),
        Index(None, "email"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="member")
    installation_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = _now()


class Session(Base):
    """A browser sign-in; only the SHA-256 of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    address: Mapped[str | None]
    user_agent: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    expires_at: Mapped[datetime]


class ApiToken(Base):
    """A personal API token; shown once, stored as SHA-256."""

    __tablename__ = "api_tokens"
    __table_args__ = (Index(None, "user_id"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class SocketTicket(Base):
    """A single-use ticket that opens one socket."""

    __tablename__ = "socket_tickets"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = _tenant()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]


class Project(Base):
    """A workspace of a tenant; its live side is its room."""

    __tablename__ = "projects"
    __table_args__ = (Index(None, "tenant_id"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    instructions: Mapped[str] = mapped_column(server_default="")
    settings: Mapped[dict[str, Any]] = _json("{}")
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class ProjectMember(Base):
    """Who may be in a project, and as what."""

    __tablename__ = "project_members"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'editor', 'viewer')", name="role"),
        Index(None, "user_id"),
    )

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    tenant_id: Mapped[UUID] = _tenant()
    role: Mapped[str]
    created_at: Mapped[datetime] = _now()


class Datasource(Base):
    """Something a project's tools may query; `secret` is encrypted, bound to the tenant.

    Attributes:
        cache_seconds: For how long results of reading tools are given again; 0 for not at all.
    """

    __tablename__ = "datasources"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    config: Mapped[dict[str, Any]]
    secret: Mapped[bytes | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    writable: Mapped[bool] = mapped_column(server_default=text("false"))
    grants: Mapped[list[Any]] = _json("[]")
    # Long, and read by one tool alone.
    operations: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), deferred=True)
    cache_seconds: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class CachedResult(Base):
    """A reading tool's result that may be given again until it is too old (`store.tool_cache`).

    Attributes:
        key: SHA-256 of everything the result depends on, the datasource's version included.
        bytes: Of the result as JSON.
    """

    __tablename__ = "tool_cache"
    __table_args__ = (
        Index(None, "project_id"),
        Index(None, "datasource_id"),
        Index(None, "expires_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[bytes] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    datasource_id: Mapped[UUID] = mapped_column(ForeignKey("datasources.id", ondelete="CASCADE"))
    tool: Mapped[str]
    result: Mapped[Any] = mapped_column(JSONB)
    bytes: Mapped[int]
    created_at: Mapped[datetime] = _now()
    expires_at: Mapped[datetime]


class McpServer(Base):
    """An MCP server whose tools a project may use; `secret` is encrypted, bound to the tenant.

    Attributes:
        slug: What the server is called in the names of its tools; stays as long as the server.
        url: ``http(s)://…``, or ``stdio:<name>`` of the operator's configuration.
        legacy: Whether it spoke a protocol that begins with ``initialize``; null: not known yet.
        problem: Why its tools could not be read the last time.
        dropped: Tools that were not taken, each with the reason.
        check_after: When its tools are read again.
    """

    __tablename__ = "mcp_servers"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        UniqueConstraint("project_id", "slug"),
        Index(None, "check_after"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    slug: Mapped[str]
    url: Mapped[str]
    secret: Mapped[bytes | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    legacy: Mapped[bool | None]
    problem: Mapped[str | None]
    dropped: Mapped[list[Any]] = _json("[]")
    checked_at: Mapped[datetime | None]
    check_after: Mapped[datetime] = _now()
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class McpTool(Base):
    """A tool as its server describes it, and what of it an owner has approved.

    Attributes:
        name: The server's own.
        call_name: What the model calls.
        hints: The server's annotations; what it says of itself.
        hash: Of everything that the server says of the tool.
        approved_hash: The `hash` an owner agreed to; another one is not offered and does not run.
        read_only: An owner said that it only reads.
        listed: The server still has it.
    """

    __tablename__ = "mcp_tools"
    __table_args__ = (
        UniqueConstraint("server_id", "name"),
        UniqueConstraint("server_id", "call_name"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    server_id: Mapped[UUID] = mapped_column(ForeignKey("mcp_servers.id", ondelete="CASCADE"))
    name: Mapped[str]
    call_name: Mapped[str]
    description: Mapped[str]
    input_schema: Mapped[dict[str, Any]]
    hints: Mapped[dict[str, Any]] = _json("{}")
    hash: Mapped[str]
    approved_hash: Mapped[str | None]
    approved_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    approved_at: Mapped[datetime | None]
    read_only: Mapped[bool] = mapped_column(server_default=text("false"))
    listed: Mapped[bool] = mapped_column(server_default=text("true"))


class Conversation(Base):
    """A thread of turns in a project. `turn_count` numbers them under the row's lock."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "project_id", "updated_at"), Index(None, "user_id"))

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    title: Mapped[str]
    turn_count: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class Turn(Base):
    """One user message on its way to a terminal state.

    Attributes:
        number: Place among the conversation's turns, from 1.
        last_error: What the model's last failed attempt said, for people; no secrets.
        admitted_at: Since when the turn may run; null while it waits (`store.admission`).
        waiting_since: Since when people are waited for; null while nobody is (`store.waiting`).
        waited_seconds: For how long people were waited for, all earlier questions together.
    """

    __tablename__ = "turns"
    __table_args__ = (
        UniqueConstraint("conversation_id", "number"),
        Index(
            "ix_turns_open",
            "conversation_id",
            postgresql_where=text("status IN ('queued', 'running', 'awaiting_approval')"),
        ),
        Index(
            "ix_turns_places",
            "tenant_id",
            "created_at",
            postgresql_where=text("status IN ('queued', 'running', 'awaiting_approval')"),
        ),
        # Whether any other tenant has asked lately.
        Index("ix_turns_recent", "created_at", "tenant_id"),
        Index(None, "project_id"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE")
    )
    message_id: Mapped[UUID]
    number: Mapped[int]
    status: Mapped[str]
    code: Mapped[str | None]
    detail: Mapped[str | None]
    last_error: Mapped[dict[str, Any] | None]
    asked_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    stopped_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    stop_requested_at: Mapped[datetime | None]
    steps: Mapped[int] = mapped_column(server_default=text("0"))
    usage: Mapped[dict[str, Any]] = _json("{}")
    created_at: Mapped[datetime] = _now()
    admitted_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    waiting_since: Mapped[datetime | None]
    waited_seconds: Mapped[float] = mapped_column(server_default=text("0"))


class Message(Base):
    """A message. Order within a conversation is (`turn_number`, `position`).

    Attributes:
        step: Which model call of the turn wrote it; null for people's messages.
        epoch: Generation attempt, from 1 for assistant messages.
        generation: Under which name the model's server keeps the answer that streams, if it does.
    """

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("conversation_id", "client_message_id"),
        UniqueConstraint("conversation_id", "turn_number", "position"),
        UniqueConstraint("turn_id", "step"),
        CheckConstraint("role IN ('user', 'assistant', 'system')", name="role"),
        CheckConstraint("status IN ('streaming', 'complete', 'stopped', 'failed')", name="status"),
        Index(None, "user_id", "created_at"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    conversation_id: Mapped[UUID] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE")
    )
    turn_id: Mapped[UUID | None] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"))
    turn_number: Mapped[int]
    position: Mapped[int]
    step: Mapped[int | None]
    role: Mapped[str]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    client_message_id: Mapped[str | None]
    content: Mapped[str]
    status: Mapped[str]
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    tool_calls: Mapped[list[Any]] = _json("[]")
    extra: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'::jsonb")
    )
    generation: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


class Draft(Base):
    """Checkpoint of a text that streams. Unlogged: a lost draft is only a retry.

    Attributes:
        generation: Whose text it is, where the model's server can go on with it.
        cursor: The last event of that generation which `content` covers; null: none is safe.
    """

    __tablename__ = "drafts"
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 -- SQLAlchemy's own convention

    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    epoch: Mapped[int]
    content: Mapped[str]
    generation: Mapped[str | None]
    cursor: Mapped[int | None]


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

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
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
    created_at: Mapped[datetime] = _now()
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

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    tool_execution_id: Mapped[UUID] = mapped_column(
        ForeignKey("tool_executions.id", ondelete="CASCADE")
    )
    number: Mapped[int]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    action: Mapped[str]
    note: Mapped[str | None]
    attempt: Mapped[int]
    client_intervention_id: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    heard_at: Mapped[datetime | None]


class FileRemoval(Base):
    """Files of a project that are to be removed; written by triggers, also in cascades.

    Attributes:
        path: One file; null for the whole folder of a project that is gone.
    """

    __tablename__ = "file_removals"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID]
    project_id: Mapped[UUID]
    path: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


class ToolPolicy(Base):
    """Allow, ask or deny, by glob and effect; a project may only tighten its tenant's."""

    __tablename__ = "tool_policies"
    __table_args__ = (
        CheckConstraint("policy IN ('allow', 'ask', 'deny')", name="policy"),
        Index(None, "tenant_id", "project_id"),
    )

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
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

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    tool_execution_id: Mapped[UUID] = mapped_column(
        ForeignKey("tool_executions.id", ondelete="CASCADE")
    )
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    decision: Mapped[str]
    arguments: Mapped[Any | None] = mapped_column(JSONB)
    note: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
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

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
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
    created_at: Mapped[datetime] = _now()


class Room(Base):
    """Head of a project's event log. Narrow, because every event locks it."""

    __tablename__ = "rooms"

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    tenant_id: Mapped[UUID] = _tenant()
    head: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class RoomEvent(Base):
    """A durable event; `seq` is gap-free within its project."""

    __tablename__ = "room_events"
    __table_args__ = (Index(None, "created_at"),)

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant_id: Mapped[UUID] = _tenant()
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = _now()


class AuditEntry(Base):
    """Append-only: the application's role may insert and read, never change."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "tenant_id", "at"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    at: Mapped[datetime] = _now()
    user_id: Mapped[UUID | None]
    email: Mapped[str | None]
    address: Mapped[str | None]
    action: Mapped[str]
    resource_type: Mapped[str]
    resource_id: Mapped[str | None]
    outcome: Mapped[str]
    reason: Mapped[str | None]
    project_id: Mapped[UUID | None]
    turn_id: Mapped[UUID | None]
    tool_execution_id: Mapped[UUID | None]


class Usage(Base):
    """Tokens of one model call attempt."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "tenant_id", "at"),)

    id: Mapped[UUID] = _id()
    tenant_id: Mapped[UUID] = _tenant()
    project_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    turn_id: Mapped[UUID]
    step: Mapped[int]
    epoch: Mapped[int]
    model: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    completion_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    at: Mapped[datetime] = _now()


class HttpPace(Base):
    """When a tenant's tools have asked a host within the last minute (store/http_pace.py)."""

    __tablename__ = "http_pace"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    host: Mapped[str] = mapped_column(primary_key=True)
    asked_at: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
