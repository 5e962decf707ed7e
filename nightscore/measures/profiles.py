"""What the reference of a model looked like, column by column: small enough to store, enough to judge a night by.

A profile keeps counts, so every distance of counts (`distances.py`) can be taken from it without the reference's rows;
a night is counted into the profile's own bins by `count_into`. It goes through JSON without loss.
Added here: a figure that a later night is compared with. Not here: how profiles are made (`profiling.py`), which
figure alarms, or thresholds as a policy sets them.
"""

import itertools
import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Literal, Self

import numpy as np
import polars as pl

from nightscore.measures.bins import (
    Counts,
    count_beyond,
    count_known,
    count_levels,
    count_numbers,
    finite_values,
    to_vector,
)
from nightscore.measures.left_out import is_steady
from nightscore.measures.metrics import Vector

Kind = Literal["number", "category", "boolean"]
ColumnClass = Literal["distribution", "daily", "calendar"]
Range = tuple[float, float]


@dataclass(frozen=True)
class ColumnProfile:
    """One column over all reference dates.

    `counts` are those of `bins.py`: of `edges` for a number, of `levels` (most frequent first) otherwise, and by
    weekday, Monday first. `quantiles` are the 0th to 100th percentile. `daily_values` has for each reference date the
    mean of a number, the share of true of a boolean, the share of the first level of a category; None without values.
    `daily_null_rates` are None on dates without rows. `between_day_share` is η² corrected for its bias (ε²).
    `night_psi` and `week_psi` are the 99th percentile of the PSI of left-out dates against the others of their
    weekday, and of left-out weeks against the other weeks; `null_deviation` the 95th of how far a left-out date's null
    rate lies from that of the others. They are None with fewer than three to compare. `night_limit` and `week_limit`:
    what the PSI of the next date or week against its past stays below (`left_out.limit_ahead`); None where unknown.
    """

    name: str
    kind: Kind
    column_class: ColumnClass
    edges: tuple[float, ...]
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    weekday_counts: tuple[tuple[int, ...], ...]
    quantiles: tuple[float, ...]
    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None
    daily_values: tuple[float | None, ...]
    daily_null_rates: tuple[float | None, ...]
    between_day_share: float | None
    night_psi: float | None
    week_psi: float | None
    night_limit: float | None
    week_limit: float | None
    null_deviation: float | None

    @property
    def reference(self) -> Counts:
        """`counts` as an array."""
        return np.array(self.counts, np.int64)

    def on_weekday(self, weekday: int) -> Counts:
        """Counts of the reference's dates of that weekday, 0 is Monday."""
        return np.array(self.weekday_counts[weekday], np.int64)

    @property
    def is_steady(self) -> bool:
        """Whether the reference's own weeks lie close together, so that a distance says something of a fault."""
        return is_steady(self.night_psi, self.week_psi)

    @property
    def null_rate(self) -> float | None:
        """The share of missing values; None without rows."""
        return self.counts[-1] / sum(self.counts) if sum(self.counts) else None


@dataclass(frozen=True)
class ReferenceProfile:
    """Columns, the score among them, over `dates` in ascending order with so many `rows` each.

    Edges, levels and quantiles stand on `sampled_rows` rows: all of them, or a sample whose ranks are off by a standard
    deviation of at most 1 / (2 · sqrt(sampled_rows)). Everything else is exact.
    """

    dates: tuple[date, ...]
    rows: tuple[int, ...]
    sampled_rows: int
    columns: tuple[ColumnProfile, ...]

    def column(self, name: str) -> ColumnProfile:
        """The profile of column `name`; raises KeyError where there is none."""
        return {column.name: column for column in self.columns}[name]

    def weekday_rows(self, weekday: int) -> tuple[int, int] | None:
        """Fewest and most rows of a reference date of that weekday, 0 is Monday; None without such a date.

        Dates before the first that has rows are those before anything was known, and say nothing.
        """
        begun = itertools.dropwhile(lambda one: not one[1], zip(self.dates, self.rows, strict=True))
        found = [rows for day, rows in begun if day.weekday() == weekday]
        return (min(found), max(found)) if found else None

    def weekday_null_rates(self, name: str, weekday: int) -> Range | None:
        """Lowest and highest null rate of the column on a date of that weekday; None where no such date has rows."""
        rates = zip(self.dates, self.column(name).daily_null_rates, strict=True)
        found = [rate for day, rate in rates if day.weekday() == weekday and rate is not None]
        return (min(found), max(found)) if found else None

    def to_json(self) -> str:
        """JSON that `from_json` makes the same profile of, to the last bit."""
        return json.dumps(asdict(self), default=date.isoformat, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`; raises ValueError for JSON of another shape."""
        from pydantic import TypeAdapter

        adapter: TypeAdapter[Self] = TypeAdapter(cls)
        return adapter.validate_python(json.loads(text))


def count_into(profile: ColumnProfile, column: pl.Series) -> Counts:
    """Rows of `column` in each bin of `profile`; counts of the batches of a night may be added."""
    if profile.kind == "number":
        return count_numbers(to_vector(column), np.array(profile.edges))
    return count_levels(column, profile.levels)


def measure_into(
    profile: ColumnProfile, column: pl.Series, margin: float = 0.0
) -> tuple[Counts, float | None, float | None]:
    """`count_into`, `daily_value` and `out_of_range_rate` of the same rows at once, each to the last bit."""
    if profile.kind != "number":
        counts = count_levels(column, profile.levels)
        return counts, share_of_first(counts, profile.kind), None
    values = to_vector(column)
    known = finite_values(values)
    counts = count_known(known, len(values) - len(known), np.array(profile.edges))
    return counts, float(known.mean()) if len(known) else None, _rate_beyond(profile, values, margin)


def daily_value(profile: ColumnProfile, column: pl.Series) -> float | None:
    """What `daily_values` holds, of another night; None where nothing but missing values is there."""
    return measure_into(profile, column)[1]


def share_of_first(counts: Counts, kind: Kind) -> float | None:
    """The share of `true` of a boolean, of the first level of a category, among the values that are not missing."""
    known = counts[:-1].sum()
    return float(counts[_true(kind)] / known) if known else None


def out_of_range_rate(profile: ColumnProfile, column: pl.Series, margin: float = 0.0) -> float | None:
    """The share of rows beyond the reference's minimum or maximum by more than `margin` times the span between them.

    None without rows or for another kind.
    """
    return _rate_beyond(profile, to_vector(column), margin) if profile.kind == "number" else None


def percentiles(values: Vector) -> tuple[float, ...]:
    """The 0th to 100th percentile of `values` by linear interpolation; none without any."""
    return tuple(np.quantile(values, np.arange(101) / 100).tolist()) if len(values) else ()


def _rate_beyond(profile: ColumnProfile, values: Vector, margin: float) -> float | None:
    if profile.minimum is None or profile.maximum is None or not len(values):
        return None
    room = margin * (profile.maximum - profile.minimum)
    return float(count_beyond(values, profile.minimum - room, profile.maximum + room) / len(values))


def _true(kind: Kind) -> int:
    return 1 if kind == "boolean" else 0
