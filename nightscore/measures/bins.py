"""Counting a column into bins: what every distance between distributions starts from, and what a profile stores.

A number that is null, NaN or infinite is missing, as is a null category; missing values have the last bin.
Numbers: bins (lo, hi] of ascending edges with open outer ones, then missing. Levels: one bin a level, one for every
other level, then missing. Counts of the same bins may be added.
Added here: a way to bin. Not here: distances of counts (`distances.py`), or bins that refine themselves (`shift.py`).
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.measures.metrics import Vector

Counts = npt.NDArray[np.int64]
Closed = Literal["right", "left"]

_BLOCK = 1 << 15
"""Values that are compared with all edges while they are in the processor's cache."""


def to_vector(column: pl.Series) -> Vector:
    """Numbers or booleans as doubles (rows,), NaN where null; whole numbers beyond 2^53 are rounded."""
    return column.cast(pl.Float64).to_numpy()


def finite_values(values: Vector) -> Vector:
    """The values that are not missing; the same array when none is."""
    known = np.isfinite(values)
    return values if known.all() else values[known]


def decile_edges(reference: Vector) -> Vector:
    """At most nine ascending edges by linear interpolation, equal ones once; none without a value that is there."""
    finite = finite_values(reference)
    return np.unique(np.quantile(finite, np.arange(1, 10) / 10)) if len(finite) else np.empty(0)


def count_numbers(values: Vector, edges: Vector, closed: Closed = "right") -> Counts:
    """Rows of `values` (rows,) in each bin, closed on its right or left, then missing ones: shape (edges + 2,)."""
    finite = finite_values(values)
    return count_known(finite, len(values) - len(finite), edges, closed)


def count_known(finite: Vector, missing: int, edges: Vector, closed: Closed = "right") -> Counts:
    """What `count_numbers` gives for the values `finite` (rows,) and so many `missing` ones beside them."""
    upto = [*_count_below(finite, edges, closed), len(finite)]
    return np.append(np.diff(upto, prepend=0), missing)


def count_levels(column: pl.Series, levels: Iterable[str]) -> Counts:
    """Rows of each level in the order given, of any other, and null ones: shape (levels + 2,)."""
    found = level_counts(column)
    known = [found.get(level, 0) for level in levels]
    missing = column.null_count()
    return np.array([*known, len(column) - missing - sum(known), missing], np.int64)


def level_counts(column: pl.Series) -> dict[str, int]:
    """Rows of each level that is there, by its text; booleans are `false` and `true`."""
    if column.dtype == pl.Boolean:
        true = int(column.sum())
        both = {"false": len(column) - column.null_count() - true, "true": true}
        return {level: rows for level, rows in both.items() if rows}
    counted = column.drop_nulls().value_counts(name="rows")
    return dict(zip(counted[column.name].cast(pl.String).to_list(), counted["rows"].to_list(), strict=True))


def count_beyond(values: Vector, low: float, high: float) -> int:
    """Rows of `values` (rows,) below `low` or above `high`, infinite ones too; NaN is neither."""
    blocks = (values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK))
    return sum(int(np.count_nonzero(block < low)) + int(np.count_nonzero(block > high)) for block in blocks)


def _count_below(finite: Vector, edges: Vector, closed: Closed) -> Counts:
    """Rows at or below each edge, or strictly below. Comparing is several times as fast as searching few edges."""
    below = np.zeros(len(edges), np.int64)
    compare = np.less_equal if closed == "right" else np.less
    for start in range(0, len(finite), _BLOCK):
        block = finite[start : start + _BLOCK]
        below += np.array([np.count_nonzero(compare(block, edge)) for edge in edges], np.int64)
    return below
