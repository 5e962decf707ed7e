"""Raw parts of a source (some rows of a file or a query) and the spec's SQL evaluated over them.

Added here: another thing every part must satisfy before its cells are read.
Not here: where parts come from (`files`, `sql`), typed cells (`columns`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING

import polars as pl

from nightscore.errors import SourceMalformed
from nightscore.spec.sources import Source

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS_NAMED = 5


@dataclass(frozen=True)
class Part:
    """Some rows as the source gives them, the first of which is its row `first_row`.

    `event_date` is the one that the file's path states, if any.
    """

    label: str
    frame: pl.DataFrame
    first_row: int = 1
    event_date: date | None = None


@dataclass(frozen=True)
class Origin:
    """Something that was read, in one line without secrets; `event_date` where all of it belongs to one."""

    about: str
    event_date: date | None = None


@contextmanager
def sandbox() -> Iterator["DuckDBPyConnection"]:
    """A DuckDB connection in UTC with one thread, which reaches no file, no network and no Python variable."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "enable_external_access": False,
        "python_enable_replacements": False,
        "threads": 1,
        "TimeZone": "UTC",
    }
    with duckdb.connect(config=config) as connection:
        yield connection


def check_columns(part: Part, source: Source) -> None:
    """Raise SourceMalformed with every declared column that `part` lacks, and the likeliest new names."""
    needed = [column.source_name or column.name for column in source.columns if column.sql is None]
    missing = [name for name in needed if name not in part.frame.columns]
    if missing and len(missing) == len(needed) and any(name[:1].isdigit() for name in part.frame.columns):
        # The first row's values stand for names then, and values never reach a message.
        found, remedy = f"no column is named {', '.join(needed)}; is the header missing?", "repair the source"
        raise SourceMalformed(f"reading {part.label}", found, remedy)
    if missing:
        spare = [name for name in part.frame.columns if name not in needed]
        raise SourceMalformed(
            f"reading {part.label}",
            [*(_describe_missing(name, spare) for name in missing), f"columns found: {', '.join(part.frame.columns)}"],
            "repair the source, or give the new names as source_name in the spec",
        )


def _describe_missing(name: str, spare: Sequence[str]) -> str:
    close = get_close_matches(name.lower(), [other.lower() for other in spare], n=2, cutoff=0.5)
    likely = [other for other in spare if other.lower() in close]
    return f"column {name} is missing" + (f"; renamed to {' or '.join(likely)}?" if likely else "")


def evaluate(connection: "DuckDBPyConnection", part: Part, frame: pl.DataFrame, sql: str) -> pl.DataFrame:
    """Values of the expression over rows `frame` of `part`: columns `value` and `failed`, in row order.

    A row on which the expression raises has a null value and `failed` true.
    Raises SourceMalformed when the expression is wrong or does not give one value a row.
    """
    import duckdb

    connection.register("raw", frame.to_arrow(compat_level=pl.CompatLevel.newest()))
    # The list tells a null value from a failure. One TRY only: DuckDB lifts what two have in common out of both.
    query = f"SELECT TRY([({sql}\n)]) AS cell FROM raw"  # noqa: S608  the spec's own SQL
    try:
        cells: pl.Series = connection.sql(query).pl()["cell"]
    except duckdb.Error as error:
        quotes_values = isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
        reason = type(error).__name__ if quotes_values else str(error).split("\n\n", maxsplit=1)[0]
        raise _wrong_sql(part, sql, reason) from None
    finally:
        connection.unregister("raw")
    if len(cells) != frame.height:
        raise _wrong_sql(part, sql, f"it gives {len(cells)} values for {frame.height} rows")
    return pl.DataFrame({"value": cells.list.get(0, null_on_oob=True), "failed": cells.is_null()})


def _wrong_sql(part: Part, sql: str, reason: str) -> SourceMalformed:
    return SourceMalformed(f"evaluating `{sql}` over {part.label}", reason, "repair the SQL in the spec or the source")


class Refusals:
    """Rows without a usable event date, counted over all parts of a file or query, the first ones by their number."""

    def __init__(self) -> None:
        self._label = ""
        self._counts: Counter[str] = Counter()
        self._first: defaultdict[str, list[int]] = defaultdict(list)

    def note(self, part: Part, rows: pl.Series, what: str) -> None:
        """Count the rows of `part` that are true in `rows`; raises what was found in an earlier file or query."""
        if part.label != self._label:
            self.settle()
            self._label = part.label
        if count := int(rows.sum()):
            self._counts[what] += count
            spare = _ROWS_NAMED - len(self._first[what])
            self._first[what] += [part.first_row + at for at in rows.arg_true().head(spare)]

    def settle(self) -> None:
        """Raise SourceMalformed where any row was counted."""
        if self._counts:
            raise SourceMalformed(
                f"finding the event dates of {self._label}",
                [_describe_refused(count, what, self._first[what]) for what, count in self._counts.items()],
                "repair these rows at the source, or event_date in the spec; no row may vanish",
            )


def _describe_refused(count: int, what: str, first: Sequence[int]) -> str:
    return f"{count} rows {what}; data rows {', '.join(map(str, first))}{' …' if count > len(first) else ''}"


def event_dates(connection: "DuckDBPyConnection", part: Part, source: Source, refused: Refusals) -> pl.Series:
    """The event date of each row of `part`, as Date; rows without one are noted in `refused`."""
    if source.event_date is None:
        return pl.Series([part.event_date], dtype=pl.Date).new_from_index(0, part.frame.height)
    if part.frame.is_empty():
        return pl.Series([], dtype=pl.Date)
    sql = f"CAST(({source.event_date}\n) AS DATE)"
    dates = evaluate(connection, part, part.frame, sql)["value"]
    refused.note(part, dates.is_null(), "have no readable event date")
    if part.event_date is not None:
        other = f"have another event date than {part.event_date}, which the file's name states"
        refused.note(part, dates != part.event_date, other)
    return dates
