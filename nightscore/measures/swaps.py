"""Levels of a column that were swapped: the rows of each now look like the reference's rows of the other.

What a level's rows look like is the shares of their other columns' bins. Distances of levels are total variations of a
column, in multiples of the distance to the level's own past; the median of the telling columns counts, since some may
have been looked up by the wrong code, and fit nobody's past. Not a test: it names a pattern that chance does not make.
Added here: another way that codes are mixed up. Not here: whether anything changed at all.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.measures.bins import decile_edges, level_counts, to_vector
from nightscore.measures.bootstrap import Codes, Matrix
from nightscore.measures.metrics import Vector
from nightscore.measures.profiles import Kind

FEWEST_ROWS = 30
"""Of a level on either side: fewer say too little about it."""
_MOST_LEVELS = 50
_TELLING, _LEAST = 0.1, 1e-9
"""A column tells two levels apart when their rows of the reference differ by this; and what a distance is at least."""
_DECISIVE = 0.5
"""Of the distance to its own past: the rows of a swapped level are nearer than this to the other's past."""


def swapped_levels(
    reference: pl.DataFrame, current: pl.DataFrame, name: str, kinds: Mapping[str, Kind]
) -> tuple[tuple[str, str], ...]:
    """Pairs of levels of column `name` that took each other's place, in alphabetical order; `kinds` has all columns.

    Only among the 50 most frequent levels with 30 rows on both sides.
    """
    levels = _levels(reference[name], current[name])
    others = {other: kind for other, kind in kinds.items() if other != name}
    if len(levels) < 2 or not others:
        return ()
    found = [_distances(reference, current, name, levels, other, kind) for other, kind in others.items()]
    each, before = (np.array(one) for one in zip(*found, strict=True))
    own = np.maximum(np.diagonal(each, axis1=1, axis2=2), _LEAST)
    apart = _median(each / own[:, :, None], before >= _TELLING)
    nearest = np.argmin(apart, axis=1)
    decided = apart[np.arange(len(levels)), nearest] < _DECISIVE
    return tuple(
        (levels[one], levels[other])
        for one, other in enumerate(nearest.tolist())
        if one < other and nearest[other] == one and decided[one] and decided[other]
    )


def _median(ratios: npt.NDArray[np.float64], telling: npt.NDArray[np.bool_]) -> Matrix:
    """Over the columns (first axis) in which two levels differed before: any other says nothing of either.

    Those that were looked up by the wrong code fit neither level's past, so most columns decide and not their sum.
    """
    ratios = np.sort(np.where(telling, ratios, np.inf), axis=0)
    middle = np.maximum(telling.sum(axis=0) // 2, 0)
    found = np.take_along_axis(ratios, middle[None], axis=0)[0]
    # A level is as far from its own past as it is.
    return np.where(np.eye(len(found), dtype=np.bool_), 1.0, found)


def _levels(reference: pl.Series, current: pl.Series) -> list[str]:
    old, new = level_counts(reference), level_counts(current)
    both = {level: min(rows, new.get(level, 0)) for level, rows in old.items()}
    frequent = sorted((level for level in both if both[level] >= FEWEST_ROWS), key=lambda level: (-both[level], level))
    return sorted(frequent[:_MOST_LEVELS])


def _distances(
    reference: pl.DataFrame, current: pl.DataFrame, name: str, levels: list[str], other: str, kind: Kind
) -> tuple[Matrix, Matrix]:
    """Total variation of column `other` between the current rows of each level and the reference's of each.

    And between the reference's rows of each level and of each.
    """
    edges = decile_edges(to_vector(reference[other])) if kind == "number" else np.empty(0)
    known = [] if kind == "number" else sorted(level_counts(reference[other]))
    old, new = (_shares(side, name, levels, _bins_of(side[other], kind, edges, known)) for side in (reference, current))
    now, before = (np.abs(side[:, None, :] - old[None, :, :]).sum(axis=2) / 2 for side in (new, old))
    return now, before


def _bins_of(column: pl.Series, kind: Kind, edges: Vector, levels: list[str]) -> tuple[Codes, int]:
    """The bin of each row, as `bins.py` counts them, and how many bins there are."""
    if kind != "number":
        places = _places(column, levels)
        return np.where(column.is_null().to_numpy(), len(levels) + 1, places), len(levels) + 2
    values = to_vector(column)
    inner = np.searchsorted(edges, values, side="left")
    return np.where(np.isfinite(values), inner, len(edges) + 1), len(edges) + 2


def _places(column: pl.Series, levels: list[str]) -> Codes:
    """The place of each row's level; that of none is behind the last."""
    known = dict(zip(levels, range(len(levels)), strict=True))
    text = column.cast(pl.String)
    return text.replace_strict(known, default=len(levels), return_dtype=pl.Int64).to_numpy()


def _shares(side: pl.DataFrame, name: str, levels: list[str], bins: tuple[Codes, int]) -> Matrix:
    """Of the rows of each level, the share in each bin: (levels, bins)."""
    (codes, width), rows = bins, len(levels)
    counts = np.bincount(_places(side[name], levels) * width + codes, minlength=(rows + 1) * width)
    table = counts.reshape(rows + 1, width)[:rows].astype(np.float64)
    return np.asarray(table / np.maximum(table.sum(axis=1, keepdims=True), 1))
