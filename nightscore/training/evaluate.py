"""Figures of scored held-out rows: overall, by score date and by segment.

Added here: another cut of the same rows. Not here: the metrics themselves (`nightscore/measures/metrics.py`).
"""

from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.metrics import Mask, Metrics, binary_metrics, regression_metrics
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import TopK
from nightscore.training.matrix import SCORE_DATE, Vector


def evaluate(frame: pl.DataFrame, scores: Vector, pipeline: Pipeline) -> dict[str, Any]:
    """`overall` figures, `by_date` series and `segments`: column → levels, each with rows and figures.

    `frame` holds score_date, features and label, sorted by key; `scores` (rows,) belong to its rows.
    """
    labels = frame[pipeline.label.column].cast(pl.Float64).to_numpy()
    decided = _decide(frame, scores, pipeline)

    def figures(rows: Mask) -> Metrics:
        if pipeline.task == "regression":
            return regression_metrics(labels[rows], scores[rows])
        return binary_metrics(labels[rows], scores[rows], decided[rows])

    def cut(column: str) -> list[dict[str, Any]]:
        masks = ((level, _rows_of(frame[column], level)) for level in frame[column].unique().sort())
        return [{"level": level, "rows": int(rows.sum()), **figures(rows)} for level, rows in masks]

    segments = [column.name for column in pipeline.features.columns if column.segment]
    return {
        "overall": figures(np.ones(frame.height, dtype=np.bool_)),
        "by_date": [_loss_of_date(row, pipeline) for row in cut(SCORE_DATE)],
        "segments": {column: cut(column) for column in segments},
    }


def _rows_of(column: pl.Series, level: object) -> Mask:
    return (column.is_null() if level is None else (column == level).fill_null(False)).to_numpy()


def _loss_of_date(row: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    loss = "log_loss" if pipeline.task == "binary" else "rmse"
    return {"score_date": row["level"].isoformat(), "rows": row["rows"], loss: row[loss]}


def _decide(frame: pl.DataFrame, scores: Vector, pipeline: Pipeline) -> Mask:
    rule = pipeline.decision.rule
    if not isinstance(rule, TopK):
        return np.asarray(scores >= rule.value)
    scored = frame.select(SCORE_DATE, pl.Series("score", scores))
    # Rows are sorted by key, so ranking in order of appearance gives ties to the smaller key.
    rank = pl.col("score").rank("ordinal", descending=True).over(SCORE_DATE)
    return scored.select(rank <= rule.k).to_series().to_numpy()
