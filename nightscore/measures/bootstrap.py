"""Intervals of metrics by resampling whole score dates: the date is the unit of evidence, never the row.

Rows of one night share weather, prices and faults, so resampling rows finds intervals that are far too narrow. A
resample is a multiplicity for each date; every figure is recomputed from it as a weighted metric, without copying rows.
Percentile intervals (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13) show spread; with under
some 20 dates they are a little narrow, so a verdict is taken from `paired.py` instead.
Added here: a metric that `metrics.py` has, with weights. Not here: comparisons of two models, or new metrics.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightscore.measures.metrics import (
    CALIBRATION_BINS,
    Mask,
    Metrics,
    Vector,
    binary_metrics,
    regression_metrics,
)

Codes = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]
Total = Callable[[npt.NDArray[np.generic]], Vector]

_NO_VARIANCE = 1e-12
"""The share of the whole variance below which a resample's labels do not vary."""


@dataclass(frozen=True)
class Interval:
    """A figure and its bounds; None where it has no meaning."""

    value: float | None
    lower: float | None
    upper: float | None

    def as_json(self) -> dict[str, float | None]:
        """The three figures by name."""
        return {"value": self.value, "lower": self.lower, "upper": self.upper}


def resample_dates(dates: int, resamples: int, seed: int) -> Codes:
    """How often each date stands in each resample: shape (resamples, dates), every row adds up to `dates`."""
    if not dates:
        return np.zeros((resamples, 0), np.int64)
    return np.random.default_rng(seed).multinomial(dates, np.full(dates, 1 / dates), size=resamples)


def percentile_interval(value: float | None, samples: Vector, confidence: float) -> Interval:
    """`value` with the middle `confidence` of `samples` (resamples,), NaN where a resample has no figure.

    The bounds are None when there is no value, or when more than half of the resamples have no figure.
    """
    known = samples[np.isfinite(samples)]
    if value is None or not len(known) or 2 * len(known) < len(samples):
        return Interval(value, None, None)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(lower), float(upper))


