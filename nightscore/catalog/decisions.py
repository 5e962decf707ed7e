"""The decision ledger: what was decided, and what was decided not to be done, each with its evidence.

Added here: queries on `decision`. Not here: deciding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.tables import decision


@dataclass(frozen=True)
class Decision:
    """One entry: `kind` such as restatement, `verdict` such as ignored, restated or asked."""

    pipeline: str
    kind: str
    subject: str
    verdict: str
    reason: str
    evidence: Mapping[str, Any]
    actor: str
    at: datetime


def record_decision(connection: sa.Connection, made: Decision) -> None:
    """Append an entry."""
    connection.execute(decision.insert().values(vars(made) | {"evidence": dict(made.evidence)}))


def newest_entries(
    connection: sa.Connection, pipeline: str, kind: str, limit: int = 100
) -> list[tuple[int, Decision]]:  # fmt: skip
    """The newest entries of one kind first, each with its id, by which later ones are told from earlier ones."""
    mine = sa.and_(decision.c.pipeline == pipeline, decision.c.kind == kind)
    query = sa.select(decision).where(mine).order_by(decision.c.decision_id.desc()).limit(limit)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [(int(row.pop("decision_id")), Decision(**row)) for row in rows]


def list_decisions(
    connection: sa.Connection, pipeline: str | None = None, limit: int = 100, kind: str | None = None
) -> list[Decision]:
    """The newest entries first, of one pipeline or of all, of one kind or of any."""
    columns = [column for column in decision.c if column.name != "decision_id"]
    query = sa.select(*columns).order_by(decision.c.decision_id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(decision.c.pipeline == pipeline)
    if kind is not None:
        query = query.where(decision.c.kind == kind)
    return [Decision(**row) for row in connection.execute(query).mappings()]
