"""Conversations, their turns and messages."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, json_column, new_id, now, tenant_key


class Conversation(Base):
    """A thread of turns in a project. `turn_count` numbers them under the row's lock."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "project_id", "updated_at"), Index(None, "user_id"))

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    title: Mapped[str]
    turn_count: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


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

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
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
    usage: Mapped[dict[str, Any]] = json_column("{}")
    created_at: Mapped[datetime] = now()
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

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
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
    tool_calls: Mapped[list[Any]] = json_column("[]")
    extra: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'::jsonb")
    )
    generation: Mapped[str | None]
    created_at: Mapped[datetime] = now()


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