def metric_intervals(
    labels: Vector,
    scores: Vector,
    decided: Mask,
    groups: Codes,
    confidence: float = 0.9,
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every figure of `binary_metrics` with its interval; `groups` (rows,) tells the rows' dates apart."""
    codes, weights = _resampled(groups, resamples, seed)
    values = binary_metrics(labels, scores, decided)
    samples = weighted_binary_metrics(labels, scores, decided, codes, weights)
    samples["calibration_error"] = _centred(values["calibration_error"], samples["calibration_error"])
    return _intervals(values, samples, confidence)


def regression_metric_intervals(
    labels: Vector,
    predictions: Vector,
    groups: Codes,
    confidence: float = 0.9,
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every figure of `regression_metrics` with its interval; `groups` (rows,) tells the rows' dates apart."""
    codes, weights = _resampled(groups, resamples, seed)
    samples = weighted_regression_metrics(labels, predictions, codes, weights)
    return _intervals(regression_metrics(labels, predictions), samples, confidence)


def weighted_binary_metrics(
    labels: Vector, scores: Vector, decided: Mask, groups: Codes, weights: Codes
) -> dict[str, Vector]:
    """The figures of `binary_metrics` for each resample: (resamples,) each, NaN where undefined.

    `groups` holds dates 0..dates-1, `weights` (resamples, dates) their multiplicity. Bins of the calibration error
    are those of the whole sample.
    """
    total = _totals(groups, weights)
    rows = total(np.ones(len(labels)))
    return {
        "log_loss": _over(total(log_losses(labels, scores)), rows),
        "brier": _over(total((scores - labels) ** 2), rows),
        "roc_auc": _roc_auc(labels == 1, scores, groups, weights),
        "average_precision": _average_precision(labels == 1, scores, groups, weights),
        "calibration_error": _over(_miscalibrated(labels, scores, total), rows),
        "mean_bias": _over(total(scores - labels), rows),
        **_decision_metrics(labels == 1, decided, total),
    }


def weighted_regression_metrics(
    labels: Vector, predictions: Vector, groups: Codes, weights: Codes
) -> dict[str, Vector]:
    """The figures of `regression_metrics` for each resample: (resamples,) each, NaN where undefined."""
    total = _totals(groups, weights)
    rows = total(np.ones(len(labels)))
    squared = total((predictions - labels) ** 2)
    return {
        "rmse": np.sqrt(_over(squared, rows)),
        "mae": _over(total(np.abs(predictions - labels)), rows),
        "r2": 1 - _over(squared, _variation(labels, total)),
        "mean_bias": _over(total(predictions - labels), rows),
    }


def log_losses(labels: Vector, scores: Vector) -> Vector:
    """Each row's negative log likelihood in nats (rows,), scores kept one epsilon away from 0 and 1."""
    epsilon = np.finfo(np.float64).eps
    likelihood = np.where(labels == 1, scores, 1 - scores)
    return np.asarray(-np.log(np.clip(likelihood, epsilon, 1 - epsilon)))


def _resampled(groups: Codes, resamples: int, seed: int) -> tuple[Codes, Codes]:
    """Dates as 0..dates-1, and the resamples of them: none when fewer than two dates are there."""
    dates, codes = np.unique(groups, return_inverse=True)
    return codes, resample_dates(len(dates), resamples if len(dates) > 1 else 0, seed)


def _intervals(values: Metrics, samples: dict[str, Vector], confidence: float) -> dict[str, Interval]:
    return {name: percentile_interval(value, samples[name], confidence) for name, value in values.items()}


def _centred(value: float | None, samples: Vector) -> Vector:
    """Without the bias of a sum of absolute values: noise adds to it, so a resample's is above the sample's own."""
    if value is None or not len(samples):
        return samples
    return np.maximum(samples - (np.median(samples) - value), 0)


def _totals(groups: Codes, weights: Codes) -> Total:
    """A function from values (rows,) to their weighted sum in each resample (resamples,)."""

    def total(values: npt.NDArray[np.generic]) -> Vector:
        return np.asarray(weights @ np.bincount(groups, weights=values, minlength=weights.shape[1]))

    return total


def _roc_auc(positive: Mask, scores: Vector, groups: Codes, weights: Codes) -> Vector:
    total = _totals(groups, weights)
    won = (weights @ _pairs_won(positive, scores, groups, weights.shape[1]) * weights).sum(axis=1)
    return _over(won, total(positive) * total(~positive))


def _pairs_won(positive: Mask, scores: Vector, groups: Codes, dates: int) -> Matrix:
    """Pairs (date of the positive, date of the negative) in which the positive scores above, ties counted half."""
    order = np.argsort(scores, kind="stable")
    ordered, dated, hit = scores[order], groups[order], positive[order]
    won = np.empty((dates, dates))
    for date in range(dates):
        rivals = ordered[~hit & (dated == date)]
        below = np.searchsorted(rivals, ordered[hit], side="left") + np.searchsorted(rivals, ordered[hit], side="right")
        won[:, date] = np.bincount(dated[hit], weights=below / 2, minlength=dates)
    return won


def _average_precision(positive: Mask, scores: Vector, groups: Codes, weights: Codes) -> Vector:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    dated, hit = groups[order], positive[order]
    found = [_precision_over_recall(row[dated], hit, ends) for row in weights]
    return np.array(found, dtype=np.float64)


def _precision_over_recall(weight: Codes, hit: Mask, ends: Codes) -> float:
    """Of rows from the highest score down; equal scores end together at one of `ends`."""
    rows, hits = np.cumsum(weight)[ends], np.cumsum(weight * hit)[ends]
    if not len(ends) or not hits[-1]:
        return np.nan
    return float((np.diff(hits, prepend=0) / hits[-1] * (hits / np.maximum(rows, 1))).sum())


def _miscalibrated(labels: Vector, scores: Vector, total: Total) -> Vector:
    """The sum over bins of |labels less scores|, in rows."""
    if not len(scores):
        return total(scores)
    edges = np.sort(scores)[np.arange(1, CALIBRATION_BINS) * len(scores) // CALIBRATION_BINS]
    bins = np.searchsorted(np.unique(edges), scores, side="right")
    return np.asarray(sum(np.abs(total((labels - scores) * (bins == one))) for one in np.unique(bins)))


def _decision_metrics(positive: Mask, decided: Mask, total: Total) -> dict[str, Vector]:
    hits, yes, actual = total(positive & decided), total(decided), total(positive)
    return {
        "accuracy": _over(total(positive == decided), total(np.ones(len(decided)))),
        "precision": _over(hits, yes),
        "recall": _over(hits, actual),
        "f1": _over(2 * hits, yes + actual),
    }


def _variation(labels: Vector, total: Total) -> Vector:
    """Squared distance of labels from the resample's mean; 0 where they do not vary but for rounding."""
    if not len(labels) or not np.ptp(labels):
        return np.zeros_like(total(labels))
    centred = labels - labels.mean()
    rows, squares = total(np.ones(len(labels))), total(centred**2)
    variation = squares - total(centred) ** 2 / rows
    return np.where(variation > _NO_VARIANCE * (centred**2).sum(), variation, 0.0)


def _over(part: Vector, whole: Vector) -> Vector:
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
