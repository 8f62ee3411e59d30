"""MCP servers of a project, and what of their tools is approved (store/mcp_servers.py)."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = ("mcp_servers", "mcp_tools")
CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# Over all tenants, for the worker that reads the tools anew; each is given to one worker only.
CLAIM_CHECKS = """
    CREATE FUNCTION claim_mcp_checks(next_after interval, at_most integer)
    RETURNS TABLE (tenant_id uuid, server_id uuid)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        UPDATE mcp_servers m SET check_after = now() + next_after
        WHERE m.id IN (
            SELECT s.id FROM mcp_servers s WHERE s.check_after <= now()
            ORDER BY s.check_after LIMIT at_most FOR UPDATE SKIP LOCKED)
        RETURNING m.tenant_id, m.id
    $$"""
FUNCTION = "claim_mcp_checks(interval, integer)"


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("clock_timestamp()"),
        nullable=False,
    )


def _of(name: str, target: str, ondelete: str, *, nullable: bool = False) -> sa.Column[Any]:
    key = sa.ForeignKey(f"{target}.id", ondelete=ondelete)
    return sa.Column(name, sa.Uuid(), key, nullable=nullable)


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.create_table(
        "mcp_servers",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _of("tenant_id", "tenants", "CASCADE"),
        _of("project_id", "projects", "CASCADE"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("legacy", sa.Boolean(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("dropped", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        _now("check_after"),
        _now("created_at"),
        _now("updated_at"),
        sa.UniqueConstraint("project_id", "name"),
        sa.UniqueConstraint("project_id", "slug"),
    )
    op.create_index("ix_mcp_servers_check_after", "mcp_servers", ["check_after"])
    op.create_table(
        "mcp_tools",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _of("tenant_id", "tenants", "CASCADE"),
        _of("server_id", "mcp_servers", "CASCADE"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("call_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("input_schema", JSONB(), nullable=False),
        sa.Column("hints", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("approved_hash", sa.Text(), nullable=True),
        _of("approved_by", "users", "SET NULL", nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("listed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.UniqueConstraint("server_id", "name"),
        sa.UniqueConstraint("server_id", "call_name"),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} USING (tenant_id = {CURRENT_TENANT})"
            f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {app}")
    op.execute(CLAIM_CHECKS)
    op.execute(f"REVOKE ALL ON FUNCTION {FUNCTION} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {FUNCTION} TO {app}")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {FUNCTION}")
    for table in reversed(TABLES):
        op.drop_table(table)
