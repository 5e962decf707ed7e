"""The search for settings: the same trials whatever happened before, a budget that is kept, an honest choice."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from itertools import count
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.errors import NotEnoughData, SpecError
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Algorithm, LightGbm, Linear
from nightscore.spec.tuning import SearchSpace
from nightscore.training.search import settings_of
from nightscore.training.tuning import DayLoss, Status, TrialResult, best_of, tune
from tests.unit.synthetic_flights import LIGHTGBM, make_flights, make_pipeline, training_section

WIDE = SearchSpace.model_validate({
    "trees": {"low": 50, "high": 1000, "log": True}, "leaves": {"low": 4, "high": 7},
    "learning_rate": {"low": 0.01, "high": 0.3, "log": True}, "min_rows_in_leaf": {"low": 5, "high": 200, "log": True},
    "feature_fraction": {"low": 0.3, "high": 1.0}, "bagging_fraction": {"low": 0.5, "high": 1.0},
    "l2": {"low": 0.0, "high": 50.0},
})  # fmt: skip
INCUMBENT = LightGbm(type="lightgbm")
SPACE = {"leaves": {"low": 2, "high": 31, "log": True}, "learning_rate": {"low": 0.005, "high": 0.9, "log": True}}
FLIGHTS = make_flights()
TRIALS = 8
HELD_OUT = 8


def pipeline_of(task: str = "binary", algorithm: Mapping[str, Any] = LIGHTGBM, **tuning: Any) -> Pipeline:
    section = {"trials": TRIALS, "folds": 3, "fold_days": 4, "space": SPACE, **tuning}
    return make_pipeline(task=task, training=training_section(algorithm=dict(algorithm), tuning=section))


def searched(
    pipeline: Pipeline, known: Mapping[int, TrialResult] | None = None, frame: pl.DataFrame = FLIGHTS
) -> dict[int, TrialResult]:
    """Known and new trials, with a clock that stands."""
    before = dict(known or {})
    found = {one.number: one for one in tune(frame, pipeline, before, lambda: True, lambda: 0.0)}
    return before | found


@cache
def whole() -> dict[int, TrialResult]:
    return searched(pipeline_of())


def trial(number: int, *losses: float, status: Status = "done", rows: int = 10) -> TrialResult:
    """A trial with one fold, one date a loss."""
    days = [DayLoss(date(2013, 1, 1) + timedelta(days=at), rows, loss) for at, loss in enumerate(losses)]
    return TrialResult(number, status, {"l2": number}, (tuple(days),) if days else (), 1.0)


@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 200), min_size=1, max_size=5))
def test_the_settings_of_a_trial_depend_on_seed_and_number_alone(seed: int, numbers: list[int]) -> None:
    alone = {number: settings_of(WIDE, INCUMBENT, seed, number) for number in reversed(numbers)}
    assert [settings_of(WIDE, INCUMBENT, seed, number) for number in numbers] == [alone[number] for number in numbers]


@given(st.integers(0, 2**31 - 1), st.integers(1, 500))
def test_settings_are_of_the_ranges_and_the_rest_is_the_specs_own(seed: int, number: int) -> None:
    settings = settings_of(WIDE, INCUMBENT, seed, number)
    outside = [name for name, span in WIDE.ranges.items() if not span.low <= getattr(settings, name) <= span.high]
    assert (outside, settings.threads, type(settings)) == ([], INCUMBENT.threads, LightGbm)


def test_the_first_trial_has_the_specs_own_settings_and_another_seed_tries_others() -> None:
    assert settings_of(WIDE, INCUMBENT, 7, 0) is INCUMBENT
    assert settings_of(WIDE, INCUMBENT, 7, 1) != settings_of(WIDE, INCUMBENT, 8, 1)
    tried = [settings_of(WIDE, INCUMBENT, 7, number) for number in range(64)]
    assert len({one.model_dump_json() for one in tried}) == 64


def test_the_trials_of_a_seed_stay_what_they_are() -> None:
    space = SearchSpace.model_validate({"leaves": {"low": 4, "high": 64, "log": True}, "l2": {"low": 0, "high": 9}})
    tried = [settings_of(space, INCUMBENT, 20130401, number) for number in range(1, 4)]
    assert [(one.leaves, one.l2) for one in tried if isinstance(one, LightGbm)] == [(6, 6.14), (27, 3.14), (13, 0.1399)]


def test_the_ends_of_ranges_are_reached_and_every_integer_gets_its_share() -> None:
    tried = [settings_of(WIDE, INCUMBENT, 7, number).model_dump() for number in range(1, 401)]
    leaves = [one["leaves"] for one in tried]
    assert [leaves.count(value) for value in range(4, 8)] == pytest.approx([100] * 4, abs=10)
    trees = [one["trees"] for one in tried]
    assert (min(trees), max(trees)) == (pytest.approx(50, rel=0.02), pytest.approx(1000, rel=0.02))
    for name, span in WIDE.ranges.items():
        found, reach = [one[name] for one in tried], 0.02 * (span.high - span.low)
        assert (min(found) <= span.low + reach, max(found) >= span.high - reach) == (True, True), name


def test_a_log_scale_tries_as_many_small_values_as_large_ones() -> None:
    rates = [settings_of(WIDE, INCUMBENT, 7, number).model_dump()["learning_rate"] for number in range(1, 401)]
    assert sum(rate < math.sqrt(0.01 * 0.3) for rate in rates) == pytest.approx(200, abs=10)


@pytest.mark.parametrize(
    ("algorithm", "space"),
    [
        (Linear(type="linear"), {"l2": {"low": 3.0, "high": 3.0, "log": True}}),
        (INCUMBENT, {"leaves": {"low": 5, "high": 5}}),
    ],
)
def test_a_range_of_one_value_gives_this_value(algorithm: Algorithm, space: dict[str, Any]) -> None:
    ((name, span),) = SearchSpace.model_validate(space).ranges.items()
    for number in range(1, 20):
        found = settings_of(SearchSpace.model_validate(space), algorithm, 7, number)
        assert getattr(found, name) == span.low


def test_trials_are_measured_on_later_dates_that_are_neither_held_out_nor_calibrate() -> None:
    days = [day.score_date for day in whole()[0].days]
    assert days == [date(2013, 1, 21) + timedelta(days=at) for at in range(12)]
    calibrated = training_section(
        calibration={"method": "sigmoid", "dates": 5},
        tuning={"trials": 1, "folds": 3, "fold_days": 4, "space": SPACE},
    )
    calibrating = searched(make_pipeline(training=calibrated))
    assert [day.score_date for day in calibrating[0].days] == [day - timedelta(days=5) for day in days]


def test_labels_of_held_out_dates_do_not_reach_the_search() -> None:
    late = pl.col("score_date") >= pl.date(2013, 2, 2)
    flipped = FLIGHTS.with_columns(label=pl.when(late).then(1 - pl.col("label")).otherwise("label"))
    assert searched(pipeline_of(trials=2), frame=flipped) == {number: whole()[number] for number in range(2)}


def test_the_order_of_the_rows_does_not_matter() -> None:
    shuffled = FLIGHTS.sample(fraction=1, shuffle=True, seed=3)
    assert searched(pipeline_of(trials=3), frame=shuffled) == {number: whole()[number] for number in range(3)}


@pytest.mark.parametrize("stopped_after", range(1, TRIALS))
def test_a_search_that_was_stopped_comes_to_the_same_to_the_last_bit(stopped_after: int) -> None:
    known = {number: whole()[number] for number in range(stopped_after)}
    assert searched(pipeline_of(), known) == whole()


def test_what_later_trials_came_to_changes_nothing() -> None:
    known = {number: whole()[number] for number in (0, 5, 7)}
    assert searched(pipeline_of(), known) == whole()


def test_a_trial_survives_the_catalog_to_the_last_bit() -> None:
    import json

    for one in whole().values():
        metrics = json.loads(json.dumps(one.as_metrics()))
        assert TrialResult.from_metrics(one.number, one.status, one.settings, metrics, one.seconds) == one


def test_a_hopeless_trial_is_stopped_and_says_why() -> None:
    pruned = [one for one in whole().values() if one.status == "pruned"]
    assert pruned
    for one in pruned:
        assert 1 <= len(one.folds) < 3
        assert one.reason.startswith(f"after {len(one.folds)} of 3 folds worse than trial ")
    assert {len(one.folds) for one in whole().values() if one.status == "done"} == {3}


def test_only_a_finished_trial_of_before_can_stop_another() -> None:
    strong = replace(whole()[0], folds=tuple(
        tuple(replace(day, loss=day.loss / 100) for day in fold) for fold in whole()[0].folds
    ))  # fmt: skip
    assert {one.status for one in searched(pipeline_of(), {0: strong}).values()} == {"done", "pruned"}
    for status in ("pruned", "failed"):
        after = searched(pipeline_of(trials=2), {0: replace(strong, status=status)})
        assert after[1].status == "done"


def test_the_budget_of_trials_counts_those_that_are_known() -> None:
    assert list(searched(pipeline_of(trials=3))) == [0, 1, 2]
    known = {number: whole()[number] for number in range(5)}
    assert list(tune(FLIGHTS, pipeline_of(trials=5), known, lambda: True, lambda: 0.0)) == []
    assert list(searched(pipeline_of(trials=6), known)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("seconds", "trials"), [(0, 1), (1, 1), (40, 2), (100, 4)])
def test_the_budget_of_time_is_looked_at_between_trials(seconds: float, trials: int) -> None:
    """Each look at the clock takes ten seconds; the spec's own settings are measured in any case."""
    clock = _ticking()
    found = list(tune(FLIGHTS, pipeline_of(), {}, lambda: clock() < seconds, clock))
    assert [one.number for one in found] == list(range(trials))


