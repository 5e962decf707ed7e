"""A bounded sample of the rows of a stream, the same whatever the size of its batches.

Up to 262,144 rows it is all of them. Above, each row is kept by a hash of its number, and the share of kept rows is
halved whenever they are too many (adaptive Bernoulli sampling). The 131,072 rows that are left at
least put a decile off by 0.14 % of rank, one standard deviation.
Added here: another way to draw rows of a stream. Not here: what is made of them.
"""

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

Batch = tuple[date, pl.DataFrame]
Numbers = npt.NDArray[np.int64]

SAMPLE_ROWS = 1 << 18
_KEY = "__key__"
_LARGEST = (1 << 64) - 1
_SLICE = 1 << 16


def sample_rows(batches: Iterable[Batch], columns: Sequence[str], most: int = SAMPLE_ROWS) -> pl.DataFrame:
    """At most `most` rows of `columns`; the same for the same rows in the same order, in batches of any size."""
    kept = pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
    waiting: list[pl.DataFrame] = []
    seen, halvings, held = 0, 0, 0
    for part in (part for _, frame in batches for part in frame.select(columns).iter_slices(_SLICE)):
        waiting.append(_drawn(part, _hashed(seen, len(part)), halvings))
        seen, held = seen + len(part), held + len(waiting[-1])
        while held > most:
            halvings += 1
            waiting = [_lowest(pl.concat(waiting, how="vertical_relaxed"), halvings)]
            held = len(waiting[0])
    return pl.concat([kept, *(part.drop(_KEY) for part in waiting)], how="vertical_relaxed")


def sample_numbers(rows: int, most: int = SAMPLE_ROWS) -> Numbers:
    """The numbers, ascending, of the rows that `sample_rows` keeps of a stream of so many."""
    if rows <= most:
        return np.arange(rows)
    starts = range(0, rows, _SLICE)
    numbers = (pl.DataFrame({"row": np.arange(start, min(start + _SLICE, rows))}) for start in starts)
    return sample_rows(((date.min, one) for one in numbers), ["row"], most)["row"].cast(pl.Int64).to_numpy()


def _drawn(part: pl.DataFrame, keys: npt.NDArray[np.uint64], halvings: int) -> pl.DataFrame:
    """The rows of `part` with the lowest of their `keys`, beside them. Few are left: the others are not touched."""
    if not halvings:
        return part.with_columns(pl.Series(_KEY, keys))
    found = np.flatnonzero(keys <= _largest(halvings))
    return part[found].with_columns(pl.Series(_KEY, keys[found]))


def _lowest(part: pl.DataFrame, halvings: int) -> pl.DataFrame:
    """The rows whose hash is in the lowest 1 / 2^halvings."""
    return part.filter(pl.col(_KEY) <= int(_largest(halvings)))


def _largest(halvings: int) -> np.uint64:
    return np.uint64(_LARGEST >> halvings)


def _hashed(start: int, rows: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea & Flood 2014) of the numbers from `start` on."""
    mixed = np.arange(start + 1, start + 1 + rows, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
