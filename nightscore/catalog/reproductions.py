"""What was reproduced, when, by whom, and how it came out.

Added here: queries on `reproduction`. Not here: reproducing (`nightscore/reproduction`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.tables import reproduction

Outcome = Literal["reproduced", "not equal", "cannot"]


@dataclass(frozen=True)
class Reproduction:
    """One attempt: `kind` is model or night; `level` (identical, equivalent) is set when it was reproduced."""

    pipeline: str
    kind: Literal["model", "night"]
    version: int
    score_date: date | None
    receipt_id: int | None
    outcome: Outcome
    level: str | None
    first_difference: str | None
    report: Mapping[str, Any]
    asked_by: str
    run_id: str
    seconds: float
    at: datetime

    @property
    def name(self) -> str:
        """`pipeline@version`, with the night where it is one."""
        return f"{self.pipeline}@{self.version}" + (f" {self.score_date}" if self.score_date else "")


def record_reproduction(connection: sa.Connection, made: Reproduction) -> None:
    """Append an attempt."""
    connection.execute(reproduction.insert().values(vars(made) | {"report": dict(made.report)}))


def list_reproductions(
    connection: sa.Connection, pipeline: str, asked_by: str | None = None, limit: int | None = 100
) -> list[Reproduction]:
    """The newest attempts first, of everybody or of one who asked; all of them without a limit."""
    columns = [column for column in reproduction.c if column.name != "reproduction_id"]
    query = sa.select(*columns).where(reproduction.c.pipeline == pipeline)
    if asked_by is not None:
        query = query.where(reproduction.c.asked_by == asked_by)
    rows = connection.execute(query.order_by(reproduction.c.reproduction_id.desc()).limit(limit)).mappings()
    return [Reproduction(**row) for row in rows]


def streak(attempts: list[Reproduction]) -> int:
    """How many of the newest attempts in a row were reproduced; `attempts` are newest first."""
    return next((at for at, one in enumerate(attempts) if one.outcome != "reproduced"), len(attempts))
