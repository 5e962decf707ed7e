"""Figures of scored held-out rows: overall with intervals, by date, week and segment, fairness, calibration.

Added here: another cut of the same rows. Not here: the metrics themselves (`nightscore/measures`), or one model
against another (`worth.py`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.bootstrap import Codes, metric_intervals, regression_metric_intervals
from nightscore.measures.fairness import disparities, metrics_by_level
from nightscore.measures.metrics import Mask, Metrics, binary_metrics, calibration_error, log_loss, regression_metrics
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import TopK
from nightscore.training.matrix import SCORE_DATE, Vector

CONFIDENCE, RESAMPLES = 0.9, 200
WEEK = "week"


@dataclass(frozen=True)
class Scored:
    """What a model says of held-out rows: scores (rows,) and probabilities (rows,), the same without calibration."""

    scores: Vector
    probabilities: Vector


def evaluate(frame: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> dict[str, Any]:
    """`overall`, `intervals` (metric → value and bounds, by resampling dates), `by_date`, `by_week` and `segments`.

    Weeks begin on Monday; segments are column → levels, each with rows and figures. `frame` holds score_date,
    features and label, sorted by key; `scored` belongs to its rows. Figures are of probabilities.
    """
    labels, predictions = labels_of(frame, pipeline), scored.probabilities
    decided = decide_rows(frame, scored, pipeline)

    def figures(rows: Mask) -> Metrics:
        if pipeline.task == "regression":
            return regression_metrics(labels[rows], predictions[rows])
        return binary_metrics(labels[rows], predictions[rows], decided[rows])

    def cut(column: pl.Series) -> list[dict[str, Any]]:
        masks = ((level, _rows_of(column, level)) for level in column.unique().sort())
        return [{"level": level, "rows": int(rows.sum()), **figures(rows)} for level, rows in masks]

    segments = [column.name for column in pipeline.features.columns if column.segment]
    return {
        "overall": figures(np.ones(frame.height, dtype=np.bool_)),
        "intervals": _intervals(labels, predictions, decided, dates_of(frame), pipeline),
        "by_date": [_loss_of_date(row, pipeline) for row in cut(frame[SCORE_DATE])],
        "by_week": [_named_week(row) for row in cut(frame[SCORE_DATE].dt.truncate("1w"))],
        "segments": {column: cut(frame[column]) for column in segments},
    }


def labels_of(frame: pl.DataFrame, pipeline: Pipeline) -> Vector:
    """The labels (rows,) of `frame` as numbers."""
    return frame[pipeline.label.column].cast(pl.Float64).to_numpy()


def dates_of(frame: pl.DataFrame) -> Codes:
    """The number of each row's score date (rows,), in the order of time."""
    return frame[SCORE_DATE].rank("dense").cast(pl.Int64).to_numpy() - 1


def decide_rows(frame: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> Mask:
    """Where the decision rule says yes (rows,), before business rules; `frame` is sorted by key."""
    rule = pipeline.decision.rule
    if not isinstance(rule, TopK):
        return np.asarray(scored.probabilities >= rule.value)
    ranked = frame.select(SCORE_DATE, pl.Series("score", scored.scores))
    # Rows are sorted by key, so ranking in order of appearance gives ties to the smaller key.
    rank = pl.col("score").rank("ordinal", descending=True).over(SCORE_DATE)
    return ranked.select(rank <= rule.k).to_series().to_numpy()


def measure_fairness(frame: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> dict[str, list[dict[str, Any]]]:
    """Every disparity of decisions between the levels of each sensitive column; empty but for a binary task."""
    sensitive = [column.name for column in pipeline.features.columns if column.sensitive]
    if pipeline.task != "binary" or not sensitive:
        return {}
    labels, decided = labels_of(frame, pipeline), decide_rows(frame, scored, pipeline)
    share, dates = pipeline.promotion.fairness.min_share, dates_of(frame)
    return {
        name: [
            _without_column(one.as_json())
            for one in disparities(name, labels, decided, _levels(frame[name]), dates, share)
        ]
        for name in sensitive
    }


def measure_groups(frame: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Figures of each level of each sensitive column: column → level → rows, log_loss, selection_rate and others."""
    sensitive = [column.name for column in pipeline.features.columns if column.sensitive]
    if pipeline.task != "binary" or not sensitive or not frame.height:
        return {}
    labels, decided = labels_of(frame, pipeline), decide_rows(frame, scored, pipeline)
    return {name: metrics_by_level(labels, scored.probabilities, decided, _levels(frame[name])) for name in sensitive}


def measure_calibration(labels: Vector, scored: Scored) -> dict[str, Metrics]:
    """Log loss and calibration error `before` calibration and `after` it."""
    return {
        name: {"log_loss": log_loss(labels, values), "calibration_error": calibration_error(labels, values)}
        for name, values in (("before", scored.scores), ("after", scored.probabilities))
    }


def _intervals(labels: Vector, predictions: Vector, decided: Mask, dates: Codes, pipeline: Pipeline) -> dict[str, Any]:
    if pipeline.task == "regression":
        found = regression_metric_intervals(labels, predictions, dates, CONFIDENCE, RESAMPLES)
    else:
        found = metric_intervals(labels, predictions, decided, dates, CONFIDENCE, RESAMPLES)
    return {name: interval.as_json() for name, interval in found.items()}


def _rows_of(column: pl.Series, level: object) -> Mask:
    return (column.is_null() if level is None else (column == level).fill_null(False)).to_numpy()


def _loss_of_date(row: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    loss = "log_loss" if pipeline.task == "binary" else "rmse"
    return {SCORE_DATE: row["level"].isoformat(), "rows": row["rows"], loss: row[loss]}


def _named_week(row: dict[str, Any]) -> dict[str, Any]:
    return {WEEK: row.pop("level").isoformat(), **row}


def _levels(column: pl.Series) -> Any:
    return column.cast(pl.String).fill_null("null").to_numpy().astype(object)


def _without_column(disparity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in disparity.items() if name != "column"}