def _ticking() -> Any:
    ticks: Iterator[int] = count(step=10)
    return lambda: float(next(ticks))


def test_a_trial_without_a_finite_loss_has_failed_and_the_search_goes_on() -> None:
    last = pl.col("score_date") == pl.date(2013, 2, 1)
    broken = make_flights(task="regression").with_columns(label=pl.when(last).then(math.nan).otherwise("label"))
    found = searched(pipeline_of(task="regression", trials=2), frame=broken)
    assert [(one.status, len(one.folds)) for one in found.values()] == [("failed", 2)] * 2
    with pytest.raises(SpecError, match="trial 0 failed: ValueError: the loss of 150 rows is not finite"):
        best_of(found.values())


def test_losses_are_means_over_rows() -> None:
    fold = (DayLoss(date(2013, 1, 1), 30, 1.0), DayLoss(date(2013, 1, 2), 10, 2.0))
    one = TrialResult(0, "done", {}, (fold, (DayLoss(date(2013, 1, 3), 40, 4.0),)), 1.0)
    assert (one.fold_losses, one.loss) == ((1.25, 4.0), (30 + 20 + 160) / 80)
    mean, rows = 2.625, (30, 10, 40)
    residuals = [n * (loss - mean) for n, loss in zip(rows, (1.0, 2.0, 4.0), strict=True)]
    assert one.standard_error == pytest.approx(math.sqrt(1.5 * sum(r * r for r in residuals)) / 80, rel=1e-12)


