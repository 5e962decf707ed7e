"""How good scores are against labels: pure functions, arrays (rows,) in, numbers out.

Where a figure has no meaning (no rows, one class only, nothing decided), it is None, never 0.
Added here: a metric. Not here: distances between distributions, or which rows are compared.
"""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Metrics = dict[str, float | None]

CALIBRATION_BINS = 10


def binary_metrics(labels: Vector, scores: Vector, decided: Mask) -> Metrics:
    """Every figure of a binary task; `labels` in {0, 1}, `scores` in [0, 1], `decided` where the decision is yes."""
    return {
        "log_loss": log_loss(labels, scores),
        "brier": brier(labels, scores),
        "roc_auc": roc_auc(labels, scores),
        "average_precision": average_precision(labels, scores),
        "calibration_error": calibration_error(labels, scores),
        "mean_bias": mean_bias(labels, scores),
        **decision_metrics(labels, decided),
    }


def regression_metrics(labels: Vector, predictions: Vector) -> Metrics:
    """Every figure of a regression task, in the label's unit."""
    return {
        "rmse": rmse(labels, predictions),
        "mae": mae(labels, predictions),
        "r2": r2(labels, predictions),
        "mean_bias": mean_bias(labels, predictions),
    }


def decision_metrics(labels: Vector, decided: Mask) -> Metrics:
    """Accuracy, precision, recall and F1 of yes decisions."""
    positive = labels == 1
    hits, yes, actual = int((positive & decided).sum()), int(decided.sum()), int(positive.sum())
    return {
        "accuracy": _ratio(int((positive == decided).sum()), len(labels)),
        "precision": _ratio(hits, yes),
        "recall": _ratio(hits, actual),
        "f1": _ratio(2 * hits, yes + actual),
    }


def log_loss(labels: Vector, scores: Vector) -> float | None:
    """Mean negative log likelihood in nats; scores are kept one epsilon away from 0 and 1."""
    epsilon = np.finfo(np.float64).eps
    likelihood = np.where(labels == 1, scores, 1 - scores)
    return _mean(-np.log(np.clip(likelihood, epsilon, 1 - epsilon)))


def brier(labels: Vector, scores: Vector) -> float | None:
    """Mean squared difference of score and label."""
    return _mean((scores - labels) ** 2)


def roc_auc(labels: Vector, scores: Vector) -> float | None:
    """The chance that a positive scores above a negative, ties counted half."""
    positive = labels == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    ranks = _average_ranks(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: Vector, scores: Vector) -> float | None:
    """Precision averaged over the gains in recall, from the highest score down."""
    if not (labels == 1).any():
        return None
    _, group = np.unique(-scores, return_inverse=True)
    hits = np.cumsum(np.bincount(group, weights=labels))
    gains = np.diff(hits, prepend=0.0) / hits[-1]
    return float((gains * hits / np.cumsum(np.bincount(group))).sum())


def calibration_error(labels: Vector, scores: Vector) -> float | None:
    """Mean |mean label − mean score| over 10 bins of equal count, weighted by rows; equal scores share a bin."""
    if not len(labels):
        return None
    edges = np.arange(1, CALIBRATION_BINS) * len(scores) // CALIBRATION_BINS
    group = np.searchsorted(np.unique(np.sort(scores)[edges]), scores, side="right")
    return float(np.abs(np.bincount(group, weights=labels - scores)).sum() / len(labels))


def rmse(labels: Vector, predictions: Vector) -> float | None:
    """Root of the mean squared error."""
    squared = _mean((predictions - labels) ** 2)
    return None if squared is None else float(np.sqrt(squared))


def mae(labels: Vector, predictions: Vector) -> float | None:
    """Mean absolute error."""
    return _mean(np.abs(predictions - labels))


def r2(labels: Vector, predictions: Vector) -> float | None:
    """Share of the labels' variance that is explained; None where labels do not vary."""
    if not len(labels) or not np.ptp(labels):
        return None
    return float(1 - ((labels - predictions) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())


def mean_bias(labels: Vector, predictions: Vector) -> float | None:
    """Mean prediction less mean label: above 0 is too high."""
    return _mean(predictions - labels)


def _average_ranks(values: Vector) -> Vector:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def _mean(values: Vector) -> float | None:
    return float(values.mean()) if len(values) else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
