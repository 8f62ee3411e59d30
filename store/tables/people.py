"""Tenants, their people and the projects they share."""

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
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, json_column, new_id, now, tenant_key


class Tenant(Base):
    """A customer of the installation (the "client" of a single-tenant deployment)."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = new_id()
    name: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    ai_api_url: Mapped[str | None]
    ai_api_key: Mapped[bytes | None]
    ai_api_key_hint: Mapped[str | None]
    ai_api_model: Mapped[str | None]
    ai_api_kind: Mapped[str] = mapped_column(server_default="chat_completions")
    limits: Mapped[dict[str, Any]] = json_column("{}")
    created_at: Mapped[datetime] = now()


class TenantDomain(Base):
    """Host names and e-mail domains that lead to a tenant; unique over the installation."""

    __tablename__ = "tenant_domains"

    domain: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = tenant_key()


class User(Base):
    """A person of a tenant."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("tenant_id", "email"),
        CheckConstraint("role IN ('admin', 'member')", name="role"),
        Index(None, "email"),
    )

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="member")
    installation_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = now()


class Session(Base):
    """A browser sign-in; only the SHA-256 of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    address: Mapped[str | None]
    user_agent: Mapped[str | None]
    created_at: Mapped[datetime] = now()
    expires_at: Mapped[datetime]


class ApiToken(Base):
    """A personal API token; shown once, stored as SHA-256."""

    __tablename__ = "api_tokens"
    __table_args__ = (Index(None, "user_id"),)

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = now()


class SocketTicket(Base):
    """A single-use ticket that opens one socket."""

    __tablename__ = "socket_tickets"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = tenant_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]


class Project(Base):
    """A workspace of a tenant; its live side is its room."""

    __tablename__ = "projects"
    __table_args__ = (Index(None, "tenant_id"),)

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    instructions: Mapped[str] = mapped_column(server_default="")
    settings: Mapped[dict[str, Any]] = json_column("{}")
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


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
    tenant_id: Mapped[UUID] = tenant_key()
    role: Mapped[str]
    created_at: Mapped[datetime] = now()
