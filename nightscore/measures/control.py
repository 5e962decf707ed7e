"""Values that come once a date: limits that the reference's own dates set, and sums that remember.

The spread is always the empirical one of whole dates: rows of a night share weather, prices and faults, so the spread
that independent rows would have is several times too small, and a chart on it alarms every other night.
Added here: a chart of daily values. Not here: distances of distributions, or what is done about an alarm.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nightscore.measures.bootstrap import Interval, percentile_interval, resample_dates
from nightscore.measures.metrics import Vector

Direction = Literal["above", "below"]

FEWEST_DATES = 8
"""Dates below which a standard deviation of dates is not worth limits."""
LEAST_K = 3.0
FACTOR = 2.0
_FEWEST_PAST = 14
_ROUNDING = 1e-9
"""Of the centre: a deviation that is smaller is none."""


@dataclass(frozen=True)
class ControlChart:
    """Limits `centre` ± `k` · `sd` of a daily value, in its unit (Shewhart 1931)."""

    centre: float
    sd: float
    k: float

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper."""
        return self.centre - self.k * self.sd, self.centre + self.k * self.sd

    def departure(self, value: float | None) -> float | None:
        """How far `value` lies from the centre, 1 at the limits; None for a date without one."""
        if value is None or not np.isfinite(value):
            return None
        return abs(value - self.centre) / (self.k * self.sd)


def fit_chart(values: Iterable[float | None], least_k: float = LEAST_K, factor: float = FACTOR) -> ControlChart | None:
    """Limits from the values of the reference's dates; None with fewer than eight.

    Each date is measured in the standard deviation of the others from their mean, and in that of the dates before it
    from theirs, since a night is compared with its past and many columns wander; k is `factor` times the 99th
    percentile of that, `least_k` at least: the rule of the other levels, left-out dates and a factor, so one date in a
    hundred of the reference lies outside at most. A constant has limits some billionths of it apart.
    """
    known = _known(values)
    if len(known) < FEWEST_DATES:
        return None
    centre = float(known.mean())
    sd = max(float(known.std(ddof=1)), _ROUNDING * max(abs(centre), 1.0))
    return ControlChart(centre, sd, max(least_k, factor * _usual_deviation(known)))


def _usual_deviation(known: Vector) -> float:
    return max(
        float(np.quantile(found, 0.99))
        for found in (left_out_deviations(known), forward_deviations(known))
        if len(found)
    )


def forward_deviations(values: Vector) -> Vector:
    """How many standard deviations of the earlier values each of `values` lies from their mean; after a fortnight."""
    least = _ROUNDING * max(float(np.abs(values).max(initial=0.0)), 1.0)
    pasts = [values[:at] for at in range(_FEWEST_PAST, len(values))]
    return np.array(
        [
            abs(value - past.mean()) / max(float(past.std(ddof=1)), least)
            for past, value in zip(pasts, values[_FEWEST_PAST:], strict=True)
        ]
    )


def left_out_deviations(values: Vector) -> Vector:
    """How many standard deviations of the other values each of `values` (dates,) lies from their mean."""
    dates = len(values)
    apart = values - values.mean()
    means = -apart / (dates - 1)
    squares = (apart**2).sum() - apart**2 - (dates - 1) * means**2
    least = _ROUNDING * max(float(np.abs(values).max()), 1.0)
    return np.asarray(np.abs(apart - means) / np.maximum(np.sqrt(np.maximum(squares, 0) / (dates - 2)), least))


@dataclass(frozen=True)
class Cusum:
    """A two-sided cumulative sum of daily values (Page, Continuous Inspection Schemes, 1954).

    `target` and `sd` are the mean and the empirical standard deviation of the daily value when all is well; `slack` and
    `limit` count standard deviations. With .5 and 5 and independent normal values, a false alarm comes every 465 dates,
    and a shift of one standard deviation is found after 10.
    """

    target: float
    sd: float
    slack: float = 0.5
    limit: float = 5.0


@dataclass(frozen=True)
class CusumState:
    """Both sums after a date, in standard deviations."""

    above: float = 0.0
    below: float = 0.0


def fit_cusum(values: Iterable[float | None], target: float | None = None) -> Cusum | None:
    """The sum for values like those of the reference's dates, about their mean or `target`; None with fewer than 8."""
    known = _known(values)
    if len(known) < FEWEST_DATES:
        return None
    centre = float(known.mean()) if target is None else target
    return Cusum(centre, max(float(known.std(ddof=1)), _ROUNDING * max(abs(centre), 1.0)))


def step(cusum: Cusum, state: CusumState, value: float | None) -> tuple[CusumState, Direction | None]:
    """The state after a date with `value`, and where it alarms; both sums begin anew after an alarm.

    A date without a value leaves the state as it was. The larger sum names the direction.
    """
    if value is None or not np.isfinite(value):
        return state, None
    apart = (value - cusum.target) / cusum.sd
    above, below = max(0.0, state.above + apart - cusum.slack), max(0.0, state.below - apart - cusum.slack)
    if max(above, below) <= cusum.limit:
        return CusumState(above, below), None
    return CusumState(), "above" if above >= below else "below"


def replay(
    cusum: Cusum, values: Iterable[float | None], state: CusumState | None = None
) -> list[tuple[CusumState, Direction | None]]:
    """State and alarm after each date in turn, from `state` on, or from nothing."""
    found: list[tuple[CusumState, Direction | None]] = []
    at = state or CusumState()
    for value in values:
        at, alarm = step(cusum, at, value)
        found.append((at, alarm))
    return found


def daily_interval(
    totals: Sequence[float], rows: Sequence[float], confidence: float = 0.9, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of all rows with its percentile interval, from each date's sum and its rows; dates are resampled whole.

    No value without rows, no bounds with fewer than two dates that have any.
    """
    there = np.asarray(rows, np.float64) > 0
    sums, counts = np.asarray(totals, np.float64)[there], np.asarray(rows, np.float64)[there]
    if not len(sums):
        return Interval(None, None, None)
    weights = resample_dates(len(sums), resamples if len(sums) > 1 else 0, seed)
    return percentile_interval(float(sums.sum() / counts.sum()), weights @ sums / (weights @ counts), confidence)


def _known(values: Iterable[float | None]) -> Vector:
    found = np.array([np.nan if value is None else value for value in values], np.float64)
    return found[np.isfinite(found)]
