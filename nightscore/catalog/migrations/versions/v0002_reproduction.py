"""Content hashes, origins, provenance, wheelhouses and reproductions."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widen versions and receipts, and keep what was reproduced."""
    op.execute(Path(__file__).with_name("0002_reproduction.sql").read_text(encoding="utf-8"))
