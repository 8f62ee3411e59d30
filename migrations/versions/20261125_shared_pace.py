"""The pace at which a tenant's turns begin while others are at work (store/admission.py).

The function with three arguments stays for processes of the version before, which run beside this
one during a deploy.
"""

from alembic import context, op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = "('queued', 'running', 'awaiting_approval')"

# Over all tenants, hence not as the caller; tells nothing but whether.
OTHERS_ASK = """
    CREATE FUNCTION others_ask(tenant uuid, within interval)
    RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT EXISTS (
            SELECT 1 FROM turns t
            WHERE t.created_at > now() - within AND t.tenant_id <> tenant)
    $$"""

# As the caller: row-level security holds. Statements after the lock see what was committed while
# it was waited for. `pace` is turns a second; `at_once` of them may begin together.
ADMIT_TURNS = f"""
    CREATE FUNCTION admit_turns(
        tenant uuid, places integer, at_most integer, pace integer, at_once integer,
        within interval)
    RETURNS TABLE (turn_id uuid, wait_seconds double precision)
    LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp AS $$
    DECLARE
        moment timestamptz;
        free integer;
        latest timestamptz[];
        spacing interval := interval '0';
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('admission ' || tenant, 0));
        moment := clock_timestamp();
        SELECT least(at_most, places - count(*)) INTO free FROM turns h
        WHERE h.tenant_id = tenant AND h.admitted_at IS NOT NULL
          AND h.status IN ('queued', 'running');
        IF free <= 0 THEN
            RETURN;
        END IF;
        IF others_ask(tenant, within) THEN
            spacing := make_interval(secs => 1.0 / pace);
            SELECT array_agg(r.admitted_at) INTO latest FROM (
                SELECT h.admitted_at FROM turns h
                WHERE h.tenant_id = tenant AND h.admitted_at IS NOT NULL AND h.status IN {OPEN}
                ORDER BY h.admitted_at DESC LIMIT at_once) r;
            IF latest[at_once] + at_once * spacing > moment THEN
                moment := greatest(moment, latest[1] + spacing);
            END IF;
        END IF;
        RETURN QUERY
        WITH waiting AS (
            SELECT w.id, row_number() OVER (ORDER BY w.created_at, w.id) AS place
            FROM turns w
            WHERE w.tenant_id = tenant AND w.admitted_at IS NULL AND w.status IN {OPEN}
              AND NOT EXISTS (
                  SELECT 1 FROM turns o
                  WHERE o.conversation_id = w.conversation_id AND o.number < w.number
                    AND o.status IN {OPEN})
            ORDER BY w.created_at, w.id
            LIMIT free)
        UPDATE turns t SET admitted_at = moment + (waiting.place - 1) * spacing
        FROM waiting WHERE t.id = waiting.id
        RETURNING t.id, greatest(0.0, extract(epoch FROM t.admitted_at - clock_timestamp()))
            ::double precision;
    END $$"""
FUNCTIONS = (
    "others_ask(uuid, interval)",
    "admit_turns(uuid, integer, integer, integer, integer, interval)",
)


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.create_index("ix_turns_recent", "turns", ["created_at", "tenant_id"])
    op.execute(OTHERS_ASK)
    op.execute(ADMIT_TURNS)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {app}")


def downgrade() -> None:
    for function in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_index("ix_turns_recent", "turns")
