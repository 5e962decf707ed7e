"""How scores moved from one set to another: PSI, quantiles of the shift, churn of the top, and sketches that add up.

A value that is null, NaN or infinite is missing: it has a bin of its own and takes no part in quantiles or sums.
Where a figure has no meaning (nothing to compare), it is None, never 0.
Added here: a measure of movement. Not here: which rows are compared, or how good scores are (`metrics.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightscore.measures import distances
from nightscore.measures.bins import Counts, count_numbers, decile_edges, finite_values
from nightscore.measures.distances import FLOOR
from nightscore.measures.metrics import Vector

SKETCH_BINS = 1024
_FINEST = 32
"""Bits of a double that the finest sketch drops: 20 of the mantissa's 52 are kept."""


def psi(reference: Vector, current: Vector) -> float | None:
    """Population stability index over the reference's deciles, in nats; None when either set has no rows.

    Deciles by linear interpolation, equal ones once; bins (lo, hi], the outer ones open, and one for missing values;
    shares below 1e-4 count as 1e-4 without renormalisation. To leave missing values out, drop them first.
    """
    edges = decile_edges(reference)
    return distances.psi(count_numbers(reference, edges), count_numbers(current, edges), FLOOR)


def count_top(before: Vector, after: Vector, k: int) -> tuple[int, int]:
    """Rows in the top of both, and rows of the larger top: k, fewer in a small night, more where ranks tie.

    `before` and `after` hold the ranks of the same rows (rows,), 1 the best, NaN where a row has none.
    """
    old, new = before <= k, after <= k
    return int((old & new).sum()), int(max(old.sum(), new.sum()))


def churn_of_counts(kept: int, size: int) -> float | None:
    """The share of the top that is not the same rows; None without a top."""
    return 1 - kept / size if size else None


@dataclass(frozen=True)
class Sketch:
    """A distribution as counts in at most 1024 bins, which can be added to another's without loss.

    The bins split every power of two evenly, on both sides of zero, as finely as fits: unless values span a thousand
    powers of two, each is known to within 2^(`dropped_bits` - 53) of itself. Merging sketches gives the sketch of all
    rows at once, but for rounding of the sums.
    """

    dropped_bits: int
    bins: tuple[int, ...]
    counts: tuple[int, ...]
    missing: int
    minimum: float | None
    maximum: float | None
    total: float
    squares: float

    @property
    def rows(self) -> int:
        """Values that are not missing."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Mean of the values, in their unit."""
        return self.total / self.rows if self.rows else None

    @property
    def max_abs(self) -> float | None:
        """The value farthest from zero, without its sign; exact."""
        if self.minimum is None or self.maximum is None:
            return None
        return max(abs(self.minimum), abs(self.maximum))

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """The values below which `shares` of the rows lie, by linear interpolation of the sketched rows."""
        if self.minimum is None or self.maximum is None:
            return [None for _ in shares]
        found = _quantiles(self._values, self.counts, shares)
        return [float(value) for value in np.clip(found, self.minimum, self.maximum)]

    def histogram(self, edges: Vector) -> list[int]:
        """Rows in each bin (lo, hi] of `edges`, the outer ones open: edges + 1 counts."""
        return [int(count) for count in _binned(self._values, np.array(self.counts), edges)]

    @property
    def _values(self) -> Vector:
        return _midpoints(np.array(self.bins, np.int64), self.dropped_bits)


def sketch(values: Vector) -> Sketch:
    """The sketch of `values` (rows,), whatever their order."""
    finite = np.sort(finite_values(values))
    magnitude = np.abs(finite).view(np.int64) >> _FINEST
    bins = np.where(finite < 0, -magnitude, magnitude)
    return Sketch(
        *_fitted(_FINEST, bins, np.ones(len(bins), np.int64)),
        missing=len(values) - len(finite),
        minimum=float(finite[0]) if len(finite) else None,
        maximum=float(finite[-1]) if len(finite) else None,
        total=_sum(finite),
        squares=_sum(_squared(finite)),
    )


