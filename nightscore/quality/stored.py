"""A stored table before the gate: its rows in batches with their masks, the sample that is counted twice, the split.

Added here: what is drawn from a file while it is judged. Not here: what offends (`masks.py`), verdicts (`gate.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from nightscore.lake.parquet import ROW_GROUP_ROWS, read_batches
from nightscore.quality.counts import Masks, set_aside_by, split
from nightscore.quality.masks import Check, offending
from nightscore.quality.repeats import is_among, repeated_rows
from nightscore.quality.rules import Rules
from nightscore.sources.columns import UNREADABLE
from nightscore.spec.expectations import Unique

BATCH_ROWS = ROW_GROUP_ROWS
SAMPLE_ROWS = 30_000
_RUN_ROWS = 16  # rows in a row, since copies of a key are neighbours
_OFFENDERS = 100  # offending rows of each check that are in the sample too


def count_rows(path: Path) -> int:
    """Rows of a Parquet file, by its footer."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True)
class StoredTable:
    """A Parquet file that is read `batch_rows` at a time."""

    path: Path
    batch_rows: int
    schema: pl.Schema
    rows: int

    @classmethod
    def open(cls, path: Path, batch_rows: int) -> "StoredTable":
        """The table at `path`."""
        return cls(path, batch_rows, next(read_batches(path, 1)).schema, count_rows(path))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """All rows in their order."""
        return read_batches(self.path, self.batch_rows, columns)


@dataclass(frozen=True)
class JudgedFile:
    """A stored table with its checks; `repeated` holds the repeated keys of each check of uniqueness.

    Without `by_row` nothing is set aside, since no row could be judged.
    """

    table: StoredTable
    checks: tuple[Check, ...]
    rules: Rules
    repeated: Mapping[str, pl.DataFrame]
    by_row: bool = True

    @classmethod
    def prepare(cls, table: StoredTable, checks: tuple[Check, ...], rules: Rules) -> "JudgedFile":
        """Find repeated keys first, by the key columns alone; a mask cannot be made of one batch otherwise."""
        place = {name: at for at, name in enumerate(rules.key)}
        repeated = {
            check.name: repeated_rows(
                table.batches, sorted(check.columns, key=lambda name: place.get(name, len(place)))
            )
            for check in checks
            if isinstance(check.rule, Unique)
        }
        return cls(table, checks, rules, repeated)

    def masked(self, checks: Sequence[Check], every_column: bool = False) -> Iterator[tuple[pl.DataFrame, Masks]]:
        """All rows, at least in the columns that are judged, with the masks of `checks`."""
        judged = {*self.rules.filled, *(name for check in self.checks for name in check.columns)}
        judged |= {UNREADABLE} if UNREADABLE in self.rules.schema else set()
        wanted = [name for name in self.table.schema if name in judged] or list(self.table.schema)[:1]
        for batch in self.table.batches(None if every_column else wanted):
            yield batch, {check.name: self._offending(batch, check) for check in checks}

    def accepted(self) -> Iterator[pl.DataFrame]:
        """The rows let in."""
        return (accepted for accepted, _ in self._split())

    def quarantined(self) -> Iterator[pl.DataFrame]:
        """The rows set aside, with their reasons."""
        return (quarantined for _, quarantined in self._split())

    def _split(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        setting_aside = [check for check in self.checks if check.rule.severity == "quarantine"]
        for batch, masks in self.masked(setting_aside, every_column=True):
            yield split(batch, set_aside_by(batch, masks, setting_aside, self.rules) if self.by_row else {})

    def _offending(self, batch: pl.DataFrame, check: Check) -> pl.Series:
        repeated = self.repeated.get(check.name)
        return offending(batch, check) if repeated is None else is_among(batch, repeated)


class Sample:
    """About SAMPLE_ROWS rows of a table, the same each time: short runs spread over it, and the first offenders."""

    def __init__(self, rows: int) -> None:
        self._step = max(1, rows // SAMPLE_ROWS)
        self._seen = 0
        self._offenders: Counter[str] = Counter()
        self._parts: list[pl.DataFrame] = []

    def take(self, parts: Iterable[tuple[pl.DataFrame, Masks]]) -> Iterator[tuple[pl.DataFrame, Masks]]:
        """Hand on all parts of the table, in their order, and keep what belongs to the sample."""
        for batch, masks in parts:
            chosen = (np.arange(self._seen, self._seen + batch.height) // _RUN_ROWS) % self._step == 0
            for name, mask in masks.items():
                first = mask.arg_true().head(max(0, _OFFENDERS - self._offenders[name])).to_numpy()
                self._offenders[name] += len(first)
                chosen[first] = True
            self._parts.append(batch.filter(pl.Series(chosen)))
            self._seen += batch.height
            yield batch, masks

    def rows(self) -> pl.DataFrame:
        """The sample, in the order of the table."""
        return pl.concat(self._parts)
