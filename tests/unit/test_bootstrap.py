"""Weighted metrics equal the plain ones on resampled rows, and intervals come from whole dates."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures import bootstrap, metrics
from nightscore.measures.bootstrap import Interval

NOTHING = Interval(None, None, None)


def night_rows(seed: int, rows: int, dates: int, decimals: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(rows) ** 2, decimals)
    labels = (rng.random(rows) < scores).astype(float)
    groups = np.concatenate([np.arange(dates), rng.integers(0, dates, rows - dates)])
    return labels, scores, scores >= 0.4, groups


def same(found: np.ndarray, expected: float | None) -> bool:
    return math.isnan(found[0]) if expected is None else math.isclose(found[0], expected, rel_tol=0, abs_tol=1e-12)


@given(st.integers(0, 10_000), st.integers(3, 300), st.integers(1, 3), st.sampled_from([0, 1, 2, 17]))
def test_with_every_date_once_figures_are_those_of_the_sample(seed: int, rows: int, dates: int, decimals: int) -> None:
    labels, scores, decided, groups = night_rows(seed, rows, dates, decimals)
    once = np.ones((1, dates), np.int64)
    found = bootstrap.weighted_binary_metrics(labels, scores, decided, groups, once)
    expected = metrics.binary_metrics(labels, scores, decided)
    assert [name for name in expected if not same(found[name], expected[name])] == []
    found = bootstrap.weighted_regression_metrics(labels, scores, groups, once)
    expected = metrics.regression_metrics(labels, scores)
    assert [name for name in expected if not same(found[name], expected[name])] == []


@pytest.mark.parametrize("decimals", [17, 1])
def test_a_weight_is_as_good_as_copies_of_the_rows(decimals: int) -> None:
    labels, scores, decided, groups = night_rows(3, 900, 5, decimals)
    weights = np.array([[3, 0, 1, 0, 1]])
    rows = np.repeat(np.arange(900), weights[0][groups])
    found = bootstrap.weighted_binary_metrics(labels, scores, decided, groups, weights)
    expected = metrics.binary_metrics(labels[rows], scores[rows], decided[rows])
    compared = [name for name in expected if name != "calibration_error"]
    assert [name for name in compared if not same(found[name], expected[name])] == []
    found = bootstrap.weighted_regression_metrics(labels, scores, groups, weights)
    expected = metrics.regression_metrics(labels[rows], scores[rows])
    assert [name for name in expected if not same(found[name], expected[name])] == []


def test_every_resample_draws_as_many_dates_as_there_are() -> None:
    drawn = bootstrap.resample_dates(14, 500, seed=1)
    assert drawn.shape == (500, 14)
    assert set(drawn.sum(axis=1)) == {14}
    assert drawn.mean(axis=0) == pytest.approx(np.ones(14), abs=0.2)
    assert np.array_equal(drawn, bootstrap.resample_dates(14, 500, seed=1))
    assert not np.array_equal(drawn, bootstrap.resample_dates(14, 500, seed=2))


def test_intervals_hold_the_value_and_do_not_depend_on_the_order_of_rows() -> None:
    labels, scores, decided, groups = night_rows(5, 3000, 20, 2)
    found = bootstrap.metric_intervals(labels, scores, decided, groups, seed=4)
    assert {name: one.value for name, one in found.items()} == metrics.binary_metrics(labels, scores, decided)
    assert [name for name, one in found.items() if not one.lower < one.value < one.upper] == []
    order = np.random.default_rng(1).permutation(3000)
    mixed = bootstrap.metric_intervals(labels[order], scores[order], decided[order], groups[order] + 7, seed=4)
    for name, one in found.items():
        assert mixed[name].as_json() == pytest.approx(one.as_json(), abs=1e-12)


def test_a_bad_day_widens_the_interval_more_than_as_many_bad_rows() -> None:
    labels, scores, decided, groups = night_rows(6, 4000, 20, 17)
    bad_rows = np.where(np.random.default_rng(2).random(4000) < 0.05, 1 - labels, labels)
    bad_day = np.where(groups == 3, 1 - labels, labels)
    narrow, wide = (bootstrap.metric_intervals(some, scores, decided, groups)["brier"] for some in (bad_rows, bad_day))
    assert wide.upper - wide.lower > 2 * (narrow.upper - narrow.lower)


def test_regression_intervals_hold_the_value() -> None:
    labels, scores, _, groups = night_rows(7, 3000, 20, 17)
    found = bootstrap.regression_metric_intervals(labels, scores, groups)
    assert {name: one.value for name, one in found.items()} == metrics.regression_metrics(labels, scores)
    assert [name for name, one in found.items() if not one.lower < one.value < one.upper] == []


def test_one_date_has_values_without_bounds() -> None:
    labels, scores, decided, _ = night_rows(8, 200, 1, 17)
    found = bootstrap.metric_intervals(labels, scores, decided, np.full(200, 4))
    expected = metrics.binary_metrics(labels, scores, decided)
    assert found == {name: Interval(value, None, None) for name, value in expected.items()}


def test_no_rows_have_nothing() -> None:
    none, codes = np.empty(0), np.empty(0, np.int64)
    found = bootstrap.metric_intervals(none, none, none.astype(bool), codes)
    assert set(found.values()) | set(bootstrap.regression_metric_intervals(none, none, codes).values()) == {NOTHING}


def test_a_figure_that_most_resamples_lack_has_no_bounds() -> None:
    samples = np.array([1.0, np.nan, np.nan])
    assert bootstrap.percentile_interval(1.0, samples, 0.9) == Interval(1.0, None, None)
    assert bootstrap.percentile_interval(None, np.ones(3), 0.9) == NOTHING
    assert bootstrap.percentile_interval(1.0, np.arange(101.0), 0.5) == Interval(1.0, 25.0, 75.0)


def test_labels_of_one_class_have_no_ranking_interval() -> None:
    _, scores, decided, groups = night_rows(9, 200, 4, 17)
    found = bootstrap.metric_intervals(np.zeros(200), scores, decided, groups)
    assert {name for name, one in found.items() if one == NOTHING} == {"roc_auc", "average_precision", "recall"}


def test_200_resamples_of_12_000_rows_take_under_two_seconds() -> None:
    rows = night_rows(10, 12_000, 28, 17)
    start = time.process_time()
    bootstrap.metric_intervals(*rows)
    assert time.process_time() - start < 2
