"""Lookups for many sockets at once: credentials with their tenant's limits, heads of rooms.

All edges restart, and thousands of clients are back within seconds: one statement answers for
hundreds of them.
"""

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What the edge knows of whoever is behind a cookie or a token.
PRINCIPAL = "u.tenant_id, u.id, u.email, u.name, u.role, u.installation_admin"

FUNCTIONS = {
    "find_principals(session_hashes bytea[], api_token_hashes bytea[])": f"""
        RETURNS TABLE (hash bytea, tenant_id uuid, user_id uuid, email text, name text, role text,
                       installation_admin boolean, session_id uuid, token_id uuid,
                       expires_at timestamptz, scopes text[], limits jsonb)
        LANGUAGE sql STABLE AS $$
            SELECT s.token_hash, {PRINCIPAL}, s.id, NULL::uuid, s.expires_at, NULL::text[], n.limits
            FROM sessions s JOIN users u ON u.id = s.user_id JOIN tenants n ON n.id = u.tenant_id
            WHERE s.token_hash = ANY(session_hashes) AND s.expires_at > now() AND u.active
            UNION ALL
            SELECT t.token_hash, {PRINCIPAL}, NULL::uuid, t.id, t.expires_at, t.scopes, n.limits
            FROM api_tokens t JOIN users u ON u.id = t.user_id JOIN tenants n ON n.id = u.tenant_id
            WHERE t.token_hash = ANY(api_token_hashes)
              AND (t.expires_at IS NULL OR t.expires_at > now()) AND u.active
        $$""",
    "room_heads(projects uuid[])": """
        RETURNS TABLE (project_id uuid, head bigint) LANGUAGE sql STABLE AS $$
            SELECT r.project_id, r.head FROM rooms r WHERE r.project_id = ANY(projects)
        $$""",
}


def _quoted(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def _types(signature: str) -> str:
    name, _, parameters = signature.partition("(")
    return f"{name}({', '.join(p.split()[-1] for p in parameters.rstrip(')').split(','))})"


def upgrade() -> None:
    app = _quoted(context.config.attributes["app_role"])
    for signature, body in FUNCTIONS.items():
        op.execute(
            f"CREATE FUNCTION {signature} {body} SECURITY DEFINER SET search_path = public, pg_temp"
        )
        op.execute(f"REVOKE ALL ON FUNCTION {_types(signature)} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {_types(signature)} TO {app}")


def downgrade() -> None:
    for signature in FUNCTIONS:
        op.execute(f"DROP FUNCTION {_types(signature)}")
