"""Jobs: what is asked, who does it, how far it is and what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# SQLite numbers its rows by itself in a column that is called INTEGER, and in no other.
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "jobs",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        # The model's name while the job runs and null after it: two that run for one model cannot both be stored.
        sa.Column("running_for", sa.String(255), unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("machine", sa.String(255), nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("process_started", sa.String(64), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("beat_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_model", "jobs", ["model_name", "id"])


def downgrade() -> None:
    """What was decided, and why, is not thrown away by a command."""
    raise NotImplementedError("jobs are not deleted; restore a backup of the database instead")
