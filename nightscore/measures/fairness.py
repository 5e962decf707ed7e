"""How differently a model treats the levels of a sensitive column, with intervals over score dates.

Figures by level are fairlearn's MetricFrame's; counts per date and level give the same ones for every resample.
Added here: a measure of disparity that follows from counts. Not here: which disparity is too large.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from nightscore.measures import metrics
from nightscore.measures.bootstrap import Codes, Matrix, percentile_interval, resample_dates
from nightscore.measures.metrics import Mask, Metrics, Vector

Levels = npt.NDArray[np.object_]

# Of each measure: the counts that its rate divides, whether the worst level is the one with the higher rate, and ratio.
_RATES = {
    "selection_rate_difference": ("yes", "rows", False, False),
    "selection_rate_ratio": ("yes", "rows", False, True),
    "true_positive_rate_difference": ("hits", "actual", False, False),
    "false_positive_rate_difference": ("false_yes", "negative", True, False),
    "accuracy_difference": ("right", "rows", False, False),
}
MEASURES = tuple(_RATES)


@dataclass(frozen=True)
class Disparity:
    """One measure between the worst and the best level; a difference of 0 and a ratio of 1 mean none.

    `levels` holds rows and the measure's rate of every level, also of those with too few rows to be judged. Bounds
    follow the pair of levels that is worst and best in the whole sample, so they may pass the point of no disparity.
    """

    column: str
    measure: str
    value: float | None
    lower: float | None
    upper: float | None
    worst: str | None
    best: str | None
    levels: Mapping[str, Mapping[str, float | int | None]]

    def as_json(self) -> dict[str, Any]:
        """Every figure by name."""
        return asdict(self)


def disparities(
    column: str,
    labels: Vector,
    decided: Mask,
    levels: Levels,
    groups: Codes,
    min_share: float = 0.05,
    confidence: float = 0.9,
    resamples: int = 200,
    seed: int = 0,
) -> list[Disparity]:
    """Every measure of `MEASURES`; labels in {0, 1}, `levels` and the date numbers `groups` are (rows,).

    Differences are the highest rate less the lowest, the ratio is the lowest over the highest. The worst level is the
    one less often selected, found or judged right, or with more false alarms. Levels with under `min_share` of the
    rows, or without a rate, are not judged; with one judged level the value is None. Two dates at least have bounds.
    """
    names, at = np.unique(levels.astype(str), return_inverse=True)
    dates, when = np.unique(groups, return_inverse=True)
    counts = _counts(labels == 1, decided, when * len(names) + at, (len(dates), len(names)))
    weights = resample_dates(len(dates), resamples if len(dates) > 1 else 0, seed)
    judged = counts["rows"].sum(axis=0) >= min_share * len(labels)
    found = partial(_disparity, column, names.tolist(), judged, counts, weights, confidence)
    return [found(measure) for measure in MEASURES]


def metrics_by_level(labels: Vector, scores: Vector, decided: Mask, levels: Levels) -> dict[str, Metrics]:
    """Rows, log loss, Brier score, selection rate, accuracy, precision and recall of each level; None if undefined."""
    if not len(labels):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_level = _metric_frame(labels, scores, decided, levels).by_group
    return {str(level): figures for level, figures in by_level.items()}


def _metric_frame(labels: Vector, scores: Vector, decided: Mask, levels: Levels) -> Any:
    """One metric that gives every figure: with one for each, the frame would copy the rows for each."""
    from fairlearn.metrics import MetricFrame

    return MetricFrame(
        metrics=_level_metrics,
        y_true=labels,
        y_pred=scores,
        sensitive_features=levels.astype(str),
        sample_params={"decided": decided},
    )


def _level_metrics(labels: Vector, scores: Vector, decided: Mask) -> dict[str, float | int | None]:
    from fairlearn.metrics import selection_rate

    decisions = metrics.decision_metrics(labels, decided)
    return {
        "rows": len(labels),
        "log_loss": metrics.log_loss(labels, scores),
        "brier": metrics.brier(labels, scores),
        "selection_rate": float(selection_rate(labels, decided, pos_label=True)),
        **{name: decisions[name] for name in ("accuracy", "precision", "recall")},
    }


def _counts(positive: Mask, decided: Mask, cell: Codes, shape: tuple[int, int]) -> dict[str, Matrix]:
    """Rows of each kind by date and level: `shape` each."""
    kinds = {
        "rows": np.ones(len(cell), np.bool_),
        "yes": decided,
        "actual": positive,
        "negative": ~positive,
        "hits": positive & decided,
        "false_yes": ~positive & decided,
        "right": positive == decided,
    }
    size = shape[0] * shape[1]
    return {name: np.bincount(cell[rows], minlength=size).reshape(shape).astype(float) for name, rows in kinds.items()}


def _disparity(
    column: str,
    names: list[str],
    judged: Mask,
    counts: dict[str, Matrix],
    weights: Codes,
    confidence: float,
    measure: str,
) -> Disparity:
    part, whole, higher_is_worse, ratio = _RATES[measure]
    rates = _rates(counts[part].sum(axis=0), counts[whole].sum(axis=0))
    low, high = _extremes(np.where(judged, rates, np.nan))
    value = _between(rates, low, high, ratio)
    samples = _between(_rates(weights @ counts[part], weights @ counts[whole]), low, high, ratio)
    known = None if np.isnan(value).any() else float(value)
    interval = percentile_interval(known, np.atleast_1d(samples), confidence)
    worst, best = (high, low) if higher_is_worse else (low, high)
    return Disparity(
        column=column,
        measure=measure,
        value=interval.value,
        lower=interval.lower,
        upper=interval.upper,
        worst=None if known is None else names[worst],
        best=None if known is None else names[best],
        levels=_by_level(names, counts["rows"].sum(axis=0), rates),
    )


def _by_level(names: list[str], rows: Vector, rates: Vector) -> dict[str, dict[str, float | int | None]]:
    return {
        name: {"rows": int(count), "value": None if np.isnan(rate) else float(rate)}
        for name, count, rate in zip(names, rows, rates, strict=True)
    }


def _rates(part: Matrix, whole: Matrix) -> Matrix:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _extremes(rates: Vector) -> tuple[int, int]:
    """The levels with the lowest and the highest rate, or (-1, -1) with fewer than two; of equal ones the first."""
    if np.isfinite(rates).sum() < 2:
        return -1, -1
    return int(np.nanargmin(rates)), int(np.nanargmax(rates))


def _between(rates: Matrix, low: int, high: int, ratio: bool) -> Matrix:
    """The measure between two levels in the last axis: NaN without them, or when a ratio divides by 0."""
    if low < 0:
        return np.full(rates.shape[:-1], np.nan)
    if not ratio:
        return np.asarray(rates[..., high] - rates[..., low])
    return _rates(np.asarray(rates[..., low]), np.asarray(rates[..., high]))
