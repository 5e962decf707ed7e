"""What becomes of a model version: events, searches and fits, rollouts; aliases that are given back."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Keep every fit, and every step of a version's life."""
    op.execute(Path(__file__).with_name("0004_model_life.sql").read_text(encoding="utf-8"))
