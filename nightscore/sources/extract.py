"""Extraction: the rows each night knows, of any source, in one pass over it and in bounded memory.

A partition is named by the night on which its rows became known: night N holds the rows whose event date is
N - known_after_days; of a snapshot source every night holds the whole table as it is now.
Added here: a rule of which night a row belongs to. Not here: how a kind of source is read, how rows wait (`spool`).
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from nightscore.errors import SourceMalformed
from nightscore.sources.columns import Cells, frame_schema, read_cells, unreadable_json
from nightscore.sources.files import read_files
from nightscore.sources.parts import Origin, Part, Refusals, check_columns, evaluate, event_dates, sandbox
from nightscore.sources.spool import EVENT_DATE, IN_MEMORY, Delivery, Scratch, Spool
from nightscore.sources.sql import read_query
from nightscore.spec.sources import Column, FileSource, Source

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Extraction", "extract", "frame_schema"]

_TYPE_CHANGE_CELLS = 10


@dataclass(frozen=True)
class Extraction:
    """The rows of every night asked for, what was read, the nights' event dates, and the rows seen for them.

    Nights of one snapshot share one delivery.
    """

    deliveries: dict[date, Delivery]
    origins: tuple[Origin, ...]
    event_dates: Mapping[date, date]
    rows_read: int

    @cached_property
    def partitions(self) -> dict[date, pl.DataFrame]:
        """The rows of every night as frames in memory."""
        frames = {id(one): one.load() for one in self.deliveries.values()}
        return {night: frames[id(one)] for night, one in self.deliveries.items()}

    @property
    def origin(self) -> tuple[str, ...]:
        """All that was read, a line each."""
        return tuple(one.about for one in self.origins)

    def origin_of(self, night: date) -> tuple[str, ...]:
        """What one night's rows may come from: files without a date, and those of its event date."""
        return tuple(one.about for one in self.origins if one.event_date in {None, self.event_dates[night]})


def extract(
    source: Source, nights: Sequence[date], base: Path, environ: Mapping[str, str], scratch: Scratch = IN_MEMORY
) -> Extraction:
    """The rows of `source` that become known on each of `nights`, in one pass.

    Rows have `frame_schema(source)`, sorted by key and then by all columns. `unreadable` is a JSON object of the
    cells that are present but not of the declared type; these cells are null. Relative paths start at `base`.
    The deliveries can be read for as long as the folder of `scratch` is there.
    Raises SourceMissing, SourceMalformed, SettingsError, DatabaseUnavailable, OutOfSpace or Transient.
    """
    first = source.first_date or date.min
    wanted = {night: _event_date(source, night) for night in sorted(set(nights))}
    existing = sorted({day for day in wanted.values() if day >= first})
    origin: list[Origin] = []
    spool, rows = Spool(frame_schema(source), source.key, scratch, by_date=not _is_table(source)), 0
    if existing:
        # An abandoned reader would hold its connection until it is collected.
        with closing(_parts(source, existing, base, environ, origin, scratch)) as parts:
            rows = _read(source, existing, parts, spool)
    given = spool.deliveries(existing)
    none = Delivery.of(_empty(source))
    return Extraction({night: given.get(day, none) for night, day in wanted.items()}, tuple(origin), wanted, rows)


def _event_date(source: Source, night: date) -> date:
    return night - timedelta(days=source.known_after_days)


def _parts(
    source: Source, dates: Sequence[date], base: Path, environ: Mapping[str, str], origin: list[Origin],
    scratch: Scratch,
) -> Generator[Part, None, None]:  # fmt: skip
    if isinstance(source, FileSource):
        return read_files(source, dates, base, origin, scratch)
    return read_query(source, dates, environ, origin, scratch.part_rows)


def _is_table(source: Source) -> bool:
    """Whether every night holds the whole table; a snapshot with a file a date is split by the files' dates."""
    return source.cadence == "snapshot" and not (isinstance(source, FileSource) and "{date" in source.path)


def _empty(source: Source) -> pl.DataFrame:
    return pl.DataFrame(schema=frame_schema(source))


def _read(source: Source, dates: Sequence[date], parts: Iterable[Part], spool: Spool) -> int:
    """Put the wanted rows of all parts into `spool`, typed, with their event date as last column; returns how many."""
    seen, refused = _Seen(), Refusals()
    with sandbox() as connection:
        for part in parts:
            check_columns(part, source)
            days, frame = _choose_rows(connection, source, part, dates, refused)
            cells = [_read_column(connection, part, frame, column) for column in source.columns]
            seen.count(cells)
            texts = unreadable_json([each.unreadable for each in cells])
            spool.add(pl.DataFrame([*(each.values for each in cells), texts, days.alias(EVENT_DATE)]))
    refused.settle()
    seen.check_types(source)
    return seen.rows


class _Seen:
    """Rows, and of each column the cells that could be read and those that could not."""

    def __init__(self) -> None:
        self.rows = 0
        self._read: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def count(self, cells: Sequence[Cells]) -> None:
        """Count one part."""
        self.rows += len(cells[0].values)
        self._read.update({each.values.name: each.values.count() for each in cells})
        self._unread.update({each.values.name: each.unreadable.count() for each in cells})

    def check_types(self, source: Source) -> None:
        """Raise SourceMalformed with every column that has cells enough to judge, of which none is readable."""
        changed = [
            f"column {column.name} is declared {column.type}; {unread} of {unread} cells are not"
            for column in source.columns
            if (unread := self._unread[column.name]) >= _TYPE_CHANGE_CELLS and not self._read[column.name]
        ]
        if changed:
            raise SourceMalformed("reading the declared types", changed, "repair the source, or the type in the spec")


def _choose_rows(
    connection: "DuckDBPyConnection", source: Source, part: Part, dates: Sequence[date], refused: Refusals
) -> tuple[pl.Series, pl.DataFrame]:
    """Event dates and raw rows of `part` that belong to `dates`; all rows of a snapshot, whatever their dates."""
    if source.cadence == "snapshot":
        return pl.Series([part.event_date], dtype=pl.Date).new_from_index(0, part.frame.height), part.frame
    days = event_dates(connection, part, source, refused)
    wanted = days.is_in(list(dates))
    return days.filter(wanted), part.frame.filter(wanted)


def _read_column(connection: "DuckDBPyConnection", part: Part, frame: pl.DataFrame, column: Column) -> Cells:
    if column.sql is None:
        return read_cells(frame[column.source_name or column.name], column)
    if frame.is_empty():
        return read_cells(pl.Series([], dtype=pl.String), column)
    evaluated = evaluate(connection, part, frame, column.sql)
    cells = read_cells(evaluated["value"], column)
    failed = pl.when(evaluated["failed"]).then(pl.lit(column.sql)).otherwise(cells.unreadable)
    return Cells(cells.values, pl.select(failed.alias(column.name)).to_series())
