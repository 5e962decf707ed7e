"""Changesets, and publications that are taken back."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Keep what is staged, and what became of it."""
    op.execute(Path(__file__).with_name("0003_changesets.sql").read_text(encoding="utf-8"))
