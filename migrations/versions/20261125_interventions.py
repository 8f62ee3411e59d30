"""People's interventions in tool calls, and what tells whether one hangs."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# Each call is looked after by one edge at a time: it takes those that nobody has looked at lately.
# `usual_ms` is what nine of ten such calls took. Over all tenants; tells ids and times alone.
WATCH = """
    CREATE FUNCTION watch_tool_executions(older_than interval, lease interval, at_most integer)
    RETURNS TABLE (tenant_id uuid, turn_id uuid, execution_id uuid, tool_name text, queue text,
                   status text, attempt integer, stalled jsonb, started_at timestamptz,
                   seen_at timestamptz, usual_ms double precision)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH due AS (
            SELECT e.id FROM tool_executions e
            JOIN turns t ON t.id = e.turn_id
                AND t.status IN ('queued', 'running', 'awaiting_approval')
            WHERE e.execution_status IN ('pending', 'executing')
              AND e.created_at < clock_timestamp() - older_than
              AND coalesce(e.watched_at, e.created_at) < clock_timestamp() - lease
            ORDER BY e.watched_at NULLS FIRST
            LIMIT at_most
            FOR UPDATE OF e SKIP LOCKED
        ), taken AS (
            UPDATE tool_executions e SET watched_at = clock_timestamp()
            FROM due WHERE e.id = due.id RETURNING e.*
        )
        SELECT e.tenant_id, e.turn_id, e.id, e.tool_name, e.queue, e.execution_status, e.attempt,
               e.stalled, e.started_at, e.watched_at,
               (SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY d.execution_time_ms)
                FROM (SELECT c.execution_time_ms FROM tool_executions c
                      WHERE c.tenant_id = e.tenant_id AND c.tool_name = e.tool_name
                        AND c.execution_status = 'completed'
                      ORDER BY c.finished_at DESC LIMIT 50) d
                HAVING count(*) >= 5)
        FROM taken e
    $$"""
UNHEARD = """
    CREATE FUNCTION unheard_interventions(older_than interval, at_most integer)
    RETURNS TABLE (turn_id uuid, tool_execution_id uuid, intervention_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT t.id, i.tool_execution_id, i.id
        FROM tool_interventions i
        JOIN tool_executions e ON e.id = i.tool_execution_id
        JOIN turns t ON t.id = e.turn_id
            AND t.status IN ('queued', 'running', 'awaiting_approval')
        WHERE i.heard_at IS NULL AND i.created_at < clock_timestamp() - older_than
        ORDER BY i.created_at LIMIT at_most
    $$"""
FUNCTIONS = (
    "watch_tool_executions(interval, interval, integer)",
    "unheard_interventions(interval, integer)",
)


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    for column in (
        sa.Column("taken_over", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("workflow_run", sa.Text(), nullable=True),
        sa.Column("stalled", postgresql.JSONB(), nullable=True),
        sa.Column("intervention", postgresql.JSONB(), nullable=True),
        sa.Column("watched_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("tool_executions", column)
    op.create_index(
        "ix_tool_executions_running",
        "tool_executions",
        ["created_at"],
        postgresql_where=sa.text("execution_status IN ('pending', 'executing')"),
    )
    op.create_index(
        "ix_tool_executions_times",
        "tool_executions",
        ["tenant_id", "tool_name", "finished_at"],
        postgresql_where=sa.text("execution_status = 'completed'"),
    )
    op.create_table(
        "tool_interventions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("tool_execution_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("client_intervention_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("action IN ('retry', 'skip', 'cancel')", name="action"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tool_execution_id"], ["tool_executions.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tool_execution_id", "number"),
        sa.UniqueConstraint("tool_execution_id", "client_intervention_id"),
    )
    op.create_index(
        "ix_tool_interventions_unheard",
        "tool_interventions",
        ["created_at"],
        postgresql_where=sa.text("heard_at IS NULL"),
    )
    op.execute("ALTER TABLE tool_interventions ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON tool_interventions USING (tenant_id = {CURRENT_TENANT})"
        f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON tool_interventions TO {app}")
    for body in (WATCH, UNHEARD):
        op.execute(body)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {app}")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("tool_interventions")
    op.drop_index("ix_tool_executions_times", "tool_executions")
    op.drop_index("ix_tool_executions_running", "tool_executions")
    for column in ("watched_at", "intervention", "stalled", "workflow_run", "taken_over"):
        op.drop_column("tool_executions", column)
