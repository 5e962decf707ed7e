"""What a night's predictions show by themselves: keys that stand twice, and scores that are none or all the same.

Added here: a figure of predictions that needs no reference. Not here: what follows from it (`levels.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import polars as pl

from nightscore.lake.content import exceeds
from nightscore.watch.columns import read_columns

BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class ScoreFigures:
    """Rows; those beyond the first of a key; those without a finite score; whether there is one score for all."""

    rows: int
    duplicate_keys: int
    not_finite: int
    constant: bool


def measure_scores(path: Path, key: Sequence[str], score: str) -> ScoreFigures:
    """The figures of the predictions at `path`, in one pass and bounded memory while its rows are in order of `key`."""
    rows = finite = repeated = 0
    ordered = constant = True
    first, last = None, None
    for batch in read_columns(path, [*key, score], BATCH_ROWS):
        scores, keys = batch[score], batch.select(key)
        first = scores.head(1) if first is None else first
        rows, finite = rows + len(scores), finite + int(scores.is_finite().sum())
        constant = constant and bool(scores.eq_missing(first).all())
        if ordered:
            ordered, more = _follow(keys if last is None else pl.concat([last, keys]))
            repeated, last = repeated + more, keys.tail(1)
    duplicates = repeated if ordered else rows - _distinct(path, key)
    return ScoreFigures(rows, duplicates, rows - finite, constant and rows > 0)


def _follow(keys: pl.DataFrame) -> tuple[bool, int]:
    """Whether no row of `keys` comes before the one above it, and how many are the same; nulls are not compared."""
    if any(keys.null_count().row(0)):
        return False, 0
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in keys.columns)
    after = reduce(exceeds, reversed(keys.columns), pl.lit(False))
    found = keys.select(same.alias("same"), (same | after).alias("follows")).slice(1)
    return bool(found["follows"].all()), int(found["same"].sum())


def _distinct(path: Path, key: Sequence[str]) -> int:
    """Of rows in any order: memory grows with the keys."""
    keys = pl.scan_parquet(path).select(key).unique().select(pl.len())
    return int(keys.collect(engine="streaming").item())