def merge_sketches(sketches: Iterable[Sketch]) -> Sketch:
    """The sketch of all rows together; that of no rows when there is none."""
    given = list(sketches)
    dropped = max((one.dropped_bits for one in given), default=_FINEST)
    bins = [_coarsened(one, dropped) for one in given]
    counts = np.array([count for one in given for count in one.counts], np.int64)
    return Sketch(
        *_fitted(dropped, np.concatenate([*bins, np.empty(0, np.int64)]), counts),
        missing=sum(one.missing for one in given),
        minimum=min((one.minimum for one in given if one.minimum is not None), default=None),
        maximum=max((one.maximum for one in given if one.maximum is not None), default=None),
        total=_sum(np.array([one.total for one in given])),
        squares=_sum(np.array([one.squares for one in given])),
    )


def psi_of_sketches(reference: Sketch, current: Sketch) -> float | None:
    """PSI with the deciles of the sketched reference; a decile may be off by the sketch's relative error."""
    dropped = max(reference.dropped_bits, current.dropped_bits)
    old, new = (_midpoints(_coarsened(one, dropped), dropped) for one in (reference, current))
    deciles = _quantiles(old, reference.counts, np.arange(1, 10) / 10) if reference.counts else np.empty(0)
    edges = np.unique(deciles)
    return distances.psi(
        np.append(_binned(old, np.array(reference.counts), edges), reference.missing),
        np.append(_binned(new, np.array(current.counts), edges), current.missing),
        FLOOR,
    )


def _binned(values: Vector, weights: npt.NDArray[np.generic], edges: Vector) -> Counts:
    at = np.searchsorted(edges, values, side="left")
    return np.bincount(at, weights=weights, minlength=len(edges) + 1).astype(np.int64)


def _quantiles(values: Vector, counts: Sequence[int], shares: Sequence[float] | Vector) -> Vector:
    """Of `values`, ascending, each standing `counts` times."""
    upto = np.cumsum(counts)
    position = np.asarray(shares) * (upto[-1] - 1)
    low = np.floor(position).astype(np.int64)
    below = values[np.searchsorted(upto, low, side="right")]
    above = values[np.searchsorted(upto, np.minimum(low + 1, upto[-1] - 1), side="right")]
    part = position - low
    # Between equal values the sum of parts could round off the value, and so off the bin that the value is in.
    return np.asarray(np.where(below == above, below, below * (1 - part) + above * part))


def _midpoints(bins: Counts, dropped_bits: int) -> Vector:
    """One value a bin, ascending; the bin at zero is zero itself."""
    low = np.abs(bins) << dropped_bits
    largest = np.finfo(np.float64).max.view(np.int64)
    middle = np.minimum(low + (1 << (dropped_bits - 1)), largest).view(np.float64)
    return np.where(bins == 0, 0.0, np.copysign(middle, bins))


def _fitted(dropped_bits: int, bins: Counts, counts: Counts) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Equal bins added up, and all made coarser until they are few enough."""
    bins, counts = _grouped(bins, counts)
    while len(bins) > SKETCH_BINS:
        dropped_bits += 1
        bins, counts = _grouped(_halved(bins, 1), counts)
    return dropped_bits, tuple(bins.tolist()), tuple(counts.tolist())


def _coarsened(one: Sketch, dropped_bits: int) -> Counts:
    """The bins at another width; some may be equal then. What was coarsened in steps is as if done at once."""
    return _halved(np.array(one.bins, np.int64), dropped_bits - one.dropped_bits)


def _halved(bins: Counts, times: int) -> Counts:
    return np.asarray(np.sign(bins) * (np.abs(bins) >> times))


def _grouped(bins: Counts, counts: Counts) -> tuple[Counts, Counts]:
    order = np.argsort(bins, kind="stable")
    ordered = bins[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.add.reduceat(counts[order], starts) if len(starts) else counts


def _squared(values: Vector) -> Vector:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.square(values))


def _sum(values: Vector) -> float:
    """In ascending order, so the order of rows does not show; kept finite, since JSON knows no infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.sort(values).sum()))
