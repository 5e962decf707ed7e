"""Ranks of a whole night in bounded memory: rows are parted by merit first, and only a part is sorted at a time.

Added here: nothing but ranking. Not here: what merit is, and what follows from a rank (`decide.py`).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
PART_ROWS, MOST_PARTS = 1 << 18, 32
"""About so many rows are sorted together, or more where that would make more parts: each looks through all rows."""


def rank_rows(merit: Vector, score: Vector, threads: int = 1) -> Ranks:
    """Ranks (rows,), 1 for the highest merit; ties go to the higher score, then to the earlier row; NaN comes last.

    `threads` change nothing but time.
    """
    ranks = np.empty(len(merit), dtype=np.uint32)
    bounds = _bounds(merit)
    ahead = 0
    with ThreadPoolExecutor(threads) as pool:
        for order in pool.map(lambda span: _order(merit, score, *span), _spans(bounds)):
            ranks[order] = np.arange(ahead + 1, ahead + len(order) + 1, dtype=np.uint32)
            ahead += len(order)
    missing = np.flatnonzero(np.isnan(merit))
    if len(missing):
        last = missing[np.argsort(-score[missing], kind="stable")]
        ranks[last] = np.arange(ahead + 1, ahead + len(last) + 1, dtype=np.uint32)
    return ranks


def _bounds(merit: Vector) -> Vector:
    """Quantiles of a spread sample, ascending: between two of them lie about PART_ROWS rows."""
    parts = min(len(merit) // PART_ROWS, MOST_PARTS)
    if parts < 2:
        return np.empty(0)
    sample = np.sort(merit[:: max(1, len(merit) // (256 * parts))])
    known = sample[: np.count_nonzero(~np.isnan(sample))]
    places = np.linspace(0, len(known), parts + 1)[1:-1].astype(np.int64)
    return np.unique(known[places]) if len(known) else np.empty(0)


def _spans(bounds: Vector) -> Iterator[tuple[float, float]]:
    """(above, up to) from the highest down; the first has no end, the last no beginning."""
    edges = [-np.inf, *bounds.tolist(), np.inf]
    yield from zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True)


def _order(merit: Vector, score: Vector, low: float, high: float) -> Ranks:
    """Rows with low < merit <= high in the order of their rank; -inf belongs to the lowest part."""
    within = merit <= high
    if low != -np.inf:
        within &= merit > low
    rows = np.flatnonzero(within).astype(np.uint32)
    falling = -merit[rows]
    order = np.argsort(falling)  # several times faster than a stable sort, which only ties need
    return np.asarray(rows[_settle_ties(order, falling[order], None if score is merit else score[rows])])


def _settle_ties(order: Places, values: Vector, score: Vector | None) -> Places:
    """`order` with rows of equal `values` by the higher score, then by their number."""
    equal = values[1:] == values[:-1]
    if not equal.any():
        return order
    tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
    run = np.cumsum(np.concatenate([[True], ~equal]))[tied]
    keys = (order[tied], run) if score is None else (order[tied], -score[order[tied]], run)
    order[tied] = order[tied][np.lexsort(keys)]
    return order
