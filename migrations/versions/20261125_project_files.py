"""Project files: where large results are kept, and which files are to be removed.

The files themselves are in a folder. Whatever deletes a conversation, a project or a tenant, by
whichever way, leaves a row in ``file_removals``; whoever has the folder carries it out.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# As the owner: the rows are written in cascades, and nobody else may write them.
FUNCTIONS = {
    "project_files_removal()": """
        RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO file_removals (id, tenant_id, project_id)
            VALUES (gen_random_uuid(), OLD.tenant_id, OLD.id);
            RETURN OLD;
        END $$""",
    # An attempt that was lost may have kept its result without saying so.
    "conversation_results_removal()": """
        RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO file_removals (id, tenant_id, project_id, path)
            SELECT gen_random_uuid(), e.tenant_id, t.project_id,
                   coalesce(e.result_file, 'results/' || e.tool_name || '-' || e.id || '.json')
            FROM tool_executions e JOIN turns t ON t.id = e.turn_id
            WHERE t.conversation_id = OLD.id
              AND (e.result_file IS NOT NULL OR e.attempt > 1 OR e.execution_status = 'unknown');
            RETURN OLD;
        END $$""",
    "file_removals_due(integer)": """
        RETURNS TABLE (id uuid, tenant_id uuid, project_id uuid, path text)
        LANGUAGE sql STABLE AS $$
            SELECT r.id, r.tenant_id, r.project_id, r.path FROM file_removals r
            ORDER BY r.created_at LIMIT $1
        $$""",
}


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.add_column("tool_executions", sa.Column("result_file", sa.Text(), nullable=True))
    op.create_table(
        "file_removals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"), nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="pk_file_removals"),
    )  # fmt: skip
    op.create_index("ix_file_removals_created_at", "file_removals", ["created_at"])
    op.execute("ALTER TABLE file_removals ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON file_removals USING (tenant_id = {CURRENT_TENANT})"
        f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT SELECT, DELETE ON file_removals TO {app}")
    for function, body in FUNCTIONS.items():
        op.execute(
            f"CREATE FUNCTION {function} {body} SECURITY DEFINER SET search_path = public, pg_temp"
        )
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION file_removals_due(integer) TO {app}")
    op.execute(
        "CREATE TRIGGER files_removal AFTER DELETE ON projects"
        " FOR EACH ROW EXECUTE FUNCTION project_files_removal()"
    )
    op.execute(
        "CREATE TRIGGER results_removal BEFORE DELETE ON conversations"
        " FOR EACH ROW EXECUTE FUNCTION conversation_results_removal()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER results_removal ON conversations")
    op.execute("DROP TRIGGER files_removal ON projects")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("file_removals")
    op.drop_column("tool_executions", "result_file")
