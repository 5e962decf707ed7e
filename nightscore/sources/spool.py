"""Delivered rows on their way into nights: in memory while they are few, then in sorted runs on disk that are merged.

What is read back does not depend on how many there were: by key, and by all columns where keys repeat.
Added here: how rows wait. Not here: which night a row belongs to (`extract`), or what is stored of it (`ingest`).
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import polars as pl

from nightscore.lake.parquet import in_order

EVENT_DATE = "event date"  # no declared column may have a space in its name
_STEP_ROWS = 1 << 14


@dataclass(frozen=True)
class Scratch:
    """What a reading may hold in memory: rows of a part, bytes of a file, bytes of typed rows.

    What is beyond them goes into `folder`; without one everything stays in memory.
    """

    folder: Path | None = None
    part_rows: int = 1 << 17
    file_bytes: int = 32 << 20
    run_bytes: int = 128 << 20


IN_MEMORY = Scratch()


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A new folder under `home`, gone afterwards; that of a killed process is swept when the home is opened."""
    parent = home / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-") as folder:
        yield Path(folder)


@dataclass(frozen=True, eq=False)
class Delivery:
    """The rows of one night; `read` gives them anew, in order, in one batch or more.

    Rows of equal key are in one batch.
    """

    rows: int
    read: Callable[[], Iterator[pl.DataFrame]]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "Delivery":
        """Rows in memory, which are in order."""
        return cls(frame.height, lambda: iter((frame,)))

    def load(self) -> pl.DataFrame:
        """All rows as one frame."""
        return pl.concat(self.read())


class Spool:
    """Takes typed rows with their event date as last column, and gives back those of each date."""

    def __init__(self, schema: Mapping[str, pl.DataType], key: Sequence[str], scratch: Scratch, by_date: bool) -> None:
        self._empty = pl.DataFrame(schema={**schema, EVENT_DATE: pl.Date()})
        self._key, self._scratch, self._by_date = key, scratch, by_date
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._rows: Counter[date | None] = Counter()
        self._runs: defaultdict[date | None, list[Path]] = defaultdict(list)
        self._folder: Path | None = None

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows, in any order."""
        self._held.append(rows)
        self._held_bytes += int(rows.estimated_size())
        if self._scratch.folder is not None and self._held_bytes > self._scratch.run_bytes:
            self._write_runs(self._scratch.folder)

    def deliveries(self, dates: Sequence[date]) -> dict[date, Delivery]:
        """The rows of each of `dates`, or all rows for each of them; no more may be added."""
        if self._runs and self._scratch.folder is not None:
            self._write_runs(self._scratch.folder)
            given = {day: self._delivery_of_runs(day) for day in self._runs}
        else:
            given = {day: Delivery.of(in_order(rows, self._key)) for day, rows in self._split().items()}
        none = Delivery.of(self._empty.drop(EVENT_DATE))
        return {day: given.get(day if self._by_date else None, none) for day in dates}

    def _split(self) -> dict[date | None, pl.DataFrame]:
        """The rows in memory, which are forgotten, by date."""
        rows, self._held, self._held_bytes = pl.concat([self._empty, *self._held]), [], 0
        if not self._by_date:
            return {None: rows.drop(EVENT_DATE)}
        days = rows[EVENT_DATE].unique().to_list()
        if len(days) == 1:  # as nearly always: a copy of all rows is spared
            return {days[0]: rows.drop(EVENT_DATE)}
        parts = rows.partition_by(EVENT_DATE, as_dict=True, include_key=False)
        return {day: part for (day,), part in parts.items()}

    def _write_runs(self, folder: Path) -> None:
        self._folder = self._folder or Path(mkdtemp(dir=folder))
        parts = {day: rows for day, rows in self._split().items() if rows.height}
        for day, rows in parts.items():
            path = self._folder / f"{day}-{len(self._runs[day])}"
            _write_run(rows.sort(self._key, nulls_last=True), path)
            self._runs[day].append(path)
            self._rows[day] += rows.height

    def _delivery_of_runs(self, day: date | None) -> Delivery:
        return Delivery(self._rows[day], partial(merge_runs, tuple(self._runs[day]), self._key))


def _write_run(rows: pl.DataFrame, path: Path) -> None:
    import pyarrow as pa

    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.OSFile(str(path), "wb") as target:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(target, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=_STEP_ROWS)


class _Run:
    """A sorted run: the rows that were read and not yet taken, and what is left in the file."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._file: Any = pa.ipc.open_file(pa.OSFile(str(path)))
        self._next = 0
        self.rows = self._read()

    @property
    def has_more(self) -> bool:
        """Whether the file holds rows that were not read."""
        return self._next < int(self._file.num_record_batches)

    def extend(self) -> None:
        """Read some more rows."""
        self.rows = pl.concat([self.rows, self._read()])

    def take(self, count: int) -> pl.DataFrame:
        """Hand out the first rows."""
        taken, self.rows = self.rows[:count], self.rows[count:]
        return taken

    def _read(self) -> pl.DataFrame:
        batch = pl.from_arrow(self._file.get_batch(self._next))
        assert isinstance(batch, pl.DataFrame)
        self._next += 1
        return batch


def merge_runs(paths: Sequence[Path], key: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of runs sorted by `key` in the order of `in_order`; rows of equal key come in one batch.

    Some 16,000 rows of each run are in memory.
    """
    runs = [_Run(path) for path in paths]
    while open_runs := [run for run in runs if run.has_more]:
        # All that sorts before the least of the last keys read is known; equal rows may follow in any run.
        lasts = pl.concat([run.rows.tail(1).select(key) for run in open_runs])
        least = lasts.with_row_index("run").sort(key, nulls_last=True).row(0, named=True)
        before = _sorts_before(key, least, lasts.schema)
        taken = [run.take(run.rows.select(before.sum()).item()) for run in runs]
        open_runs[least["run"]].extend()
        if any(part.height for part in taken):
            yield in_order(pl.concat(taken), key)
    yield in_order(pl.concat([run.rows for run in runs]), key)


def _sorts_before(key: Sequence[str], bound: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Whether a row's key sorts before that of `bound`, nulls last."""
    before = pl.lit(False)
    for name in reversed(key):
        column, value = pl.col(name), pl.lit(bound[name], schema[name])
        if bound[name] is None:
            before = column.is_not_null() | before
        else:
            before = ((column < value) | ((column == value) & before)).fill_null(False)
    return before
