"""Thresholds that the reference itself sets: each of its dates and weeks compared with the others, as a night will be.

Added here: a figure of left-out dates. Not here: the factor or the least value that a policy puts on it.
"""

import math
from collections.abc import Sequence
from datetime import date

import numpy as np

from nightscore.measures.bins import Counts
from nightscore.measures.bootstrap import Codes
from nightscore.measures.distances import psi
from nightscore.measures.metrics import Vector

FEWEST = 3
"""Left-out comparisons below which a percentile of them means nothing."""
STEADY_PSI = 0.1
"""A column whose left-out weeks lie further apart than this, the floor of L3, moves of itself."""
_LEAST, _LARGEST = 1e-9, 50.0
"""PSI that counts as one, and the largest logarithm of one."""


def left_out_psi(counts: Counts, groups: Codes) -> Vector:
    """PSI of each row of `counts` (units, bins) against all others of its group; units without either are left out."""
    totals = {group: counts[groups == group].sum(axis=0) for group in np.unique(groups).tolist()}
    found = [psi(totals[group] - own, own) for group, own in zip(groups.tolist(), counts, strict=True)]
    return np.array([one for one in found if one is not None], np.float64)


def forward_psi(counts: Counts, groups: Codes) -> Vector:
    """PSI of each row of `counts` (units in order of time, bins) against the earlier ones of its group.

    A night is compared with its past, so a column that wanders is further from it than left-out dates in the midst of
    the reference are. The first two of a group have too little of a past.
    """
    found: list[float | None] = []
    for group in np.unique(groups).tolist():
        own = counts[groups == group]
        past = np.cumsum(own, axis=0)
        found += [psi(past[at - 1], own[at]) for at in range(2, len(own))]
    return np.array([one for one in found if one is not None], np.float64)


def is_steady(night_psi: float | None, week_psi: float | None) -> bool:
    """Whether left-out weeks, or without them dates, lie close together, so that a distance tells of a fault."""
    usual = week_psi if week_psi is not None else night_psi
    return usual is None or usual <= STEADY_PSI


def limit_ahead(values: Vector, steady: bool) -> float | None:
    """What the next of `values`, of dates or weeks against their past, stays below: for a column that is steady the
    largest that was seen, for one that wanders a limit of what may come. None where there are too few.
    """
    if not steady:
        return limit_of_next(values)
    return float(values.max()) if len(values) >= FEWEST else None


def limit_of_next(values: Vector, confidence: float = 0.9999) -> float | None:
    """What the next of such positive values stays below with `confidence`: a one-sided prediction limit of logarithms.

    Hahn & Meeker, Statistical Intervals, 1991, section 4.8: mean + t · sd · sqrt(1 + 1/n). Infinitely wide limits say
    nothing, so fewer than eight values, or none that differ, give None.
    """
    from scipy.special import stdtrit

    known = np.log(values[values > _LEAST])
    if len(known) < 8 or not float(known.std()):
        return None
    apart = float(stdtrit(len(known) - 1, confidence)) * float(known.std(ddof=1)) * math.sqrt(1 + 1 / len(known))
    return math.exp(min(float(known.mean()) + apart, _LARGEST))


def week_counts(dates: Sequence[date], counts: Counts) -> Counts:
    """`counts` (dates, bins) summed over blocks of seven calendar dates that end with the last: (weeks, bins).

    `dates` ascend, and so do the weeks; the first block is left out when it would begin before the first date.
    """
    if not dates:
        return counts
    ago = np.array([(dates[-1] - day).days // 7 for day in dates])
    whole = ((dates[-1] - dates[0]).days + 1) // 7
    weeks = [counts[ago == week].sum(axis=0) for week in reversed(range(whole))]
    return np.array(weeks, np.int64).reshape(-1, counts.shape[1])


def null_deviations(counts: Counts) -> Vector:
    """How far the null rate of each row of `counts` (dates, bins) lies from that of all others, 0..1."""
    rows, nulls = counts.sum(axis=1), counts[:, -1]
    others = rows.sum() - rows
    usable = (rows > 0) & (others > 0)
    return np.asarray(np.abs(nulls / np.maximum(rows, 1) - (nulls.sum() - nulls) / np.maximum(others, 1))[usable])


def percentile(values: Vector, share: float) -> float | None:
    """By linear interpolation; None with fewer than three values."""
    return float(np.quantile(values, share)) if len(values) >= FEWEST else None
