"""The band of a cascade: the narrowest one outside which first scores cost no more than is allowed.

Three things are counted over rows that the trees never saw: what the loss rises by, what it is expected to rise by if
the full model is right (which no chance in labels can flatter), and decisions that come out otherwise.
Pure: arrays in, numbers out. Added here: how a band is chosen. Not here: how it is used (`cascade.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nightscore.measures.metrics import Mask
from nightscore.training.cascade import Band, Scale
from nightscore.training.matrix import Vector

MOST_BOUNDS = 400
"""Bounds are looked for at so many quantiles of the first scores."""
MARGIN = 1.5
"""A decision counts as another also where it would be if the full score lay so many times as far away: on other dates
some will. With 1, held-out flips were up to five times as many as allowed."""
_ROUNDING = 1e-9
"""What sums over rows may exceed a limit by; a band of all rows must always do."""
_FLAT = 1e-12

Decide = Callable[[Vector], Mask]
"""From probabilities (rows,) to yes decisions (rows,), row by row."""


@dataclass(frozen=True)
class Limits:
    """What a cascade may cost: a share of the full model's loss, and of its yes decisions."""

    loss_share: float
    flip_share: float


@dataclass(frozen=True)
class Choice:
    """A band with its scale, and the share of rows within it."""

    band: Band
    scale: Scale
    share: float

    def work(self, prefix: int, trees: int) -> float:
        """Trees that LightGBM walks for a row, on average."""
        return prefix + self.share * trees


def choose_band(early: Vector, full: Vector, labels: Vector, decide: Decide, limits: Limits) -> Choice:
    """The narrowest band of first scores `early` (rows,) beside `full` ones (rows,), both log odds, within `limits`.

    Whatever the order of rows. A band of everything is always within them.
    """
    scale = fit_scale(early, full)
    order = np.lexsort((labels, full, early))
    costs, most = _costs(scale.apply(early), full, labels, decide, limits)
    cuts = _cuts(early[order])
    first, last = _narrowest(costs[:, order], most, cuts)
    bounds = np.array([-math.inf, *early[order][cuts[1:-1]], math.inf])
    return Choice(
        Band(float(bounds[first]), float(bounds[last])), scale, float(cuts[last] - cuts[first]) / len(early)
    )  # fmt: skip


def fit_scale(early: Vector, full: Vector) -> Scale:
    """The least squares line from `early` to `full`, exactly summed; a shift alone where they do not rise together."""
    rows = len(early)
    mean_early, mean_full = math.fsum(early) / rows, math.fsum(full) / rows
    spread = math.fsum((early - mean_early) ** 2)
    together = math.fsum((early - mean_early) * (full - mean_full))
    slope = together / spread if spread > _FLAT and together > 0 else 1.0
    return Scale(slope, mean_full - slope * mean_early)


def _costs(
    small: Vector, full: Vector, labels: Vector, decide: Decide, limits: Limits
) -> tuple[Vector, Sequence[float]]:
    """What each row costs outside the band (3, rows), and the most that all together may cost (3,)."""
    from scipy.special import expit

    probability, lost = expit(full), _softplus(full) - labels * full
    measured = _softplus(small) - labels * small - lost
    expected = probability * (full - small) + _softplus(small) - _softplus(full)
    yes, early = decide(probability), decide(expit(small))
    flips = ((early != yes) | (early != decide(expit(small + MARGIN * (full - small))))).astype(np.float64)
    allowed = limits.loss_share * math.fsum(lost)
    return np.stack([measured, expected, flips]), (allowed, allowed, limits.flip_share * int(yes.sum()))


def _softplus(raw: Vector) -> Vector:
    return np.logaddexp(0.0, raw)


def _cuts(ordered: Vector) -> Vector:
    """Positions of the sorted scores where a band may begin or end: never between equal ones; first 0, last all."""
    rows = len(ordered)
    quantiles = np.linspace(0, rows, min(MOST_BOUNDS, rows + 1)).astype(np.int64)[1:-1]
    inner = np.unique(np.searchsorted(ordered, ordered[quantiles], side="left"))
    return np.array([0, *inner[inner > 0], rows])


def _narrowest(costs: Vector, most: Sequence[float], cuts: Vector) -> tuple[int, int]:
    """Indexes into `cuts` of the band with the fewest rows outside which each cost is within its limit."""
    sums = np.concatenate([np.zeros((len(costs), 1)), np.cumsum(costs, axis=1)], axis=1)[:, cuts]
    within = np.ones((len(cuts), len(cuts)), dtype=np.bool_)
    for cost, limit in zip(sums, most, strict=True):
        outside = cost[-1] - (cost[None, :] - cost[:, None])
        within &= outside <= limit + _ROUNDING
    rows = (cuts[None, :] - cuts[:, None]).astype(np.float64)
    rows[~within | (rows < 0)] = math.inf
    first, last = np.unravel_index(int(np.argmin(rows)), rows.shape)
    return int(first), int(last)
