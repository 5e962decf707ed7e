"""Evidence that a challenger is better than a champion on the same rows, paired by score date.

The gain is a ratio of sums over dates, its spread that of the dates. With 10 to 28 dates a percentile bootstrap is too
narrow, so bounds are bootstrap-t (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12; Hesterberg,
What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015) and never nearer than Student's t.
Days that follow each other resemble each other: bounds are widened by sqrt((1 + r) / (1 - r)), r the autocorrelation
of neighbouring dates corrected for its bias in short series (Kendall 1954), between 0 and 0.5, so never narrowed.
Added here: paired evidence. Not here: the verdict drawn from it, or evidence from separate arms (`clustered.py`).
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from nightscore.measures.bootstrap import Codes, Matrix, log_losses, resample_dates
from nightscore.measures.metrics import Vector

_ROUNDING = 1e-12
"""Of the champion's loss: a standard error of the gain that is smaller is none."""
_NO_SPREAD = 1e-9
"""Of the largest standard error of a resample: what is smaller is rounding."""
POWER = 0.8
_MOST_AUTOCORRELATION = 0.5


@dataclass(frozen=True)
class PairedEvidence:
    """How much of the champion's loss the challenger saves; above 0 is better, None where it has no meaning.

    `lower` and `upper` are one-sided bounds of `gain`, `sd_daily` the standard deviation of the daily gain, and
    `detectable` the true gain whose lower bound would be above 0 in 80 % of cases with as many dates.
    """

    dates: int
    rows: int
    champion_loss: float | None
    challenger_loss: float | None
    gain: float | None
    lower: float | None
    upper: float | None
    sd_daily: float | None
    detectable: float | None

    def as_json(self) -> dict[str, float | int | None]:
        """Every figure by name."""
        return asdict(self)


def losses(task: Literal["binary", "regression"], labels: Vector, predictions: Vector) -> Vector:
    """Each row's loss (rows,): log loss in nats for a binary task, squared error for a regression."""
    return log_losses(labels, predictions) if task == "binary" else np.asarray((predictions - labels) ** 2)


def compare_by_date(
    champion_losses: Vector,
    challenger_losses: Vector,
    groups: Codes,
    confidence: float = 0.9,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedEvidence:
    """The challenger's relative gain with one-sided bounds at `confidence` each.

    `groups` (rows,) numbers the rows' dates in the order of time. Fewer than two dates have no bounds, a champion
    without any loss has no gain, unless the challenger has none either.
    """
    _, codes = np.unique(groups, return_inverse=True)
    champion = np.asarray(np.bincount(codes, weights=champion_losses), np.float64)
    saved = np.asarray(np.bincount(codes, weights=champion_losses - challenger_losses), np.float64)
    gain = _gain(saved, champion)
    lower, upper, detectable = _bounds(saved, champion, gain, confidence, resample_dates(len(saved), resamples, seed))
    return PairedEvidence(
        dates=len(champion),
        rows=len(codes),
        champion_loss=float(champion_losses.mean()) if len(codes) else None,
        challenger_loss=float(challenger_losses.mean()) if len(codes) else None,
        gain=gain,
        lower=lower,
        upper=upper,
        sd_daily=_daily_deviation(saved, champion),
        detectable=detectable,
    )


def _gain(saved: Vector, champion: Vector) -> float | None:
    if not len(saved):
        return None
    if _is_nothing(saved, champion):
        return 0.0
    return float(saved.sum() / champion.sum()) if champion.sum() > 0 else None


def _is_nothing(saved: Vector, champion: Vector) -> bool:
    """Whether only rounding tells the two apart, on every date."""
    return bool(np.abs(saved).sum() <= _ROUNDING * champion.sum())


def _daily_deviation(saved: Vector, champion: Vector) -> float | None:
    """Over dates on which the champion has a loss."""
    known = champion > 0
    daily = saved[known] / champion[known]
    return float(daily.std(ddof=1)) if len(daily) > 1 else None


def _bounds(
    saved: Vector, champion: Vector, gain: float | None, confidence: float, weights: Codes
) -> tuple[float | None, float | None, float | None]:
    """Lower, upper and the detectable gain."""
    if gain is None or len(saved) < 2:
        return None, None, None
    if _is_nothing(saved, champion):
        return gain, gain, 0.0
    error = float(_standard_errors(saved, champion, np.ones((1, len(saved))))[0])
    if error <= _ROUNDING:
        return gain, gain, 0.0
    error *= _widening(saved - gain * champion)
    below, above, power = _quantiles(saved, champion, gain, confidence, weights)
    return gain - below * error, gain + above * error, (below + power) * error


def _quantiles(
    saved: Vector, champion: Vector, gain: float, confidence: float, weights: Codes
) -> tuple[float, float, float]:
    """In standard errors: how far the bounds lie below and above, and what 80 % power needs beyond the lower one."""
    from scipy.special import stdtrit

    student, power = stdtrit(len(saved) - 1, [confidence, POWER])
    errors = _standard_errors(saved, champion, weights)
    # Resamples of dates that are all alike have no spread of their own.
    usable = errors > _NO_SPREAD * errors.max()
    if not usable.any():
        return float(student), float(student), float(power)
    drawn = weights[usable]
    found = (drawn @ saved / (drawn @ champion) - gain) / errors[usable]
    below, above = np.quantile(found, confidence), -np.quantile(found, 1 - confidence)
    return float(max(below, student)), float(max(above, student)), float(power)


def _standard_errors(saved: Vector, champion: Vector, weights: Codes | Matrix) -> Vector:
    """Of the ratio of sums in each resample, by linearisation."""
    dates, whole = weights.shape[1], weights @ champion
    residuals = saved - (weights @ saved / whole)[:, None] * champion
    return np.asarray(np.sqrt(dates / (dates - 1) * (weights * residuals**2).sum(axis=1)) / whole)


def _widening(residuals: Vector) -> float:
    dates = len(residuals)
    raw = (residuals[1:] * residuals[:-1]).sum() / (residuals**2).sum()
    r = np.clip((dates * raw + 1) / max(dates - 4, 1), 0, _MOST_AUTOCORRELATION)
    return float(np.sqrt((1 + r) / (1 - r)))
