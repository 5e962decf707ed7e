"""Extraction: the rows each night knows, of any source, in one pass over it.

A partition is named by the night on which its rows became known: night N holds the rows whose event date is
N - known_after_days; of a snapshot source every night holds the whole table as it is now.
Added here: a rule of which night a row belongs to. Not here: how a kind of source is read.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from nightscore.errors import SourceMalformed
from nightscore.sources.columns import Cells, frame_schema, read_cells, unreadable_json
from nightscore.sources.files import read_files
from nightscore.sources.parts import Origin, Part, check_columns, evaluate, event_dates, sandbox
from nightscore.sources.sql import read_query
from nightscore.spec.sources import Column, FileSource, Source

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Extraction", "extract", "frame_schema"]

_EVENT_DATE = "event date"  # no declared column may have a space in its name
_TYPE_CHANGE_CELLS = 10


@dataclass(frozen=True)
class Extraction:
    """One frame for every night asked for, what was read, the nights' event dates, and the rows seen for them."""

    partitions: dict[date, pl.DataFrame]
    origins: tuple[Origin, ...]
    event_dates: Mapping[date, date]
    rows_read: int

    @property
    def origin(self) -> tuple[str, ...]:
        """All that was read, a line each."""
        return tuple(one.about for one in self.origins)

    def origin_of(self, night: date) -> tuple[str, ...]:
        """What one night's rows may come from: files without a date, and those of its event date."""
        return tuple(one.about for one in self.origins if one.event_date in {None, self.event_dates[night]})


def extract(source: Source, nights: Sequence[date], base: Path, environ: Mapping[str, str]) -> Extraction:
    """The rows of `source` that become known on each of `nights`, in one pass.

    Frames have `frame_schema(source)`, sorted by key and then by all columns. `unreadable` is a JSON object of the
    cells that are present but not of the declared type; these cells are null. Relative paths start at `base`.
    Raises SourceMissing, SourceMalformed, SettingsError, DatabaseUnavailable or Transient.
    """
    first = source.first_date or date.min
    wanted = {night: _event_date(source, night) for night in sorted(set(nights))}
    existing = sorted({day for day in wanted.values() if day >= first})
    origin: list[Origin] = []
    rows = _empty(source)
    if existing:
        # An abandoned reader would hold its connection until it is collected.
        with closing(_parts(source, existing, base, environ, origin)) as parts:
            rows = _read(source, existing, parts)
    return Extraction(_split(source, wanted, existing, rows), tuple(origin), wanted, rows.height)


def _event_date(source: Source, night: date) -> date:
    return night - timedelta(days=source.known_after_days)


def _parts(
    source: Source, dates: Sequence[date], base: Path, environ: Mapping[str, str], origin: list[Origin]
) -> Generator[Part, None, None]:
    if isinstance(source, FileSource):
        return read_files(source, dates, base, origin)
    return read_query(source, dates, environ, origin)


def _is_table(source: Source) -> bool:
    """Whether every night holds the whole table; a snapshot with a file a date is split by the files' dates."""
    return source.cadence == "snapshot" and not (isinstance(source, FileSource) and "{date" in source.path)


def _empty(source: Source) -> pl.DataFrame:
    return pl.DataFrame(schema={**frame_schema(source), _EVENT_DATE: pl.Date()})


def _read(source: Source, dates: Sequence[date], parts: Iterable[Part]) -> pl.DataFrame:
    """The wanted rows of all parts, typed, with their event date as last column."""
    unread: Counter[str] = Counter()
    with sandbox() as connection:
        frames = [_read_part(connection, source, part, dates, unread) for part in parts]
    rows = pl.concat([_empty(source), *frames])
    _check_types(source, rows, unread)
    return rows


def _read_part(
    connection: "DuckDBPyConnection", source: Source, part: Part, dates: Sequence[date], unread: Counter[str]
) -> pl.DataFrame:
    check_columns(part, source)
    days, frame = _choose_rows(connection, source, part, dates)
    cells = [_read_column(connection, part, frame, column) for column in source.columns]
    unread.update({each.values.name: each.unreadable.count() for each in cells})
    texts = unreadable_json([each.unreadable for each in cells])
    return pl.DataFrame([*(each.values for each in cells), texts, days.alias(_EVENT_DATE)])


def _choose_rows(
    connection: "DuckDBPyConnection", source: Source, part: Part, dates: Sequence[date]
) -> tuple[pl.Series, pl.DataFrame]:
    """Event dates and raw rows of `part` that belong to `dates`; all rows of a snapshot, whatever their dates."""
    if source.cadence == "snapshot":
        return pl.Series([part.event_date], dtype=pl.Date).new_from_index(0, part.frame.height), part.frame
    days = event_dates(connection, part, source)
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


def _check_types(source: Source, rows: pl.DataFrame, unread: Counter[str]) -> None:
    """Raise SourceMalformed with every column that has cells enough to judge, of which none is readable."""
    changed = [
        f"column {column.name} is declared {column.type}; {unread[column.name]} of {unread[column.name]} cells are not"
        for column in source.columns
        if unread[column.name] >= _TYPE_CHANGE_CELLS and rows[column.name].null_count() == rows.height
    ]
    if changed:
        raise SourceMalformed("reading the declared types", changed, "repair the source, or the type in the spec")


def _split(
    source: Source, wanted: Mapping[date, date], existing: Sequence[date], rows: pl.DataFrame
) -> dict[date, pl.DataFrame]:
    empty = _empty(source).drop(_EVENT_DATE)
    if _is_table(source):
        whole = _in_order(rows.drop(_EVENT_DATE), source)
        return {night: whole if day in existing else empty for night, day in wanted.items()}
    if len(existing) == 1:  # as nearly always: a copy of all rows is spared
        by_day = {tuple(existing): rows.drop(_EVENT_DATE)}
    else:
        by_day = rows.partition_by(_EVENT_DATE, as_dict=True, include_key=False)
    return {night: _in_order(by_day.get((day,), empty), source) for night, day in wanted.items()}


def _in_order(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Rows sorted by key, and by all columns where keys repeat."""
    by_key = rows.sort(source.key, nulls_last=True)
    again = [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in source.key]
    # Sorting by every column needs a second copy of all rows.
    if not by_key.select(pl.all_horizontal(again).slice(1).any()).item():
        return by_key
    return rows.sort([*source.key, *rows.columns], nulls_last=True)