CHOICES = [
    ("a clear gain", [trial(0, 0.5, 0.6, 0.55), trial(1, 0.4, 0.5, 0.46)], 1, "more than one standard error"),
    ("no gain", [trial(0, 0.5, 0.6, 0.55), trial(1, 0.5, 0.7, 0.6)], 0, "no trial is better"),
    ("a gain within the noise", [trial(0, 0.5, 0.6, 0.55), trial(1, 0.2, 0.7, 0.7)], 0, "within one standard error"),
    ("one date", [trial(0, 0.5), trial(1, 0.4)], 0, "one date only"),
    ("of equal ones the first", [trial(0, 0.9, 0.9), trial(2, 0.1, 0.1), trial(1, 0.1, 0.1)], 1, "more than one"),
    ("a pruned one never", [trial(0, 0.5, 0.6), trial(1, 0.1, 0.1, status="pruned")], 0, "no trial is better"),
    ("own settings failed", [trial(0, status="failed"), trial(1, 0.5, 0.6)], 1, "own settings could not be measured"),
]


@pytest.mark.parametrize(("results", "chosen", "said"), [one[1:] for one in CHOICES], ids=[one[0] for one in CHOICES])
def test_the_choice_keeps_the_spec_unless_another_is_credibly_better(
    results: list[TrialResult], chosen: int, said: str
) -> None:
    choice = best_of(results)
    assert (choice.trial.number, choice.keeps_incumbent, said in choice.reason) == (chosen, chosen == 0, True)


def test_nothing_measured_is_no_choice() -> None:
    with pytest.raises(SpecError, match="no trial was measured"):
        best_of([])


def test_too_few_dates_are_refused_with_every_reason() -> None:
    with pytest.raises(NotEnoughData) as refused:
        searched(pipeline_of(folds=4, fold_days=8))
    assert refused.value.found == (
        "32 score dates beside those that calibrate or are held out, expected more than the 32 of the folds",
        "nothing is mature before 2013-01-01, where a fold begins",
    )


def test_a_fold_whose_past_shows_one_class_is_refused() -> None:
    late = FLIGHTS.with_columns(label=pl.when(pl.col("score_date") < pl.date(2013, 1, 22)).then(0).otherwise("label"))
    with pytest.raises(NotEnoughData, match="one class only, 0, before 2013-01-21, where a fold begins"):
        searched(pipeline_of(), frame=late)


def test_a_pipeline_without_a_space_is_refused() -> None:
    with pytest.raises(SpecError, match=r"no section training\.tuning"):
        searched(make_pipeline())


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_linear_model_is_tuned_too(task: str) -> None:
    pipeline = pipeline_of(
        task, {"type": "linear", "l2": 1e6}, trials=4, space={"l2": {"low": 1e-3, "high": 1e6, "log": True}}
    )
    found = searched(pipeline, frame=make_flights(task=task))
    choice = best_of(found.values())
    assert (choice.keeps_incumbent, set(choice.trial.settings)) == (False, {"type", "l2"})
