"""Resumable answers: what the model's server keeps, and how much of it has been read."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("generation", sa.Text(), nullable=True))
    op.add_column("drafts", sa.Column("generation", sa.Text(), nullable=True))
    op.add_column("drafts", sa.Column("cursor", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("drafts", "cursor")
    op.drop_column("drafts", "generation")
    op.drop_column("messages", "generation")
