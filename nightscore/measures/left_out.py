"""Thresholds that the reference itself sets: each of its dates and weeks compared with the others, as a night will be.

Added here: a figure of left-out dates. Not here: the factor or the least value that a policy puts on it.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np

from nightscore.measures.bins import Counts
from nightscore.measures.bootstrap import Codes
from nightscore.measures.distances import psi
from nightscore.measures.metrics import Vector

FEWEST = 3
"""Left-out comparisons below which a percentile of them means nothing."""


def left_out_psi(counts: Counts, groups: Codes) -> Vector:
    """PSI of each row of `counts` (units, bins) against all others of its group; units without either are left out."""
    totals = {group: counts[groups == group].sum(axis=0) for group in np.unique(groups).tolist()}
    found = [psi(totals[group] - own, own) for group, own in zip(groups.tolist(), counts, strict=True)]
    return np.array([one for one in found if one is not None], np.float64)


def week_counts(dates: Sequence[date], counts: Counts) -> Counts:
    """`counts` (dates, bins) summed over blocks of seven calendar dates that end with the last: (weeks, bins).

    `dates` ascend; the first block is left out when it would begin before the first date.
    """
    if not dates:
        return counts
    ago = np.array([(dates[-1] - day).days // 7 for day in dates])
    whole = ((dates[-1] - dates[0]).days + 1) // 7
    return np.array([counts[ago == week].sum(axis=0) for week in range(whole)], np.int64).reshape(-1, counts.shape[1])


def null_deviations(counts: Counts) -> Vector:
    """How far the null rate of each row of `counts` (dates, bins) lies from that of all others, 0..1."""
    rows, nulls = counts.sum(axis=1), counts[:, -1]
    others = rows.sum() - rows
    usable = (rows > 0) & (others > 0)
    return np.asarray(np.abs(nulls / np.maximum(rows, 1) - (nulls.sum() - nulls) / np.maximum(others, 1))[usable])


def percentile(values: Vector, share: float) -> float | None:
    """By linear interpolation; None with fewer than three values."""
    return float(np.quantile(values, share)) if len(values) >= FEWEST else None
