"""Making a reference profile of batches of any number of rows, in bounded memory and two passes.

The first pass draws a sample for edges, levels and quantiles (`sampling.py`); it is all rows up to 262,144, so a
profile of fewer rows is exact. The second pass counts every row, so counts, moments and extremes are always exact.
Memory: the sample, one batch, and the counts of each date.
Added here: how a figure of `profiles.py` is gathered. Not here: what it means, or which rows are the reference.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from nightscore.measures.bins import Counts, count_known, count_levels, finite_values, level_counts, to_vector
from nightscore.measures.distances import null_rate
from nightscore.measures.left_out import (
    forward_psi,
    is_steady,
    left_out_psi,
    limit_ahead,
    null_deviations,
    percentile,
    week_counts,
)
from nightscore.measures.profiles import ColumnClass, ColumnProfile, Kind, ReferenceProfile, percentiles, share_of_first
from nightscore.measures.sampling import Batch, sample_rows

Read = Callable[[], Iterable[Batch]]

MOST_LEVELS = 1000
DAILY_SHARE = 0.3
_CALENDAR_ROWS = 30
"""Values on every date from which on their being equal each time cannot be chance."""


@dataclass(frozen=True)
class Bins:
    """How one column is binned, and the percentiles of its sample."""

    kind: Kind
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class DayFigures:
    """One column of one date: counts of its bins and, of the known values of a number, moments and extremes."""

    counts: Counts
    mean: float = 0.0
    squares: float = 0.0
    minimum: float = np.inf
    maximum: float = -np.inf

    @property
    def known(self) -> int:
        """Values that are not missing."""
        return int(self.counts[:-1].sum())


Days = dict[str, dict[date, DayFigures]]


def build_reference(
    read: Read, kinds: Mapping[str, Kind], calendar: Collection[str] = (), daily_share: float = DAILY_SHARE
) -> ReferenceProfile:
    """The profile of the columns `kinds` of all batches, which `read` gives twice, each with its score date.

    A date may come in several batches, and without rows. `calendar` names columns that follow from the date; a column
    that has one value on every date, with 30 rows or more on each, is taken for one too. `daily_share`: of a column's
    variance; as much between dates makes it one that is charted by its daily value.
    """
    sample = sample_rows(read(), tuple(kinds))
    bins = {name: choose_bins(sample[name], kind) for name, kind in kinds.items()}
    rows, days = _count_days(read(), bins)
    dates = tuple(sorted(rows))
    return ReferenceProfile(
        dates=dates,
        rows=tuple(rows[day] for day in dates),
        sampled_rows=len(sample),
        columns=tuple(
            _column(name, one, [days[name][day] for day in dates], dates, name in calendar, daily_share)
            for name, one in bins.items()
        ),
    )


def choose_bins(sample: pl.Series, kind: Kind) -> Bins:
    """Deciles of a number, both values of a boolean, the 1,000 most frequent levels of a category, ties by name."""
    if kind == "number":
        quantiles = percentiles(finite_values(to_vector(sample)))
        return Bins(kind, edges=tuple(np.unique(quantiles[10:100:10]).tolist()), quantiles=quantiles)
    if kind == "boolean":
        return Bins(kind, levels=("false", "true"))
    found = sorted(level_counts(sample).items(), key=lambda one: (-one[1], one[0]))
    return Bins(kind, levels=tuple(level for level, _ in found[:MOST_LEVELS]))


def _count_days(batches: Iterable[Batch], bins: Mapping[str, Bins]) -> tuple[dict[date, int], Days]:
    """Rows of each date, and figures of each column and date."""
    rows: dict[date, int] = {}
    days: Days = {name: {} for name in bins}
    for day, frame in batches:
        rows[day] = rows.get(day, 0) + len(frame)
        for name, one in bins.items():
            found = _figures(frame[name], one)
            days[name][day] = _merged(days[name][day], found) if day in days[name] else found
    return rows, days


def _figures(column: pl.Series, bins: Bins) -> DayFigures:
    if bins.kind != "number":
        return DayFigures(count_levels(column, bins.levels))
    values = to_vector(column)
    known = finite_values(values)
    counts = count_known(known, len(values) - len(known), np.array(bins.edges))
    if not len(known):
        return DayFigures(counts)
    minimum, maximum = float(known.min()), float(known.max())
    if minimum == maximum:
        return DayFigures(counts, minimum, 0.0, minimum, maximum)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = known.mean()
        # Not a dot product: BLAS would start threads for it, and round as many ways as there are.
        return DayFigures(counts, float(mean), float(np.square(known - mean).sum()), minimum, maximum)


def _merged(one: DayFigures, other: DayFigures) -> DayFigures:
    """Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979."""
    if not one.known or not other.known:
        return replace(one if one.known else other, counts=one.counts + other.counts)
    apart, share = other.mean - one.mean, other.known / (one.known + other.known)
    return DayFigures(
        counts=one.counts + other.counts,
        mean=one.mean + apart * share,
        squares=one.squares + other.squares + apart * apart * share * one.known,
        minimum=min(one.minimum, other.minimum),
        maximum=max(one.maximum, other.maximum),
    )


def _column(
    name: str, bins: Bins, days: Sequence[DayFigures], dates: Sequence[date], calendar: bool, daily_share: float
) -> ColumnProfile:
    counts = np.array([day.counts for day in days], np.int64).reshape(len(days), _width(bins))
    weekdays = np.array([day.weekday() for day in dates], np.int64)
    weeks = week_counts(dates, counts)
    whole = functools.reduce(_merged, days, DayFigures(np.zeros(_width(bins), np.int64)))
    # The mean of equal means is off by rounding, which would look like all there is to explain.
    within, between = _variation(days, counts, bins.kind) if whole.minimum != whole.maximum else (0.0, 0.0)
    share = _between_day_share(within, between, counts[:, :-1].sum(axis=1))
    number = bins.kind == "number" and whole.known > 0
    night_psi = percentile(left_out_psi(counts, weekdays), 0.99)
    week_psi = percentile(left_out_psi(weeks, np.zeros(len(weeks), np.int64)), 0.99)
    steady = is_steady(night_psi, week_psi)
    return ColumnProfile(
        name=name,
        kind=bins.kind,
        column_class="calendar" if calendar or _one_value_a_day(days, between) else _class(share, daily_share),
        edges=bins.edges,
        levels=bins.levels,
        counts=tuple(whole.counts.tolist()),
        weekday_counts=tuple(tuple(counts[weekdays == weekday].sum(axis=0).tolist()) for weekday in range(7)),
        quantiles=bins.quantiles,
        mean=_finite(whole.mean) if number else None,
        sd=_finite(math.sqrt(whole.squares / whole.known)) if number else None,
        minimum=whole.minimum if number else None,
        maximum=whole.maximum if number else None,
        daily_values=tuple(_daily_value(day, bins.kind) for day in days),
        daily_null_rates=tuple(null_rate(day.counts) for day in days),
        between_day_share=share,
        night_psi=night_psi,
        week_psi=week_psi,
        night_limit=limit_ahead(forward_psi(counts, weekdays), steady),
        week_limit=limit_ahead(forward_psi(weeks, np.zeros(len(weeks), np.int64)), steady),
        null_deviation=percentile(null_deviations(counts), 0.95),
    )


def _variation(days: Sequence[DayFigures], counts: Counts, kind: Kind) -> tuple[float, float]:
    """Sums of squares within dates and between their means.

    Of levels, those of one indicator a level together (Light & Margolin, An Analysis of Variance for Categorical
    Data, 1971); for a boolean that is the variation of 0 and 1, twice.
    """
    known = counts[:, :-1].astype(np.float64)
    rows = known.sum(axis=1)
    if not rows.sum():
        return 0.0, 0.0
    if kind == "number":
        means = np.array([day.mean for day in days])
        with np.errstate(over="ignore", invalid="ignore"):
            return sum(day.squares for day in days), float(rows @ (means - rows @ means / rows.sum()) ** 2)
    within = rows.sum() - float(((known**2).sum(axis=1) / np.maximum(rows, 1)).sum())
    whole = rows.sum() - float((known.sum(axis=0) ** 2).sum() / rows.sum())
    return within, whole - within


def _between_day_share(within: float, between: float, rows: Counts) -> float | None:
    """ε² (Kelley 1935): η² less what chance alone puts between dates of so few rows. None without any variation."""
    total, dates = int(rows.sum()), int(np.count_nonzero(rows))
    if dates < 2 or total <= dates or not 0 < within + between < np.inf:
        return None
    return max(0.0, 1 - (within / (total - dates)) / ((within + between) / (total - 1)))


def _class(share: float | None, daily_share: float) -> ColumnClass:
    return "daily" if share is not None and share >= daily_share else "distribution"


def _one_value_a_day(days: Sequence[DayFigures], between: float) -> bool:
    """Each date has one value in many rows, and not always the same."""
    there = [day for day in days if day.counts.sum()]
    return between > 0 and all(day.known >= _CALENDAR_ROWS and _is_constant(day) for day in there)


def _is_constant(day: DayFigures) -> bool:
    """Numbers by their extremes, levels by their counts."""
    return day.minimum == day.maximum if math.isfinite(day.minimum) else np.count_nonzero(day.counts[:-1]) == 1


def _daily_value(day: DayFigures, kind: Kind) -> float | None:
    if kind != "number":
        return share_of_first(day.counts, kind)
    return _finite(day.mean) if day.known else None


def _width(bins: Bins) -> int:
    """Bins with the one for missing values, and for levels that for others."""
    return len(bins.edges if bins.kind == "number" else bins.levels) + 2


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
