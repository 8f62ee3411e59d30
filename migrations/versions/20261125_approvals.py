"""Approvals: questions to people, what they said, and what need not be asked again.

Four functions tell housekeeping, over all tenants, where a turn and its questions do not fit
together; they give ids and nothing else.
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"
OPEN = "('queued', 'running', 'awaiting_approval')"
AS_OWNER = "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp"

FUNCTIONS = {
    # Questions whose time is over and that no run has closed.
    "expired_questions(older_than interval, at_most integer)": f"""
        RETURNS TABLE (tenant_id uuid, turn_id uuid, tool_execution_id uuid)
        {AS_OWNER} AS $$
            SELECT e.tenant_id, e.turn_id, e.id
            FROM tool_executions e JOIN turns t ON t.id = e.turn_id
            WHERE e.execution_status = 'awaiting_approval' AND t.status IN {OPEN}
              AND e.expires_at < now() - older_than
            ORDER BY e.expires_at LIMIT at_most
        $$""",
    # Decisions that the turn's run may not have heard of.
    "untold_decisions(older_than interval, at_most integer)": f"""
        RETURNS TABLE (tenant_id uuid, turn_id uuid, tool_execution_id uuid)
        {AS_OWNER} AS $$
            SELECT e.tenant_id, e.turn_id, e.id
            FROM tool_executions e JOIN turns t ON t.id = e.turn_id
            WHERE e.decided_at IS NOT NULL AND e.told_at IS NULL AND t.status IN {OPEN}
              AND e.decided_at < now() - older_than
            ORDER BY e.decided_at LIMIT at_most
        $$""",
    # Turns whose status does not say what their calls do.
    "misstated_turns(at_most integer)": f"""
        RETURNS TABLE (tenant_id uuid, turn_id uuid)
        {AS_OWNER} AS $$
            SELECT t.tenant_id, t.id
            FROM turns t CROSS JOIN LATERAL (
                SELECT coalesce(bool_or(e.execution_status = 'awaiting_approval'), false) AS waits,
                       coalesce(bool_or(e.execution_status IN ('pending', 'executing')), false)
                           AS runs
                FROM tool_executions e WHERE e.turn_id = t.id) calls
            WHERE t.status IN ('running', 'awaiting_approval')
              AND ((t.status = 'awaiting_approval') <> (calls.waits AND NOT calls.runs)
                   OR (t.waiting_since IS NOT NULL) <> calls.waits)
            LIMIT at_most
        $$""",
    # Turns that should have ended long ago; while people are waited for their time stands still.
    "overdue_turns(default_seconds integer, margin interval, at_most integer)": f"""
        RETURNS TABLE (tenant_id uuid, turn_id uuid)
        {AS_OWNER} AS $$
            SELECT t.tenant_id, t.id
            FROM turns t JOIN tenants n ON n.id = t.tenant_id
            WHERE t.status IN ('queued', 'running') AND t.admitted_at IS NOT NULL
              AND t.waiting_since IS NULL
              AND coalesce(t.started_at, t.admitted_at) < now() - margin - make_interval(secs =>
                  t.waited_seconds + CASE
                      WHEN jsonb_typeof(n.limits -> 'turn_seconds') = 'number'
                      THEN (n.limits ->> 'turn_seconds')::double precision
                      ELSE default_seconds END)
            ORDER BY t.admitted_at LIMIT at_most
        $$""",
}


# A running turn's age is the time it did not wait for people.
FIGURES = f"""
    CREATE OR REPLACE FUNCTION open_turn_figures()
    RETURNS TABLE (status text, turns bigint, oldest_seconds double precision)
    {AS_OWNER} AS $$
        SELECT t.status, count(*),
               extract(epoch FROM now() - min({{since}}))
        FROM turns t WHERE t.status IN {OPEN}
        GROUP BY t.status
    $$"""
SINCE = "coalesce(t.started_at, t.created_at)"
SINCE_BUT_WAITS = SINCE + " + make_interval(secs => t.waited_seconds)"


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    moment = sa.DateTime(timezone=True)
    op.add_column("turns", sa.Column("waiting_since", moment, nullable=True))
    op.add_column(
        "turns",
        sa.Column("waited_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
    )
    for column in (
        sa.Column("question", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("approval", postgresql.JSONB(), nullable=True),
        sa.Column("argument_schema", postgresql.JSONB(), nullable=True),
        sa.Column("approved_arguments", sa.Text(), nullable=True),
        sa.Column("expires_at", moment, nullable=True),
        sa.Column("decided_at", moment, nullable=True),
        sa.Column("told_at", moment, nullable=True),
    ):
        op.add_column("tool_executions", column)
    op.create_index(
        "ix_tool_executions_waiting",
        "tool_executions",
        ["turn_id"],
        postgresql_where=sa.text("execution_status = 'awaiting_approval'"),
    )
    op.create_index(
        "ix_tool_executions_untold",
        "tool_executions",
        ["decided_at"],
        postgresql_where=sa.text("decided_at IS NOT NULL AND told_at IS NULL"),
    )
    op.add_column(
        "tool_decisions",
        sa.Column("question", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column(
        "tool_decisions",
        sa.Column("scope", sa.Text(), server_default="once", nullable=False),
    )
    op.drop_constraint("uq_tool_decisions_tool_execution_id_user_id", "tool_decisions")
    op.create_unique_constraint(
        "uq_tool_decisions_tool_execution_id_question_user_id_decision",
        "tool_decisions",
        ["tool_execution_id", "question", "user_id", "decision"],
    )
    op.create_check_constraint(
        op.f("ck_tool_decisions_decision"), "tool_decisions", "decision IN ('approve', 'deny')"
    )
    op.create_check_constraint(
        op.f("ck_tool_decisions_scope"),
        "tool_decisions",
        "scope IN ('once', 'turn', 'conversation')",
    )
    op.create_table(
        "tool_grants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("tool_execution_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("approvers", sa.Text(), nullable=False),
        sa.Column("approvals", sa.Integer(), nullable=False),
        sa.Column("not_asker", sa.Boolean(), nullable=False),
        sa.Column("granted_by", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column(
            "created_at", moment, server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("approvers IN ('editor', 'owner', 'admin')",
            name=op.f("ck_tool_grants_approvers"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tool_grants"),
        *(
            sa.ForeignKeyConstraint(
                [f"{noun}_id"], [f"{table}.id"], name=f"fk_tool_grants_{noun}_id",
                ondelete="CASCADE",
            )
            for noun, table in (
                ("tenant", "tenants"), ("project", "projects"),
                ("conversation", "conversations"), ("turn", "turns"),
                ("tool_execution", "tool_executions"), ("user", "users"),
            )
        ),
    )  # fmt: skip
    op.create_index("ix_tool_grants_conversation_id", "tool_grants", ["conversation_id"])
    op.execute("ALTER TABLE tool_grants ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON tool_grants USING (tenant_id = {CURRENT_TENANT})"
        f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON tool_grants TO {app}")
    op.execute(FIGURES.format(since=SINCE_BUT_WAITS))
    for signature, body in FUNCTIONS.items():
        op.execute(f"CREATE FUNCTION {signature} {body}")
        op.execute(f"REVOKE ALL ON FUNCTION {_types(signature)} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {_types(signature)} TO {app}")


def _types(signature: str) -> str:
    name, _, parameters = signature.rstrip(")").partition("(")
    return f"{name}({', '.join(each.split()[-1] for each in parameters.split(','))})"


def downgrade() -> None:
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {_types(signature)}")
    op.execute(FIGURES.format(since=SINCE))
    op.drop_table("tool_grants")
    op.drop_constraint("ck_tool_decisions_decision", "tool_decisions")
    op.drop_constraint("ck_tool_decisions_scope", "tool_decisions")
    op.drop_constraint(
        "uq_tool_decisions_tool_execution_id_question_user_id_decision", "tool_decisions"
    )
    op.execute(
        "DELETE FROM tool_decisions d USING tool_decisions o WHERE d.user_id = o.user_id"
        " AND d.tool_execution_id = o.tool_execution_id AND d.created_at < o.created_at"
    )
    op.create_unique_constraint(
        "uq_tool_decisions_tool_execution_id_user_id",
        "tool_decisions",
        ["tool_execution_id", "user_id"],
    )
    op.drop_column("tool_decisions", "scope")
    op.drop_column("tool_decisions", "question")
    op.drop_index("ix_tool_executions_untold", "tool_executions")
    op.drop_index("ix_tool_executions_waiting", "tool_executions")
    for column in ("told_at", "decided_at", "expires_at", "approved_arguments",
                   "argument_schema", "approval", "question"):  # fmt: skip
        op.drop_column("tool_executions", column)
    op.drop_column("turns", "waited_seconds")
    op.drop_column("turns", "waiting_since")
