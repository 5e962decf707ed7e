"""How nights are watched: evidence, verdicts, incidents, outcomes, rows under review, and messages to people."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Keep all that the watch was told, what it remembered, and what it said."""
    op.execute(Path(__file__).with_name("0005_watch.sql").read_text(encoding="utf-8"))
