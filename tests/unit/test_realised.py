"""Realised figures are those of the metrics with whole dates resampled, or the word; curves compare equal ages."""

import json
import math
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures.bootstrap import Interval, metric_intervals, regression_metric_intervals
from nightscore.measures.control import daily_interval
from nightscore.measures.metrics import binary_metrics, decision_metrics, regression_metrics
from nightscore.measures.paired import losses
from nightscore.measures.realised import (
    INSUFFICIENT,
    EqualMaturity,
    KnownFigure,
    Performance,
    Predicted,
    Realised,
    Task,
    Terms,
    common_ages,
    curves_at_equal_maturity,
    realised_performance,
)

TERMS = Terms(min_days=10, min_positives=20, resamples=100)
TASKS: tuple[Task, ...] = ("binary", "regression")
START = date(2013, 4, 1)


def nights(task: Task, dates: int = 12, rows: int = 40, seed: int = 0) -> dict[str, Any]:
    """Model, challenger and labels of `dates` with `rows` each, whose level moves from date to date."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(dates), rows)
    level = random.normal(0, 0.3, dates)[codes]
    truth = random.normal(0, 1, dates * rows)
    chance = 1 / (1 + np.exp(-truth - level))
    if task == "binary":
        labels = (random.random(len(chance)) < chance).astype(np.float64)
        model, other = chance, np.round(chance, 1)
        pair = [Predicted(values, values >= 0.5) for values in (model, other)]
    else:
        labels = 30 + 10 * (truth + level) + random.normal(0, 3, len(truth))
        pair = [Predicted(values) for values in (30 + 10 * truth, np.round(30 + 9 * truth))]
    constant, decided = (float(labels.mean()), False if task == "binary" else None)
    return {"task": task, "dates": codes, "labels": labels, "model": pair[0], "challenger": pair[1],
            "constant": constant, "constant_decided": decided, "terms": TERMS}  # fmt: skip


def of_rows(given: dict[str, Any], rows: Any) -> dict[str, Any]:
    """The same predictors on the rows given, which may repeat."""

    def kept(one: Predicted) -> Predicted:
        return Predicted(one.values[rows], None if one.decided is None else one.decided[rows])

    cut = {"dates": given["dates"][rows], "labels": given["labels"][rows]}
    return {**given, **cut, "model": kept(given["model"]), "challenger": kept(given["challenger"])}


def figures_of(one: Realised | None) -> dict[str, Interval]:
    assert one is not None
    assert one.figures != INSUFFICIENT
    return dict(one.figures)


def numbers(found: Performance) -> dict[str, Any]:
    """Every value and bound by its path, with approximate equality."""
    flat: dict[str, Any] = {}

    def walk(told: Any, path: str) -> None:
        for name, one in told.items():
            if isinstance(one, dict):
                walk(one, f"{path}/{name}")
            else:
                flat[f"{path}/{name}"] = pytest.approx(one, rel=1e-9, abs=1e-9) if isinstance(one, float) else one

    walk(found.as_json(), "")
    return flat


def values(found: Performance) -> dict[str, Any]:
    """Without bounds and without counts."""
    return {path: one for path, one in numbers(found).items() if path.endswith("/value")}


def test_a_binary_model_has_the_figures_of_the_metrics_with_intervals_over_dates() -> None:
    data = nights("binary")
    found = realised_performance(**data)
    labels, dates, model = data["labels"], data["dates"], data["model"]
    assert found.model == Realised(
        days=12,
        rows=480,
        positives=int(labels.sum()),
        figures=metric_intervals(labels, model.values, model.decided, dates, 0.9, 100, 0),
    )
    assert {name: one.value for name, one in figures_of(found.model).items()} == binary_metrics(
        labels, model.values, model.decided
    )
    constant = np.full(480, data["constant"])
    assert {name: one.value for name, one in figures_of(found.constant).items()} == binary_metrics(
        labels, constant, np.zeros(480, np.bool_)
    )
    other = data["challenger"]
    assert figures_of(found.challenger) == metric_intervals(labels, other.values, other.decided, dates, 0.9, 100, 0)


def test_a_regression_has_the_figures_of_the_metrics_in_the_unit_of_its_label() -> None:
    data = nights("regression")
    found = realised_performance(**data)
    labels, dates, model = data["labels"], data["dates"], data["model"]
    assert found.model == Realised(12, 480, None, regression_metric_intervals(labels, model.values, dates, 0.9, 100, 0))
    constant = np.full(480, data["constant"])
    assert {name: one.value for name, one in figures_of(found.constant).items()} == regression_metrics(labels, constant)
    assert figures_of(found.constant)["r2"].value == pytest.approx(0)


@pytest.mark.parametrize("task", TASKS)
def test_the_excess_loss_is_paired_row_by_row_and_resampled_by_date(task: Task) -> None:
    data = nights(task)
    found = realised_performance(**data)
    labels = data["labels"]
    for one, predicted in (
        (found.constant, np.full(480, data["constant"])),
        (found.challenger, data["challenger"].values),
    ):
        apart = losses(task, labels, predicted) - losses(task, labels, data["model"].values)
        totals = [apart[data["dates"] == day].sum() for day in range(12)]
        expected = daily_interval(totals, [40] * 12, 0.9, 100, 0)
        assert one is not None
        assert isinstance(one.excess_loss, Interval)
        assert one.excess_loss.as_json() == pytest.approx(expected.as_json(), abs=1e-12)
    assert isinstance(found.constant.excess_loss, Interval)
    assert found.constant.excess_loss.lower is not None
    assert found.constant.excess_loss.lower > 0


@pytest.mark.parametrize(
    ("task", "days", "positives", "enough"),
    [
        ("binary", 12, 20, True),
        ("binary", 12, 10_000, False),
        ("binary", 13, 20, False),
        ("binary", 13, 10_000, False),
        ("regression", 12, 10_000, True),
        ("regression", 13, 0, False),
    ],
)
def test_too_few_days_or_positives_are_insufficient(task: Task, days: int, positives: int, enough: bool) -> None:
    data = nights(task)
    found = realised_performance(**{**data, "terms": replace(TERMS, min_days=days, min_positives=positives)})
    assert (found.model.figures != INSUFFICIENT) is enough
    if not enough:
        counted = (12, 480, int(data["labels"].sum()) if task == "binary" else None)
        missing = Realised(*counted, INSUFFICIENT, INSUFFICIENT)
        assert found == Performance(task, Realised(*counted, INSUFFICIENT), missing, missing)


@pytest.mark.parametrize("task", TASKS)
def test_exactly_enough_positives_and_days_are_enough(task: Task) -> None:
    data = nights(task)
    exactly = replace(TERMS, min_days=12, min_positives=int(data["labels"].sum()) if task == "binary" else 1)
    assert realised_performance(**{**data, "terms": exactly}).model.figures != INSUFFICIENT


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fewest", [0, 1, 10])
def test_labels_that_never_come_are_insufficient_whatever_is_asked(task: Task, fewest: int) -> None:
    data, terms = nights(task), Terms(min_days=fewest, min_positives=0)
    unknown = {**data, "labels": np.full(480, math.nan), "terms": terms}
    empty = {**of_rows(data, np.empty(0, np.int64)), "constant": 0.5, "terms": terms}
    for found in (realised_performance(**unknown), realised_performance(**empty)):
        assert found.model == Realised(0, 0, 0 if task == "binary" else None, INSUFFICIENT)


def test_a_single_date_has_values_without_bounds() -> None:
    found = realised_performance(**nights("regression", dates=1) | {"terms": Terms(min_days=1)})
    assert [one for one in figures_of(found.model).values() if one.value is None or one.lower or one.upper] == []
    assert isinstance(found.constant.excess_loss, Interval)
    assert (found.constant.excess_loss.lower, found.constant.excess_loss.upper) == (None, None)


def test_a_single_row_and_labels_of_one_class_have_none_where_nothing_can_be_known() -> None:
    one = of_rows(nights("binary"), np.array([0]))
    one |= {"labels": np.ones(1), "terms": Terms(min_days=1, min_positives=1)}
    figures = figures_of(realised_performance(**one).model)
    assert figures["roc_auc"] == Interval(None, None, None)
    single = of_rows(nights("regression"), np.array([0])) | {"terms": Terms(min_days=1)}
    assert figures_of(realised_performance(**single).model)["r2"] == Interval(None, None, None)
    none = nights("binary") | {"labels": np.zeros(480), "terms": Terms(min_positives=0)}
    figures = figures_of(realised_performance(**none).model)
    assert [figures[name].value for name in ("roc_auc", "average_precision", "recall")] == [None] * 3


def test_rows_without_label_or_prediction_take_no_part() -> None:
    data = nights("binary", dates=14)
    labels, scores = data["labels"].copy(), data["model"].values.copy()
    labels[:40], scores[40:50] = math.nan, math.nan
    holes = {**data, "labels": labels, "model": replace(data["model"], values=scores)}
    assert numbers(realised_performance(**holes)) == numbers(realised_performance(**of_rows(data, np.arange(50, 560))))


def test_a_challenger_is_judged_only_where_it_has_a_prediction() -> None:
    data = nights("binary")
    scores = data["challenger"].values.copy()
    scores[:80] = math.nan
    holes = {**data, "challenger": replace(data["challenger"], values=scores)}
    found, without = realised_performance(**holes), realised_performance(**{**data, "challenger": None})
    later = realised_performance(**of_rows(data, np.arange(80, 480)))
    assert (found.model, found.constant, without.challenger) == (without.model, without.constant, None)
    assert numbers(replace(later, challenger=found.challenger)) == numbers(later)
    scores[:160] = math.nan
    few = realised_performance(**holes)
    assert few.challenger is not None
    assert (few.challenger.days, few.challenger.figures, few.challenger.excess_loss) == (8, INSUFFICIENT, INSUFFICIENT)
    assert few.model == found.model


def test_without_decisions_there_are_no_figures_of_decisions() -> None:
    data = nights("binary")
    undecided = {**data, "model": replace(data["model"], decided=None), "constant_decided": None}
    found, decided = realised_performance(**undecided), realised_performance(**data)
    of_decisions = decision_metrics(np.empty(0), np.empty(0, np.bool_)).keys()
    for one, other in ((found.model, decided.model), (found.constant, decided.constant)):
        kept = {name: figure for name, figure in figures_of(other).items() if name not in of_decisions}
        assert figures_of(one) == kept


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_rows_and_the_names_of_dates_do_not_show(task: Task) -> None:
    data = nights(task)
    mixed = of_rows(data, np.random.default_rng(1).permutation(480))
    mixed["dates"] = mixed["dates"] * 7 + 15_000
    assert numbers(realised_performance(**mixed)) == numbers(realised_performance(**data))


@pytest.mark.parametrize("task", TASKS)
def test_in_which_order_the_dates_come_moves_bounds_only_by_chance(task: Task) -> None:
    data = nights(task, dates=20) | {"terms": replace(TERMS, resamples=2000)}
    other = {**data, "dates": np.random.default_rng(2).permutation(20)[data["dates"]]}
    here, there = realised_performance(**data), realised_performance(**other)
    assert values(there) == values(here)
    for name, one in figures_of(here.model).items():
        assert one.lower is not None
        assert one.upper is not None
        moved = figures_of(there.model)[name]
        bounds = pytest.approx((one.lower, one.upper), abs=0.15 * (one.upper - one.lower))
        assert (moved.lower, moved.upper) == bounds


@pytest.mark.parametrize("task", TASKS)
def test_rows_that_stand_twice_on_their_date_are_no_more_evidence(task: Task) -> None:
    data = nights(task)
    twice = realised_performance(**of_rows(data, np.tile(np.arange(480), 2)))
    counts = {f"/{one}/{name}" for one in ("model", "constant", "challenger") for name in ("rows", "positives")}
    here, there = numbers(realised_performance(**data)), numbers(twice)
    assert {path: one for path, one in there.items() if path not in counts} == {
        path: one for path, one in here.items() if path not in counts
    }
    assert (twice.model.days, twice.model.rows) == (12, 960)


@pytest.mark.parametrize("task", TASKS)
def test_dates_that_come_twice_are_more_evidence(task: Task) -> None:
    data = nights(task) | {"terms": replace(TERMS, resamples=2000)}
    twice = of_rows(data, np.tile(np.arange(480), 2))
    twice["dates"] = np.concatenate([data["dates"], data["dates"] + 12])
    here, there = realised_performance(**data), realised_performance(**twice)
    assert values(there) == values(here)
    wide, narrow = (found.constant.excess_loss for found in (here, there))
    assert isinstance(wide, Interval)
    assert isinstance(narrow, Interval)
    widths = [one.upper - one.lower for one in (wide, narrow) if one.upper is not None and one.lower is not None]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(0.5), rel=0.15)


@pytest.mark.parametrize("task", TASKS)
def test_performance_goes_to_json(task: Task) -> None:
    found = realised_performance(**nights(task))
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["model"]["figures"] == {name: one.as_json() for name, one in figures_of(found.model).items()}
    assert (told["task"], told["model"]["excess_loss"], told["model"]["days"]) == (task, None, 12)
    none = realised_performance(**{**nights(task), "challenger": None, "terms": Terms(min_days=13)}).as_json()
    assert (none["challenger"], none["constant"]["figures"], none["constant"]["excess_loss"]) == (
        None, INSUFFICIENT, INSUFFICIENT,
    )  # fmt: skip


def known(*figures: tuple[int, int, float | None]) -> list[KnownFigure]:
    """Score date as days after the start, its age in days, the figure."""
    return [KnownFigure(START + timedelta(day), START + timedelta(day + age), value) for day, age, value in figures]


def curve(age: int, *figures: tuple[int, float | None]) -> EqualMaturity:
    return EqualMaturity(age, tuple((START + timedelta(day), value) for day, value in figures))


def test_every_score_date_is_shown_as_it_was_known_at_the_same_age() -> None:
    figures = known((0, 1, 0.9), (0, 3, 0.8), (1, 1, 0.7), (1, 3, 0.6), (2, 1, 0.5))
    assert curves_at_equal_maturity(figures) == (
        curve(1, (0, 0.9), (1, 0.7), (2, 0.5)),
        curve(3, (0, 0.8), (1, 0.6)),
    )
    assert common_ages(figures) == (1, 3)
    assert (common_ages(figures, fewest=3), common_ages(figures, fewest=4)) == ((1,), ())


def test_knowledge_lasts_until_newer_comes_and_is_never_of_the_future() -> None:
    figures = known((0, 2, 0.9), (0, 9, 0.1), (1, 8, 0.3))
    assert curves_at_equal_maturity(figures, ages_days=[8, 1, 2, 8, 10]) == (
        curve(1, (0, None), (1, None)),
        curve(2, (0, 0.9), (1, None)),
        curve(8, (0, 0.9), (1, 0.3)),
        curve(10),
    )
    assert curves_at_equal_maturity(figures, [8], until=START + timedelta(8)) == (curve(8, (0, 0.9)),)
    assert curves_at_equal_maturity(figures, [10], until=START + timedelta(30)) == (curve(10, (0, 0.1), (1, 0.3)),)


def test_a_figure_without_meaning_stays_none_and_no_figures_have_no_curves() -> None:
    assert curves_at_equal_maturity(known((0, 1, 0.5), (0, 2, None)), [2]) == (curve(2, (0, None)),)
    assert curves_at_equal_maturity([], [1]) == ()
    assert curves_at_equal_maturity(known((0, 5, 0.5))) == ()
    assert common_ages([]) == ()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), unique=True, max_size=30), st.randoms())
def test_curves_do_not_depend_on_the_order_of_figures_and_later_knowledge_does_not_change_them(
    pairs: list[tuple[int, int]], random: Any
) -> None:
    figures = known(*((day, age, day + age / 10) for day, age in pairs))
    until = START + timedelta(9)
    curves = curves_at_equal_maturity(figures, range(10), until)
    assert curves_at_equal_maturity(random.sample(figures, len(figures)), range(10), until) == curves
    then = [one for one in figures if one.known_on <= until]
    earlier = {day for one in curves_at_equal_maturity(then, range(10), until) for day, _ in one.figures}
    assert curves_at_equal_maturity(then, range(10), until) == tuple(
        EqualMaturity(one.age_days, tuple(point for point in one.figures if point[0] in earlier))
        for one in curves[: 10 if then else 0]
    )
