"""What the tools of a project reach: datasources, MCP servers, files, hosts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    DateTime,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, json_column, new_id, now, tenant_key


class Datasource(Base):
    """Something a project's tools may query; `secret` is encrypted, bound to the tenant.

    Attributes:
        cache_seconds: For how long results of reading tools are given again; 0 for not at all.
    """

    __tablename__ = "datasources"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    config: Mapped[dict[str, Any]]
    secret: Mapped[bytes | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    writable: Mapped[bool] = mapped_column(server_default=text("false"))
    grants: Mapped[list[Any]] = json_column("[]")
    # Long, and read by one tool alone.
    operations: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), deferred=True)
    cache_seconds: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


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
    created_at: Mapped[datetime] = now()
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

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    slug: Mapped[str]
    url: Mapped[str]
    secret: Mapped[bytes | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    legacy: Mapped[bool | None]
    problem: Mapped[str | None]
    dropped: Mapped[list[Any]] = json_column("[]")
    checked_at: Mapped[datetime | None]
    check_after: Mapped[datetime] = now()
    created_at: Mapped[datetime] = now()
    updated_at: Mapped[datetime] = now()


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

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID] = tenant_key()
    server_id: Mapped[UUID] = mapped_column(ForeignKey("mcp_servers.id", ondelete="CASCADE"))
    name: Mapped[str]
    call_name: Mapped[str]
    description: Mapped[str]
    input_schema: Mapped[dict[str, Any]]
    hints: Mapped[dict[str, Any]] = json_column("{}")
    hash: Mapped[str]
    approved_hash: Mapped[str | None]
    approved_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    approved_at: Mapped[datetime | None]
    read_only: Mapped[bool] = mapped_column(server_default=text("false"))
    listed: Mapped[bool] = mapped_column(server_default=text("true"))


class FileRemoval(Base):
    """Files of a project that are to be removed; written by triggers, also in cascades.

    Attributes:
        path: One file; null for the whole folder of a project that is gone.
    """

    __tablename__ = "file_removals"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[UUID] = new_id()
    tenant_id: Mapped[UUID]
    project_id: Mapped[UUID]
    path: Mapped[str | None]
    created_at: Mapped[datetime] = now()


class HttpPace(Base):
    """When a tenant's tools have asked a host within the last minute (store/http_pace.py)."""

    __tablename__ = "http_pace"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    host: Mapped[str] = mapped_column(primary_key=True)
    asked_at: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)))
