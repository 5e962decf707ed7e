"""Are predictions those of LightGBM itself? Compared row by row, to the bit.

Added here: a column that is compared. Not here: making the reference (`data.py`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.bench.work import KEY

GIVEN = ("decision", "rank", "decile", "topk")


class WrongRows(Exception):
    """Predictions are not of the rows that were to be scored."""


@dataclass(frozen=True)
class Agreement:
    """Rows whose score differs in a bit, the greatest difference, and rows that differ in each column given."""

    rows: int
    other_bits: int
    greatest: float
    others: dict[str, int]


def compare(target: Path, reference: Path) -> Agreement:
    """The predictions in `target`, a file or a folder of files, beside the reference; raises WrongRows."""
    expected = pl.read_parquet(reference)
    found = pl.read_parquet(target if target.is_file() else target / "**/*.parquet", hive_partitioning=False).sort(KEY)
    if not found[KEY].equals(expected[KEY]):
        raise WrongRows(f"{target} has {found.height} rows, or other keys, expected {expected.height}")
    scores, right = (frame["score"].cast(pl.Float64).to_numpy() for frame in (found, expected))
    return Agreement(
        rows=found.height,
        other_bits=int((scores.view(np.int64) != right.view(np.int64)).sum()),
        greatest=float(np.abs(scores - right).max()),
        others={name: int((found[name] != expected[name]).sum()) for name in GIVEN if name in found.columns},
    )
