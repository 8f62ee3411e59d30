"""Tenant isolation: row-level security, the functions that may look across tenants, grants.

The application's role owns nothing. A row is visible when its tenant is the transaction's
(``app.tenant_id``, set by ``tenant_session()``); with none set, no row is. What must be known
before the tenant is (whose session, which turns are open) comes from SECURITY DEFINER functions,
which run as the owner and return only what their callers need.
"""

from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TENANT_TABLES = (
    "tenant_domains", "users", "sessions", "api_tokens", "socket_tickets", "projects",
    "project_members", "datasources", "conversations", "turns", "messages", "drafts",
    "tool_executions", "tool_policies", "tool_decisions", "rooms", "room_events", "audit_log",
    "usage",
)  # fmt: skip

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"

# What the edge knows of whoever is behind a cookie, a token or a ticket.
PRINCIPAL = """
    u.tenant_id, u.id AS user_id, u.email, u.name, u.role, u.installation_admin
"""

FUNCTIONS = {
    "find_session(hash bytea)": f"""
        RETURNS TABLE (tenant_id uuid, user_id uuid, email text, name text, role text,
                       installation_admin boolean, session_id uuid, expires_at timestamptz)
        LANGUAGE sql STABLE AS $$
            SELECT {PRINCIPAL}, s.id, s.expires_at
            FROM sessions s JOIN users u ON u.id = s.user_id
            WHERE s.token_hash = hash AND s.expires_at > now() AND u.active
        $$""",
    "find_api_token(hash bytea)": f"""
        RETURNS TABLE (tenant_id uuid, user_id uuid, email text, name text, role text,
                       installation_admin boolean, token_id uuid, expires_at timestamptz,
                       scopes text[])
        LANGUAGE sql STABLE AS $$
            SELECT {PRINCIPAL}, t.id, t.expires_at, t.scopes
            FROM api_tokens t JOIN users u ON u.id = t.user_id
            WHERE t.token_hash = hash AND (t.expires_at IS NULL OR t.expires_at > now())
              AND u.active
        $$""",
    "take_socket_ticket(hash bytea)": f"""
        RETURNS TABLE (tenant_id uuid, user_id uuid, email text, name text, role text,
                       installation_admin boolean, session_id uuid, expires_at timestamptz)
        LANGUAGE sql VOLATILE AS $$
            WITH taken AS (
                DELETE FROM socket_tickets t WHERE t.token_hash = hash
                RETURNING t.user_id, t.session_id, t.expires_at
            )
            SELECT {PRINCIPAL}, s.id, s.expires_at
            FROM taken JOIN users u ON u.id = taken.user_id
            LEFT JOIN sessions s ON s.id = taken.session_id
            WHERE taken.expires_at > now() AND u.active
              AND (taken.session_id IS NULL OR s.expires_at > now())
        $$""",
    # By host name, else by the address's domain, else by the address itself where it is unique.
    "find_tenant(host text, address text)": """
        RETURNS uuid LANGUAGE sql STABLE AS $$
            SELECT coalesce(
                (SELECT d.tenant_id FROM tenant_domains d WHERE d.domain = lower(host)),
                (SELECT d.tenant_id FROM tenant_domains d
                  WHERE d.domain = lower(split_part(address, '@', 2))),
                (SELECT u.tenant_id FROM users u WHERE u.email = lower(address)
                  GROUP BY u.tenant_id
                  HAVING (SELECT count(*) FROM users o WHERE o.email = lower(address)) = 1)
            )
        $$""",
    "live_sessions(ids uuid[])": """
        RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
            SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id
            WHERE s.id = ANY(ids) AND s.expires_at > now() AND u.active
        $$""",
    "live_api_tokens(ids uuid[])": """
        RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
            SELECT t.id FROM api_tokens t JOIN users u ON u.id = t.user_id
            WHERE t.id = ANY(ids) AND (t.expires_at IS NULL OR t.expires_at > now()) AND u.active
        $$""",
    "live_memberships(projects uuid[], users uuid[])": """
        RETURNS TABLE (project_id uuid, user_id uuid, role text) LANGUAGE sql STABLE AS $$
            SELECT p.project_id, p.user_id, coalesce(m.role, 'owner')
            FROM unnest(projects, users) AS p(project_id, user_id)
            JOIN users u ON u.id = p.user_id AND u.active
            JOIN projects j ON j.id = p.project_id AND j.tenant_id = u.tenant_id
            LEFT JOIN project_members m ON m.project_id = j.id AND m.user_id = u.id
            WHERE m.user_id IS NOT NULL OR u.role = 'admin'
        $$""",
    "open_turns(older_than interval, at_most integer)": """
        RETURNS TABLE (tenant_id uuid, project_id uuid, conversation_id uuid, turn_id uuid,
                       status text, is_first boolean, stop_requested boolean)
        LANGUAGE sql STABLE AS $$
            SELECT t.tenant_id, t.project_id, t.conversation_id, t.id, t.status,
                   NOT EXISTS (
                       SELECT 1 FROM turns o
                       WHERE o.conversation_id = t.conversation_id AND o.number < t.number
                         AND o.status IN ('queued', 'running', 'awaiting_approval')),
                   t.stop_requested_at IS NOT NULL
            FROM turns t
            WHERE t.status IN ('queued', 'running', 'awaiting_approval')
              AND t.created_at < now() - older_than
            ORDER BY t.created_at LIMIT at_most
        $$""",
    "all_tenants()": """
        RETURNS TABLE (id uuid, name text, slug text, domains text[], created_at timestamptz)
        LANGUAGE sql STABLE AS $$
            SELECT t.id, t.name, t.slug,
                   coalesce(array_agg(d.domain ORDER BY d.domain)
                            FILTER (WHERE d.domain IS NOT NULL), '{}'),
                   t.created_at
            FROM tenants t LEFT JOIN tenant_domains d ON d.tenant_id = t.id
            GROUP BY t.id ORDER BY t.created_at
        $$""",
    # The log keeps `keep_for` or the newest `keep_events` of a room, whichever is more.
    "prune(keep_for interval, keep_events bigint)": """
        RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
        DECLARE removed bigint; total bigint := 0;
        BEGIN
            DELETE FROM room_events e USING rooms r
            WHERE r.project_id = e.project_id AND e.created_at < now() - keep_for
              AND e.seq <= r.head - keep_events;
            GET DIAGNOSTICS removed = ROW_COUNT; total := total + removed;
            DELETE FROM sessions WHERE expires_at < now();
            GET DIAGNOSTICS removed = ROW_COUNT; total := total + removed;
            DELETE FROM socket_tickets WHERE expires_at < now();
            GET DIAGNOSTICS removed = ROW_COUNT; total := total + removed;
            DELETE FROM drafts d WHERE NOT EXISTS (
                SELECT 1 FROM messages m WHERE m.id = d.message_id AND m.status = 'streaming');
            GET DIAGNOSTICS removed = ROW_COUNT; total := total + removed;
            RETURN total;
        END $$""",
}


def _quoted(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def upgrade() -> None:
    app = _quoted(context.config.attributes["app_role"])
    for table in TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} USING (tenant_id = {CURRENT_TENANT})"
            f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
        )
    op.execute("ALTER TABLE tenants ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON tenants USING (id = {CURRENT_TENANT})"
        f" WITH CHECK (id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {app}")
    for table in ("tenants", *TENANT_TABLES):
        rights = "SELECT, INSERT" if table == "audit_log" else "SELECT, INSERT, UPDATE, DELETE"
        op.execute(f"GRANT {rights} ON {table} TO {app}")
    for signature, body in FUNCTIONS.items():
        op.execute(
            f"CREATE FUNCTION {signature} {body} SECURITY DEFINER SET search_path = public, pg_temp"
        )
        name, _, parameters = signature.partition("(")
        types = ", ".join(p.split()[-1] for p in parameters.rstrip(")").split(",") if p.strip())
        op.execute(f"REVOKE ALL ON FUNCTION {name}({types}) FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}({types}) TO {app}")


def downgrade() -> None:
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {signature}")
    for table in ("tenants", *TENANT_TABLES):
        op.execute(f"DROP POLICY tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
