"""Charts hold their own reference, sums can be replayed night by night, and intervals come from whole dates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures.bootstrap import Interval
from nightscore.measures.control import (
    ControlChart,
    Cusum,
    CusumState,
    daily_interval,
    fit_chart,
    fit_cusum,
    forward_deviations,
    left_out_deviations,
    replay,
    step,
)

CUSUM = Cusum(target=1.0, sd=2.0)
VALUES = st.lists(st.none() | st.floats(-20, 20), max_size=30)


def normal(dates: int, seed: int, mean: float = 0.0) -> list[float]:
    found: list[float] = np.random.default_rng(seed).normal(mean, 1, dates).tolist()
    return found


def test_a_chart_is_mean_and_deviation_of_the_dates() -> None:
    values = normal(90, 1)
    found = fit_chart([*values, None, math.nan])
    assert found is not None
    assert (found.centre, found.sd) == (np.mean(values), pytest.approx(np.std(values, ddof=1), rel=1e-12))
    assert found.limits == (found.centre - found.k * found.sd, found.centre + found.k * found.sd)
    assert (found.departure(found.limits[1]), found.departure(found.centre)) == (pytest.approx(1), 0.0)
    assert (found.departure(None), found.departure(math.nan)) == (None, None)


def test_left_out_deviations_are_those_of_the_other_dates() -> None:
    values = np.array(normal(20, 2))
    others = [np.delete(values, at) for at in range(20)]
    expected = [abs(own - rest.mean()) / rest.std(ddof=1) for own, rest in zip(values, others, strict=True)]
    assert left_out_deviations(values) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_one_reference_date_in_a_hundred_lies_outside_its_own_limits_at_most(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, 100).tolist()
    found = fit_chart(values)
    assert found is not None
    assert sum((found.departure(value) or 0) > 1 for value in values) <= 1


def test_forward_deviations_are_those_of_the_dates_before() -> None:
    values = np.array(normal(20, 2))
    expected = [abs(values[at] - values[:at].mean()) / values[:at].std(ddof=1) for at in range(14, 20)]
    assert forward_deviations(values) == pytest.approx(expected, rel=1e-12)
    assert forward_deviations(values[:14]).tolist() == []
    assert forward_deviations(np.array([3.0] * 15)).tolist() == [0.0]


def test_limits_are_as_wide_as_left_out_dates_and_those_after_others_ask() -> None:
    quiet, wild, few = normal(90, 3), [*normal(40, 3), 9.0, 9.0], normal(14, 3)
    wandering = np.cumsum(normal(90, 3)).tolist()
    found = [chart and chart.k for chart in map(fit_chart, (quiet, wild, few, wandering))]
    assert found == [
        pytest.approx(max(3.0, 2.0 * np.quantile(measure(np.array(values)), 0.99)))
        for values, measure in (
            (quiet, left_out_deviations),
            (wild, forward_deviations),
            (few, left_out_deviations),
            (wandering, forward_deviations),
        )
    ]
    assert fit_chart(quiet, least_k=10.0) == ControlChart(np.mean(quiet), pytest.approx(np.std(quiet, ddof=1)), 10.0)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e9])
def test_any_departure_from_a_constant_is_outside(value: float) -> None:
    found = fit_chart([value] * 10)
    assert found is not None
    assert found.departure(value) == 0.0
    assert (found.departure(value + max(1.0, abs(value)) * 1e-3) or 0) > 1


def test_few_dates_have_no_limits() -> None:
    assert fit_chart(normal(7, 1)) is None
    assert fit_cusum([*normal(7, 1), None]) is None
    assert fit_chart([]) is None


def test_the_sum_takes_mean_and_deviation_of_the_dates() -> None:
    values = normal(30, 4)
    assert fit_cusum(values) == Cusum(float(np.mean(values)), float(np.std(values, ddof=1)), 0.5, 5.0)
    assert fit_cusum(values, target=0.0) == Cusum(0.0, float(np.std(values, ddof=1)), 0.5, 5.0)


@pytest.mark.parametrize(
    ("state", "value", "after", "alarm"),
    [
        (CusumState(), 1.0, CusumState(), None),
        (CusumState(), 4.0, CusumState(1.0, 0.0), None),
        (CusumState(1.0, 0.5), -2.0, CusumState(0.0, 1.5), None),
        (CusumState(4.0, 0.0), 4.0, CusumState(5.0, 0.0), None),
        (CusumState(4.0, 0.0), 4.1, CusumState(), "above"),
        (CusumState(0.0, 4.9), -1.0, CusumState(), "below"),
        (CusumState(3.0, 1.0), None, CusumState(3.0, 1.0), None),
        (CusumState(3.0, 1.0), math.nan, CusumState(3.0, 1.0), None),
    ],
)
def test_a_date_moves_both_sums(state: CusumState, value: float | None, after: CusumState, alarm: str | None) -> None:
    assert step(CUSUM, state, value) == (after, alarm)


@given(VALUES, VALUES)
def test_a_replay_may_be_cut_anywhere(before: list[float | None], after: list[float | None]) -> None:
    whole, first = replay(CUSUM, [*before, *after]), replay(CUSUM, before)
    assert whole == [*first, *replay(CUSUM, after, first[-1][0] if first else None)]


def test_a_shift_is_found_on_its_side_and_again_after_the_reset() -> None:
    cusum = fit_cusum(normal(200, 5))
    assert cusum is not None
    alarms = [alarm for _, alarm in replay(cusum, normal(60, 6, mean=-1.5))]
    assert set(alarms) == {None, "below"}
    assert alarms.index("below") < 12
    assert alarms.count("below") > 3


def test_without_a_shift_alarms_are_as_rare_as_promised() -> None:
    """A mean run of 465 dates is 43 alarms in 20,000."""
    alarms = [alarm for _, alarm in replay(Cusum(0.0, 1.0), normal(20_000, 7)) if alarm]
    assert 30 <= len(alarms) <= 60


def test_an_interval_covers_the_mean_of_dates_that_share_their_luck() -> None:
    random, covered = np.random.default_rng(8), 0
    for trial in range(200):
        rows = random.integers(50, 150, 28)
        totals = rows * (0.3 + random.normal(0, 0.05, 28))
        found = daily_interval(totals.tolist(), rows.tolist(), resamples=300, seed=trial)
        assert found.lower is not None
        assert found.upper is not None
        covered += found.lower <= 0.3 <= found.upper
    assert 0.82 <= covered / 200 <= 0.95


@pytest.mark.parametrize(
    ("totals", "rows", "expected"),
    [
        ([], [], Interval(None, None, None)),
        ([0.0], [0], Interval(None, None, None)),
        ([6.0, 0.0], [4, 0], Interval(1.5, None, None)),
        ([6.0, 3.0], [4, 2], Interval(1.5, 1.5, 1.5)),
    ],
)
def test_few_dates_have_an_interval_without_bounds(totals: list[float], rows: list[int], expected: Interval) -> None:
    assert daily_interval(totals, rows) == expected


def test_limits_lie_on_both_sides() -> None:
    assert ControlChart(10.0, 2.0, 3.0).limits == (4.0, 16.0)
