"""Feedback: what came in one request, and its items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite numbers its rows by itself in a column that is called INTEGER, and in no other.
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "feedback_submissions",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("model_version", sa.String(255), nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(255)),
        sa.Column("client_key", sa.String(255)),
        sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("item_count", sa.Integer, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.UniqueConstraint("model_name", "client_key", name="uq_feedback_submissions_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_submissions_received", "feedback_submissions", ["model_name", "received_us"])
    op.create_table(
        "feedback_items",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column(
            "submission_id",
            _NUMBER,
            sa.ForeignKey("feedback_submissions.id", name="fk_feedback_items_submission"),
            nullable=False,
        ),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("sequence", sa.LargeBinary, nullable=False),
        sa.Column("sequence_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_items_submission", "feedback_items", ["submission_id"])


def downgrade() -> None:
    """Labels that people gave are not thrown away by a command."""
    raise NotImplementedError("feedback is not deleted; restore a backup of the database instead")
