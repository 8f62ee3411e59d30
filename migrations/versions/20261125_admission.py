"""Places: which turns of a tenant may run at once (store/admission.py).

Housekeeping asks for open turns that hold a place, and for tenants of which a turn waits for one.
A turn that was started before this revision holds its place from here on.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = "('queued', 'running', 'awaiting_approval')"

OPEN_TURNS = """
    CREATE OR REPLACE FUNCTION open_turns(older_than interval, at_most integer)
    RETURNS TABLE (tenant_id uuid, project_id uuid, conversation_id uuid, turn_id uuid,
                   status text, is_first boolean, stop_requested boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT t.tenant_id, t.project_id, t.conversation_id, t.id, t.status,
               NOT EXISTS (
                   SELECT 1 FROM turns o
                   WHERE o.conversation_id = t.conversation_id AND o.number < t.number
                     AND o.status IN {OPEN}),
               t.stop_requested_at IS NOT NULL
        FROM turns t
        WHERE t.status IN {OPEN} AND {since} < now() - older_than
        ORDER BY {since} LIMIT at_most
    $$"""

# Those that have waited longest first: one sweep may not reach everybody.
WAITING_TENANTS = """
    CREATE FUNCTION tenants_waiting(older_than interval, at_most integer)
    RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT t.tenant_id FROM turns t
        WHERE t.status IN {OPEN} AND t.admitted_at IS NULL
          AND NOT EXISTS (
              SELECT 1 FROM turns o
              WHERE o.conversation_id = t.conversation_id AND o.number < t.number
                AND o.status IN {OPEN})
        GROUP BY t.tenant_id HAVING min(t.created_at) < now() - older_than
        ORDER BY min(t.created_at) LIMIT at_most
    $$"""

# As the caller: row-level security holds. The second statement sees what was committed while the
# first waited. The lock's key is store.admission's.
ADMIT_TURNS = """
    CREATE FUNCTION admit_turns(tenant uuid, places integer, at_most integer)
    RETURNS SETOF turns
    LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('admission ' || tenant, 0));
        RETURN QUERY
        UPDATE turns SET admitted_at = clock_timestamp()
        WHERE id IN (
            SELECT w.id FROM turns w
            WHERE w.tenant_id = tenant AND w.admitted_at IS NULL AND w.status IN {OPEN}
              AND NOT EXISTS (
                  SELECT 1 FROM turns o
                  WHERE o.conversation_id = w.conversation_id AND o.number < w.number
                    AND o.status IN {OPEN})
            ORDER BY w.created_at, w.id
            LIMIT greatest(0, least(at_most, places - (
                SELECT count(*) FROM turns h
                WHERE h.tenant_id = tenant AND h.admitted_at IS NOT NULL
                  AND h.status IN ('queued', 'running')))))
        RETURNING turns.*;
    END $$"""
# What each of ours may be called with, by the application alone.
FUNCTIONS = ("tenants_waiting(interval, integer)", "admit_turns(uuid, integer, integer)")


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.add_column("turns", sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE turns t SET admitted_at = coalesce(t.started_at, t.created_at)"
        f" WHERE t.status IN {OPEN} AND NOT EXISTS ("
        "  SELECT 1 FROM turns o WHERE o.conversation_id = t.conversation_id"
        f" AND o.number < t.number AND o.status IN {OPEN})"
    )
    op.create_index(
        "ix_turns_places",
        "turns",
        ["tenant_id", "created_at"],
        postgresql_where=sa.text(f"status IN {OPEN}"),
    )
    op.execute(OPEN_TURNS.format(OPEN=OPEN, since="t.admitted_at"))
    op.execute(WAITING_TENANTS.format(OPEN=OPEN))
    op.execute(ADMIT_TURNS.format(OPEN=OPEN))
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {app}")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.execute(OPEN_TURNS.format(OPEN=OPEN, since="t.created_at"))
    op.drop_index("ix_turns_places", "turns")
    op.drop_column("turns", "admitted_at")
