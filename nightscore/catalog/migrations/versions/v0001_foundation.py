"""Lay the catalog's foundation."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first shape."""
    op.execute(Path(__file__).with_name("0001_foundation.sql").read_text(encoding="utf-8"))
