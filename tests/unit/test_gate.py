"""Verdicts on planted challengers: better, leaking, miscalibrated, bad in one carrier, unfair, or too little known."""

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.measures.metrics import Vector
from nightscore.registry.gate import judge
from nightscore.registry.unseen import CHALLENGER_SCORE, CHAMPION_SCORE, PairedRows
from nightscore.spec.pipeline import Pipeline
from tests.unit.synthetic_flights import CARRIERS, make_pipeline

DATES, ROWS_PER_DATE = 14, 600
FIRST = date(2013, 5, 1)
COLUMNS = [
    {"name": "carrier", "type": "category", "segment": True, "sensitive": True},
    {"name": "hour", "type": "integer"},
    {"name": "arrival_delay", "type": "float"},
]


def pipeline_with(task: str = "binary", **promotion: Any) -> Pipeline:
    return make_pipeline(task=task, features={"model": "features", "columns": COLUMNS}, promotion=promotion)


def sigmoid(logits: Vector) -> Vector:
    return 1 / (1 + np.exp(-logits))


class World:
    """Flights whose lateness follows `known`, which both versions learnt, and `hidden`, which only a good one did."""

    def __init__(self, dates: int = DATES, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        rows = dates * ROWS_PER_DATE
        self.days = np.repeat(np.arange(dates), ROWS_PER_DATE)
        self.carrier = rng.integers(0, len(CARRIERS), rows)
        self.hour = rng.integers(5, 24, rows)
        self.known = 0.1 * (self.hour - 14) - 0.8
        self.hidden = 0.4 * rng.choice([-1.0, 1.0], rows)
        self.noise = rng.normal(size=rows)
        self.label = (rng.random(rows) < sigmoid(self.known + self.hidden)).astype(np.int64)
        self.arrival_delay = 30 * self.label + rng.normal(0, 10, rows)
        self.champion = (sigmoid(self.known + 0.4) + sigmoid(self.known - 0.4)) / 2
        self.better = sigmoid(self.known + self.hidden)

    def rows(self, challenger: Vector, champion: Vector | None = None, **facts: Any) -> PairedRows:
        dates = [FIRST + timedelta(days=int(day)) for day in self.days]
        frame = pl.DataFrame({
            "score_date": dates, "carrier": np.array(CARRIERS)[self.carrier], "flight": np.arange(len(dates)),
            "hour": self.hour, "label": self.label, CHAMPION_SCORE: self.champion if champion is None else champion,
            CHALLENGER_SCORE: challenger,
        })  # fmt: skip
        if "new_features" in facts:
            frame = frame.with_columns(arrival_delay=self.arrival_delay)
        return PairedRows(frame, tuple(sorted(set(dates))), {}, **facts)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_new_recipe_that_is_better_on_the_dates_passes(world: World) -> None:
    verdict = judge(pipeline_with(), world.rows(world.better), is_refresh=False)
    assert (verdict.outcome, len(verdict.reasons), verdict.promotable) == ("better", 1, True)
    assert verdict.reasons[0].startswith("credibly better: ")
    told = verdict.evidence
    assert 0 < told["paired"]["lower"] < told["paired"]["gain"] < told["paired"]["upper"]
    assert [one["score_date"] for one in told["by_date"]] == [str(FIRST + timedelta(days=day)) for day in range(DATES)]
    assert sum(one["rows"] for one in told["by_date"]) == DATES * ROWS_PER_DATE
    assert {one["level"] for one in told["segments"]} == set(CARRIERS)
    assert told["score_psi"] > 0


def test_a_verdict_is_the_same_each_time_and_small_json(world: World) -> None:
    first, second = (judge(pipeline_with(), world.rows(world.better), is_refresh=False) for _ in range(2))
    assert first == second
    assert len(json.dumps(first.as_json(), allow_nan=False)) < 100_000


def test_a_planted_leak_is_held_back_and_the_feature_is_named_first(world: World) -> None:
    leaking = sigmoid(world.known + world.hidden + 0.3 * (world.arrival_delay - 15))
    importance = {"arrival_delay": 90.0, "hour": 10.0}
    rows = world.rows(leaking, new_features=("arrival_delay",), importance=importance)
    verdict = judge(pipeline_with(), rows, is_refresh=False)
    assert verdict.outcome == "held_back"
    assert "too good to be true" in verdict.reasons[0]
    assert "look for a leak: arrival_delay (the champion does not have it, alone AUC 0.9" in verdict.reasons[0]
    assert "90 % of the importance" in verdict.reasons[0]
    (suspect,) = verdict.evidence["guardrails"]["leaks"]["suspects"]
    assert (suspect["feature"], suspect["new"]) == ("arrival_delay", True)


def test_one_new_feature_that_outdoes_the_champion_is_suspected_even_at_a_small_gain(world: World) -> None:
    rows = world.rows(world.better, new_features=("arrival_delay",))
    verdict = judge(pipeline_with(), rows, is_refresh=False)
    assert verdict.evidence["paired"]["gain"] < 0.1
    assert verdict.outcome == "held_back"
    assert verdict.reasons[0].startswith("leak suspected: one feature does more than the champion: arrival_delay (")


def test_a_perfect_leak_is_held_back(world: World) -> None:
    rows = world.rows(world.label.astype(np.float64), new_features=("arrival_delay",))
    verdict = judge(pipeline_with(), rows, is_refresh=False)
    assert (verdict.outcome, verdict.reasons[0][:43]) == ("held_back", "too good to be true: 100 % less loss, above")


def test_a_new_feature_that_is_merely_useful_is_no_suspect(world: World) -> None:
    weak = World()
    weak.arrival_delay = weak.hidden + weak.noise
    rows = weak.rows(weak.better, new_features=("arrival_delay",))
    assert judge(pipeline_with(), rows, is_refresh=False).outcome == "better"


def test_a_refresh_with_a_shifted_probability_is_held_back_for_its_calibration(world: World) -> None:
    shifted = sigmoid(world.known + world.hidden + 0.2)
    verdict = judge(pipeline_with(), world.rows(shifted), is_refresh=True)
    assert verdict.outcome == "held_back"
    assert verdict.reasons[0].startswith("calibration: its error is 0.0")
    assert verdict.reasons[-1].startswith("without that it would be not worse: ")


def test_a_wrecked_calibration_that_costs_loss_is_worse_and_says_why(world: World) -> None:
    verdict = judge(pipeline_with(), world.rows(world.better**3), is_refresh=True)
    assert verdict.outcome == "worse"
    assert verdict.reasons[0].startswith("credibly worse: ")
    assert any(reason.startswith("calibration: ") for reason in verdict.reasons[1:])


@pytest.mark.parametrize("carrier", range(len(CARRIERS)))
def test_a_challenger_that_is_bad_in_one_carrier_is_held_back_for_it_alone(world: World, carrier: int) -> None:
    wild = np.where(world.carrier == carrier, world.known + 0.6 * world.noise, world.known + world.hidden)
    verdict = judge(pipeline_with(), world.rows(sigmoid(wild)), is_refresh=True)
    assert verdict.outcome == "held_back"
    blamed = [reason.split(":")[0] for reason in verdict.reasons if reason.startswith("segment")]
    assert blamed == [f"segment carrier = {CARRIERS[carrier]}"]


def test_a_segment_too_small_to_be_judged_does_not_hold_back(world: World) -> None:
    wild = np.where(world.carrier == 0, world.known + 0.6 * world.noise, world.known + world.hidden)
    verdict = judge(pipeline_with(segment_share=0.3), world.rows(sigmoid(wild)), is_refresh=True)
    assert (verdict.outcome, verdict.evidence["segments"]) == ("not_worse", [])


@pytest.mark.parametrize(("severity", "outcome"), [("block", "held_back"), ("warn", "better")])
def test_unfair_decisions_hold_back_or_warn_as_the_spec_says(world: World, severity: str, outcome: str) -> None:
    limit = {"measure": "selection_rate_difference", "limit": 0.005, "severity": severity}
    spec = pipeline_with(fairness={"limits": [limit]})
    verdict = judge(spec, world.rows(world.better), is_refresh=False)
    said = [one for one in (*verdict.reasons, *verdict.evidence["warnings"]) if one.startswith("fairness of carrier:")]
    assert (verdict.outcome, len(said)) == (outcome, 1)
    assert "selection rate difference 0.0" in said[0]
    assert said[0].endswith("expected at most 0.005")


@pytest.mark.parametrize("is_refresh", [True, False])
def test_fewer_dates_than_needed_are_not_enough_evidence(is_refresh: bool) -> None:
    few = World(dates=9)
    verdict = judge(pipeline_with(), few.rows(few.better), is_refresh)
    assert verdict.outcome == "not_enough_evidence"
    assert verdict.reasons == ("9 common mature dates, at least 10 are needed",)
    nothing = judge(pipeline_with(), PairedRows(pl.DataFrame(), (), {FIRST: "the lake has no labels"}), is_refresh)
    assert (nothing.outcome, nothing.evidence["left_out"]) == (
        "not_enough_evidence",
        {"2013-05-01": "the lake has no labels"},
    )


@pytest.mark.parametrize(("is_refresh", "outcome"), [(True, "not_worse"), (False, "not_enough_evidence")])
def test_an_identical_challenger_is_a_good_refresh_and_no_better_recipe(
    world: World, is_refresh: bool, outcome: str
) -> None:
    assert judge(pipeline_with(), world.rows(world.champion), is_refresh).outcome == outcome


@pytest.mark.parametrize(("is_refresh", "outcome"), [(True, "not_worse"), (False, "not_enough_evidence")])
def test_an_equal_challenger_leaves_a_new_recipe_unproven_and_states_the_power(
    world: World, is_refresh: bool, outcome: str
) -> None:
    learnt = np.log(world.champion / (1 - world.champion))
    one, other = (sigmoid(learnt + 0.1 * noise) for noise in (world.noise, World(seed=2).noise))
    verdict = judge(pipeline_with(), world.rows(one, other), is_refresh)
    assert verdict.outcome == outcome
    assert verdict.evidence["power"].startswith("with 14 dates a gain of 0.")
    assert is_refresh or verdict.reasons[0].endswith("would be seen in 8 of 10 cases")


def test_a_refresh_that_loses_more_than_allowed_is_worse_without_being_credibly_so(world: World) -> None:
    daily = np.random.default_rng(3).normal(0.0, 0.9, DATES)
    erratic = sigmoid(world.known + daily[world.days])
    spec = pipeline_with(refresh_loss=0.0, confidence=0.999999)
    verdict = judge(spec, world.rows(erratic), is_refresh=True)
    assert verdict.evidence["paired"]["upper"] > 0
    assert verdict.outcome == "worse"
    assert verdict.reasons[0].startswith("a refresh that is worse by more than 0 %")


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("label", [None, 0, 1])
def test_constant_scores_and_labels_are_judged_without_failing(world: World, score: float, label: int | None) -> None:
    rows = world.rows(np.full(len(world.label), score), np.full(len(world.label), 0.5), new_features=("arrival_delay",))
    if label is not None:
        rows = replace(rows, frame=rows.frame.with_columns(pl.lit(label).alias("label")))
    verdict = judge(pipeline_with(max_gain=0.9), rows, is_refresh=True)
    json.dumps(verdict.as_json(), allow_nan=False)
    assert verdict.evidence["guardrails"]["leaks"]["champion_separation"] is None


def test_rows_without_a_score_take_no_part_and_are_counted(world: World) -> None:
    holes = np.where(np.arange(len(world.label)) < ROWS_PER_DATE + 5, np.nan, world.better)
    verdict = judge(pipeline_with(), world.rows(holes), is_refresh=False)
    assert (verdict.outcome, verdict.evidence["rows_left_out"]) == ("better", ROWS_PER_DATE + 5)
    assert verdict.evidence["left_out"] == {str(FIRST): "no row has two scores and a label"}
    json.dumps(verdict.as_json(), allow_nan=False)


def test_a_regression_is_judged_by_squared_error_and_its_leak_by_rank_correlation(world: World) -> None:
    minutes = 20 + 15 * (world.known + world.hidden) + world.noise
    rows = world.rows(minutes + 0.1, 20 + 15 * world.known, new_features=("arrival_delay",))
    frame = rows.frame.with_columns(label=minutes, arrival_delay=pl.Series(minutes) * 2)
    verdict = judge(pipeline_with("regression"), replace(rows, frame=frame), is_refresh=False)
    assert (verdict.outcome, verdict.evidence["metric"]) == ("held_back", "mse")
    assert "arrival_delay (the champion does not have it, alone rank correlation 1.00" in verdict.reasons[0]
    assert verdict.evidence["guardrails"]["calibration"] is None


@pytest.mark.parametrize(
    ("allowance", "is_refresh", "outcome", "said"),
    [
        (0.0, True, "worse", "credibly worse: "),
        (0.05, True, "not_worse", "that is cheaper, for 5 % at most: "),
        (0.0001, True, "worse", "credibly worse than the 0.01 % that a cheaper version may cost: "),
        (0.05, False, "worse", "credibly worse: "),
    ],
)
def test_a_cheaper_version_of_the_champions_recipe_may_cost_what_it_was_allowed(
    world: World, allowance: float, is_refresh: bool, outcome: str, said: str
) -> None:
    # A prediction a little too flat loses a little on every date.
    flat = 0.9 * world.champion + 0.1 * world.champion.mean()
    verdict = judge(pipeline_with(), world.rows(flat, allowance=allowance), is_refresh)
    assert verdict.evidence["paired"]["upper"] < 0
    assert (verdict.outcome, verdict.evidence.get("allowance", 0.0)) == (outcome, allowance)
    assert said in verdict.reasons[0]
