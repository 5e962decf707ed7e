"""Paired evidence promotes an equal challenger no more often than it says, and a better one as often."""

import math

import numpy as np
import pytest

from nightscore.measures.bootstrap import log_losses
from nightscore.measures.metrics import log_loss
from nightscore.measures.paired import PairedEvidence, compare_by_date, losses

DATES, SIMULATIONS = 14, 1000
TOO_FEW = dict.fromkeys(("lower", "upper", "sd_daily", "detectable"))


def daily_effects(rng: np.random.Generator, autocorrelation: float, dates: int = DATES) -> np.ndarray:
    effects = rng.normal(size=dates)
    for day in range(1, dates):
        effects[day] = autocorrelation * effects[day - 1] + math.sqrt(1 - autocorrelation**2) * effects[day]
    return effects


def simulate(autocorrelation: float, gain: float, seed: int) -> list[PairedEvidence]:
    """Daily gains with a deviation of 2 points around `gain`, one row a date of unequal weight."""
    found = []
    for simulation in range(SIMULATIONS):
        rng = np.random.default_rng([seed, simulation])
        champion = np.exp(rng.normal(0, 0.2, DATES))
        challenger = champion * (1 - gain - 0.02 * daily_effects(rng, autocorrelation))
        found.append(compare_by_date(champion, challenger, np.arange(DATES), resamples=400, seed=simulation))
    return found


@pytest.mark.parametrize("autocorrelation", [0.0, 0.3])
def test_an_equal_challenger_is_promoted_as_seldom_as_stated_and_a_detectable_one_mostly(
    autocorrelation: float,
) -> None:
    equal = simulate(autocorrelation, 0.0, seed=1)
    assert np.mean([one.lower > 0 for one in equal]) <= 0.12
    assert np.mean([one.upper < 0 for one in equal]) <= 0.12
    better = simulate(autocorrelation, float(np.median([one.detectable for one in equal])), seed=2)
    assert 0.70 <= np.mean([one.lower > 0 for one in better]) <= 0.90


def test_resampling_rows_would_promote_an_equal_challenger_three_times_as_often() -> None:
    by_date, by_row = [], []
    groups = np.repeat(np.arange(DATES), 100)
    for simulation in range(300):
        rng = np.random.default_rng([5, simulation])
        champion = rng.exponential(size=len(groups))
        daily = 0.05 * rng.normal(size=DATES)
        challenger = champion - daily[groups] + 0.1 * rng.normal(size=len(groups))
        by_date.append(compare_by_date(champion, challenger, groups, resamples=400).lower > 0)
        drawn = rng.integers(0, len(groups), (200, len(groups)))
        by_row.append(np.quantile((champion - challenger)[drawn].mean(axis=1), 0.1) > 0)
    assert np.mean(by_date) <= 0.12
    assert np.mean(by_row) >= 3 * np.mean(by_date)


def test_identical_losses_are_no_gain_for_certain() -> None:
    rows = np.random.default_rng(1).exponential(size=500)
    mean = float(rows.mean())
    found = compare_by_date(rows, rows.copy(), np.arange(500) % 14)
    assert found == PairedEvidence(14, 500, mean, mean, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_gain_is_the_share_of_the_champions_loss_that_is_saved() -> None:
    rng = np.random.default_rng(2)
    champion, groups = rng.exponential(size=2000), rng.integers(0, 20, 2000)
    challenger = champion * 0.9 + 0.02 * rng.random(2000)
    found = compare_by_date(champion, challenger, groups)
    assert found.gain == pytest.approx(1 - challenger.sum() / champion.sum(), abs=1e-12)
    assert 0 < found.lower < found.gain < found.upper
    assert found.champion_loss == pytest.approx(champion.mean())
    assert found.challenger_loss == pytest.approx(challenger.mean())
    assert 0 < found.detectable < found.gain


def test_evidence_neither_depends_on_the_order_of_rows_nor_on_gaps_between_dates() -> None:
    rng = np.random.default_rng(3)
    champion, challenger = rng.exponential(size=(2, 900))
    groups, order = rng.integers(0, 12, 900), rng.permutation(900)
    found = compare_by_date(champion, challenger, groups)
    mixed = compare_by_date(champion[order], challenger[order], 3 * groups[order] + 5)
    assert mixed.as_json() == pytest.approx(found.as_json(), abs=1e-9)
    assert compare_by_date(champion, challenger, groups) == found


def test_days_that_resemble_each_other_widen_the_bounds() -> None:
    steady = np.tile([0.01, -0.01], 10)
    runs = np.repeat([0.01, -0.01], 10)
    narrow, wide = (compare_by_date(np.ones(20), 1 - daily, np.arange(20)) for daily in (steady, runs))
    assert narrow.sd_daily == pytest.approx(wide.sd_daily)
    assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower)


def test_one_date_has_a_gain_without_bounds() -> None:
    found = compare_by_date(np.array([1.0, 3.0]), np.array([1.0, 1.0]), np.zeros(2, np.int64))
    assert found.as_json() == {
        "dates": 1, "rows": 2, "champion_loss": 2.0, "challenger_loss": 1.0, "gain": 0.5, **TOO_FEW,
    }  # fmt: skip


def test_two_dates_have_bounds_that_say_how_little_is_known() -> None:
    found = compare_by_date(np.ones(2), np.array([0.9, 0.8]), np.arange(2))
    assert found.gain == pytest.approx(0.15)
    assert found.lower <= 0.15 - 3 * 0.05


def test_no_rows_are_no_evidence() -> None:
    found = compare_by_date(np.empty(0), np.empty(0), np.empty(0, np.int64))
    assert found == PairedEvidence(0, 0, None, None, None, None, None, None, None)


def test_a_champion_without_loss_has_no_relative_gain() -> None:
    found = compare_by_date(np.zeros(3), np.ones(3), np.arange(3))
    assert found == PairedEvidence(3, 3, 0.0, 1.0, None, None, None, None, None)


def test_losses_are_those_of_the_metrics() -> None:
    labels, predictions = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.0, 0.25, 1.0, 1.0])
    assert float(losses("binary", labels, predictions).mean()) == log_loss(labels, predictions)
    assert np.array_equal(losses("binary", labels, predictions), log_losses(labels, predictions))
    assert losses("regression", labels, predictions).tolist() == [1.0, 0.0625, 0.0, 1.0]


def test_versions_that_differ_on_few_dates_have_finite_bounds() -> None:
    """Most resamples then hold dates that are all alike, which have no spread."""
    dates = np.repeat(np.arange(14), 10)
    champion = np.ones(140)
    for differing in (1, 2):
        challenger = np.where(dates < differing, 0.5, 1.0)
        found = compare_by_date(champion, challenger, dates)
        bounds = [found.lower, found.gain, found.upper]
        assert None not in bounds
        assert bounds == sorted(bounds)
        assert np.isfinite(bounds).all()


def test_a_gain_that_is_the_same_on_every_date_is_its_own_bounds() -> None:
    dates = np.repeat(np.arange(14), 10)
    champion = np.full(140, 0.3)
    found = compare_by_date(champion, champion * 0.9, dates)
    assert [found.lower, found.upper] == [pytest.approx(0.1)] * 2
