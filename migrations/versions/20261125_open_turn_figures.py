"""What the worker's metrics count over all tenants: numbers only."""

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Queued turns wait for others on purpose: their age is counted from the start of the wait, that of
# the others from their own start.
FUNCTION = """
    CREATE FUNCTION open_turn_figures()
    RETURNS TABLE (status text, turns bigint, oldest_seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT t.status, count(*),
               extract(epoch FROM now() - min(coalesce(t.started_at, t.created_at)))
        FROM turns t WHERE t.status IN ('queued', 'running', 'awaiting_approval')
        GROUP BY t.status
    $$
"""


def _quoted(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def upgrade() -> None:
    app = _quoted(context.config.attributes["app_role"])
    op.execute(FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION open_turn_figures() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION open_turn_figures() TO {app}")


def downgrade() -> None:
    op.execute("DROP FUNCTION open_turn_figures()")
