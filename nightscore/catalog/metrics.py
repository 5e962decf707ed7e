"""Figures of score dates as they were known on a date: model metrics, estimates, business metrics, costs.

Added here: queries on `metric_value`. Not here: computing a figure (`nightscore/monitoring`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import metric_value

Scope = Literal["model", "window", "estimate", "business", "cost"]
Maturity = Literal["mature", "provisional", "insufficient", "estimate", "final"]


@dataclass(frozen=True)
class MetricValue:
    """One figure of `score_date` as known on `known_on`; a value of None was looked for and cannot be known.

    `scope`: model (one date), window (a span of mature dates that ends with it), estimate (without labels), business,
    or cost. `maturity`: mature; provisional while labels may come; insufficient; estimate; final where nothing can
    change, such as a cost.
    """

    pipeline: str
    score_date: date
    known_on: date
    scope: Scope
    metric: str
    value: float | None
    rows: int
    maturity: Maturity
    low: float | None = None
    high: float | None = None
    model_version: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def record_metrics(connection: sa.Connection, values: Iterable[MetricValue], run_id: str, now: datetime) -> None:
    """Keep figures; one that was known on the same date already is replaced."""
    for one in values:
        row = vars(one) | {"detail": dict(one.detail), "run_id": run_id, "at": now}
        statement = insert(metric_value).values(**row)
        update = {name: statement.excluded[name] for name in row}
        connection.execute(statement.on_conflict_do_update(constraint="metric_value_once_known", set_=update))


def metrics_between(
    connection: sa.Connection, pipeline: str, first: date, last: date, scope: Scope | None = None
) -> list[MetricValue]:
    """Every figure of the score dates from `first` to `last`, by date, scope, metric and the date it was known on."""
    columns = [metric_value.c[name] for name in MetricValue.__dataclass_fields__]
    query = (
        sa.select(*columns)
        .where(metric_value.c.pipeline == pipeline, metric_value.c.score_date.between(first, last))
        .order_by(*(metric_value.c[name] for name in ("score_date", "scope", "metric", "known_on")))
    )
    if scope is not None:
        query = query.where(metric_value.c.scope == scope)
    return [MetricValue(**row) for row in connection.execute(query).mappings()]
