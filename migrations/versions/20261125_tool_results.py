"""Tool results kept for a while, and limits on tool calls per tenant and user.

Calls are counted in their own rows: who asked, when they began, what they brought.
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# As the caller: row-level security holds. The lock makes it exact: statements after it see every
# call of the tenant that was let in before. Says which rule forbids another call now, and after
# how many seconds it may pass; no row where none does.
TOOL_ALLOWANCE = """
    CREATE FUNCTION tool_allowance(
        tenant uuid, asker uuid, per_minute integer, per_user integer, max_bytes bigint,
        at_once integer)
    RETURNS TABLE (rule text, seconds double precision)
    LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp AS $$
    DECLARE
        since timestamptz;
        -- The call, or result, that has to be a minute old before another may pass.
        deciding timestamptz;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('tools ' || tenant, 0));
        since := clock_timestamp() - interval '1 minute';
        SELECT e.started_at INTO deciding FROM tool_executions e
        WHERE e.tenant_id = tenant AND e.started_at > since
        ORDER BY e.started_at DESC OFFSET per_minute - 1 LIMIT 1;
        IF FOUND THEN
            RETURN QUERY SELECT 'tool_calls_per_minute',
                extract(epoch FROM deciding - since)::double precision;
            RETURN;
        END IF;
        SELECT e.started_at INTO deciding FROM tool_executions e JOIN turns t ON t.id = e.turn_id
        WHERE e.tenant_id = tenant AND e.started_at > since AND t.asked_by = asker
        ORDER BY e.started_at DESC OFFSET per_user - 1 LIMIT 1;
        IF FOUND THEN
            RETURN QUERY SELECT 'tool_calls_per_user_minute',
                extract(epoch FROM deciding - since)::double precision;
            RETURN;
        END IF;
        SELECT b.finished_at INTO deciding FROM (
            SELECT e.finished_at, sum(e.result_bytes) OVER (ORDER BY e.finished_at DESC) AS total
            FROM tool_executions e WHERE e.tenant_id = tenant AND e.finished_at > since) b
        WHERE b.total >= max_bytes ORDER BY b.finished_at DESC LIMIT 1;
        IF FOUND THEN
            RETURN QUERY SELECT 'tool_result_bytes_per_minute',
                extract(epoch FROM deciding - since)::double precision;
            RETURN;
        END IF;
        IF (SELECT count(*) FROM tool_executions e
            WHERE e.tenant_id = tenant AND e.execution_status = 'executing') >= at_once THEN
            RETURN QUERY SELECT 'concurrent_tools', 1.0::double precision;
        END IF;
    END $$"""
ALLOWANCE_TYPES = "tool_allowance(uuid, uuid, integer, integer, bigint, integer)"

# Over all tenants, hence not as the caller.
PRUNE = """
    CREATE FUNCTION prune_tool_cache() RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH gone AS (DELETE FROM tool_cache WHERE expires_at <= now() RETURNING 1)
        SELECT count(*) FROM gone
    $$"""


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.add_column(
        "datasources",
        sa.Column("cache_seconds", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "tool_executions",
        sa.Column("result_bytes", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    op.create_index(
        "ix_tool_executions_tenant_id_started_at", "tool_executions", ["tenant_id", "started_at"]
    )
    op.create_index(
        "ix_tool_executions_tenant_id_finished_at", "tool_executions", ["tenant_id", "finished_at"]
    )
    op.create_index(
        "ix_tool_executions_executing",
        "tool_executions",
        ["tenant_id"],
        postgresql_where=sa.text("execution_status = 'executing'"),
    )
    op.create_table(
        "tool_cache",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("datasource_id", sa.Uuid(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_tool_cache_tenant_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_tool_cache_project_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["datasource_id"],
            ["datasources.id"],
            name=op.f("fk_tool_cache_datasource_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("pk_tool_cache")),
    )
    for column in ("project_id", "datasource_id", "expires_at"):
        op.create_index(op.f(f"ix_tool_cache_{column}"), "tool_cache", [column])
    op.execute("ALTER TABLE tool_cache ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON tool_cache USING (tenant_id = {CURRENT_TENANT})"
        f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON tool_cache TO {app}")
    for statement, types in ((TOOL_ALLOWANCE, ALLOWANCE_TYPES), (PRUNE, "prune_tool_cache()")):
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION {types} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {types} TO {app}")


def downgrade() -> None:
    op.execute("DROP FUNCTION prune_tool_cache()")
    op.execute(f"DROP FUNCTION {ALLOWANCE_TYPES}")
    op.drop_table("tool_cache")
    for index in ("executing", "tenant_id_finished_at", "tenant_id_started_at"):
        op.drop_index(f"ix_tool_executions_{index}", "tool_executions")
    op.drop_column("tool_executions", "result_bytes")
    op.drop_column("datasources", "cache_seconds")
