"""HTTP services: what they describe of themselves, and how often tools ask them."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CURRENT_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"


def upgrade() -> None:
    app = '"' + context.config.attributes["app_role"].replace('"', '""') + '"'
    op.add_column(
        "datasources",
        sa.Column("operations", JSONB(), server_default=sa.text("'[]'"), nullable=False),
    )
    op.create_table(
        "http_pace",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.ARRAY(sa.DateTime(timezone=True)), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "host", name="pk_http_pace"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_http_pace_tenant_id", ondelete="CASCADE"
        ),
    )
    op.execute("ALTER TABLE http_pace ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON http_pace USING (tenant_id = {CURRENT_TENANT})"
        f" WITH CHECK (tenant_id = {CURRENT_TENANT})"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON http_pace TO {app}")


def downgrade() -> None:
    op.drop_table("http_pace")
    op.drop_column("datasources", "operations")
