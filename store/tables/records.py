"""What has happened: room events, the audit log, usage."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, new_id, now, tenant_key


class Room(Base):
    """Head of a project's event log. Narrow, because every event locks it."""

    __tablename__ = "rooms"

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    tenant_id: Mapped[UUID] = tenant_key()
    head: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class RoomEvent(Base):
    """A durable event; `seq` is gap-free within its project."""

    __tablename__ = "room_events"
    __table_args__ = (Index(None, "created_at"),)

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    tenant_id: Mapped[UUID] = tenant_key()
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = now()


class AuditEntry(Base):
    """Append-only: the application's role may insert and read, never change."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "tenant_id", "at"),)

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    at: Mapped[datetime] = now()
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

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    turn_id: Mapped[UUID]
    step: Mapped[int]
    epoch: Mapped[int]
    model: Mapped[str]
    prompt_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    completion_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    at: Mapped[datetime] = now()
