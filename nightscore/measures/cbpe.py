"""How good decisions and scores are expected to be before any label is known, from calibrated probabilities alone.

Confidence-based performance estimation (CBPE, of the library NannyML; Kivimäki, Białek, Kuberski & Nurminen,
Performance Estimation in Binary Classification Using Calibrated Confidence, 2025): a row with probability p counts as
p of a positive and 1 - p of a negative, and every figure is that of these expected rows.
So an estimate is as right as the calibration is: where the world changes what the probabilities mean, it says nothing.
Unlike NannyML, which sums in whatever order ties come, equal scores are one step, so the order of rows does not show;
sums are not rounded to 5 decimals; and what is not defined is None, never 0.
Added here: a figure that follows from probabilities. Not here: calibration, or figures of labels (`metrics.py`).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nightscore.measures.bootstrap import log_losses
from nightscore.measures.metrics import Mask, Metrics, Vector

Steps = tuple[Vector, Vector]


@dataclass(frozen=True)
class ExpectedConfusion:
    """How many rows of each kind are expected, in rows; they add up to all rows."""

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float


@dataclass(frozen=True)
class Estimate:
    """What is expected of `rows`; `confusion` is None without rows, a figure of `metrics` where it has no meaning.

    `metrics` has the names of `metrics.binary_metrics` and `specificity`. Calibration error and mean bias are not
    among them: an estimate takes both for 0.
    """

    rows: int
    confusion: ExpectedConfusion | None
    metrics: Metrics

    def as_json(self) -> dict[str, Any]:
        """Every figure by name."""
        return asdict(self)


def estimate_performance(probabilities: Vector, decided: Mask, ranking: Vector | None = None) -> Estimate:
    """The estimate of rows with calibrated `probabilities` (rows,) in [0, 1], `decided` where the decision is yes.

    ROC AUC and average precision follow the order of `ranking` (rows,), by default that of the probabilities. Rows
    without a finite probability or rank are left out.
    """
    scores = probabilities if ranking is None else ranking
    known = np.isfinite(probabilities) & np.isfinite(scores)
    chance, yes = probabilities[known], decided[known]
    confusion, steps = expect_confusion(chance, yes), expect_steps(chance, scores[known])
    figures = {
        "log_loss": expected_log_loss(chance),
        "brier": expected_brier(chance),
        "roc_auc": expected_roc_auc(steps) if len(chance) > 1 else None,
        "average_precision": expected_average_precision(steps),
        **_decision_metrics(confusion),
    }
    return Estimate(len(chance), confusion if len(chance) else None, figures)


def expect_confusion(probabilities: Vector, decided: Mask) -> ExpectedConfusion:
    """The expected rows of each kind; all 0 without rows."""
    yes, no = probabilities[decided], probabilities[~decided]
    return ExpectedConfusion(
        true_positive=float(yes.sum()),
        false_positive=float((1 - yes).sum()),
        true_negative=float((1 - no).sum()),
        false_negative=float(no.sum()),
    )


def expected_log_loss(probabilities: Vector) -> float | None:
    """The mean entropy in nats, 0..ln 2, probabilities kept one epsilon away from 0 and 1."""
    ones = np.ones(len(probabilities))
    if_positive, if_negative = log_losses(ones, probabilities), log_losses(1 - ones, probabilities)
    return _mean(probabilities * if_positive + (1 - probabilities) * if_negative)


def expected_brier(probabilities: Vector) -> float | None:
    """The mean variance of labels, 0..0.25."""
    return _mean(probabilities * (1 - probabilities))


def expect_steps(probabilities: Vector, ranking: Vector) -> Steps:
    """Expected positives and negatives (ranks,) of each distinct rank, the highest first."""
    distinct, step = np.unique(-ranking, return_inverse=True)
    positive = np.bincount(step, weights=probabilities, minlength=len(distinct))
    negative = np.bincount(step, weights=1 - probabilities, minlength=len(distinct))
    return np.asarray(positive, np.float64), np.asarray(negative, np.float64)


def expected_roc_auc(steps: Steps) -> float | None:
    """Expected pairs that are ordered rightly over all pairs, ties and a row with itself counted half.

    None without an expected positive or negative. Of a single row there are no pairs, which is for the caller to say.
    """
    positive, negative = steps
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return None
    below = np.cumsum(negative[::-1])[::-1] - negative / 2
    return float((positive * below).sum() / pairs)


def expected_average_precision(steps: Steps) -> float | None:
    """Expected precision averaged over the gains in expected recall, from the highest rank down."""
    positive, negative = steps
    hits = np.cumsum(positive)
    if not len(hits) or not hits[-1]:
        return None
    return float((positive / hits[-1] * hits / (hits + np.cumsum(negative))).sum())


def _decision_metrics(found: ExpectedConfusion) -> Metrics:
    hits, misses = found.true_positive, found.false_negative
    wrong, right = found.false_positive, found.true_negative
    return {
        "accuracy": _ratio(hits + right, hits + misses + wrong + right),
        "precision": _ratio(hits, hits + wrong),
        "recall": _ratio(hits, hits + misses),
        "f1": _ratio(2 * hits, 2 * hits + misses + wrong),
        "specificity": _ratio(right, right + wrong),
    }


def _mean(values: Vector) -> float | None:
    return float(values.mean()) if len(values) else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
