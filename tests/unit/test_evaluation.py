"""Evaluation: what is measured of held-out rows, against which decisions, and whether a model is worth it."""

from datetime import date
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.measures.metrics import log_loss, rmse
from nightscore.spec.pipeline import Pipeline
from nightscore.training.boosted import LightGbmModel, learning_curve
from nightscore.training.evaluate import Scored, dates_of, decide_rows, evaluate, measure_calibration
from nightscore.training.fit import Trained, train
from nightscore.training.matrix import Examples, encode
from nightscore.training.worth import measure_worth, worth_line
from tests.unit.synthetic_flights import CONSTANT, LIGHTGBM, LINEAR, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
RULE = {"type": "rule", "score": "case when hour > 17 then 0.45 else 0.25 end"}
COSTS = {"false_alarm": 1.0, "miss": 3.0, "unit": "EUR"}
LATE = pl.col("score_date") >= pl.date(2013, 2, 2)


def sensitive_features() -> dict[str, Any]:
    features: dict[str, Any] = make_pipeline().features.model_dump()
    features["columns"][0]["sensitive"] = True
    return features


@cache
def trained(calibration: str = "isotonic") -> Trained:
    settings = {} if calibration == "none" else {"calibration": {"method": calibration, "dates": 8}}
    section = training_section(baselines=[RULE, LINEAR, CONSTANT], **settings)
    decision = {"rule": {"type": "threshold", "value": 0.4}, "costs": COSTS}
    return train(FLIGHTS, make_pipeline(training=section, decision=decision, features=sensitive_features()))


def test_metrics_have_their_shape() -> None:
    metrics = trained().metrics
    assert sorted(metrics) == [
        "algorithm", "algorithms", "all", "calibrate", "calibration", "curve", "fairness", "fit", "groups",
        "held_out", "reliability", "worth",
    ]  # fmt: skip
    assert list(metrics["algorithms"]) == ["lightgbm", "rule", "linear", "constant"]
    for figures in metrics["algorithms"].values():
        assert list(figures) == ["overall", "intervals", "by_date", "by_week", "segments"]
        assert {name: one["value"] for name, one in figures["intervals"].items()} == figures["overall"]
    assert {name: trained("none").metrics[name] for name in ("calibration",)} == {"calibration": None}


def test_weeks_begin_on_monday_and_hold_all_rows() -> None:
    weeks = trained().metrics["algorithms"]["lightgbm"]["by_week"]
    assert [(week["week"], week["rows"]) for week in weeks] == [("2013-01-28", 300), ("2013-02-04", 900)]
    assert set(weeks[0]) == {"week", "rows", *trained().metrics["algorithms"]["lightgbm"]["overall"]}


def test_intervals_hold_their_value() -> None:
    intervals = trained().metrics["algorithms"]["lightgbm"]["intervals"]
    for name in ("log_loss", "brier", "roc_auc", "average_precision", "accuracy", "precision", "recall", "f1"):
        one = intervals[name]
        assert one["lower"] < one["value"] < one["upper"], name


def test_held_out_rows_are_kept_with_what_they_were_measured_by() -> None:
    final, held_out = trained(), trained().held_out
    assert held_out.columns == ["score_date", "carrier", "flight", "label", "_score", "_probability"]
    assert held_out.drop("_score", "_probability").equals(FLIGHTS.filter(LATE).select(held_out.columns[:4]))
    loss = log_loss(held_out["label"].cast(pl.Float64).to_numpy(), held_out["_probability"].to_numpy())
    assert loss == final.metrics["algorithms"]["lightgbm"]["overall"]["log_loss"]


def test_without_calibration_the_score_is_the_probability() -> None:
    held_out = trained("none").held_out
    assert held_out["_score"].equals(held_out["_probability"].alias("_score"))


def test_calibration_is_shown_before_and_after() -> None:
    found = trained().metrics["calibration"]
    assert {name: found[name] for name in ("method", "dates")} == {
        "method": "isotonic",
        "dates": {"first": "2013-01-25", "last": "2013-02-01", "dates": 8, "rows": 1200},
    }
    overall = trained().metrics["algorithms"]["lightgbm"]["overall"]
    assert found["after"] == {name: overall[name] for name in ("log_loss", "calibration_error")}
    assert found["before"] != found["after"]


def test_calibration_mends_scores_that_are_twice_too_high() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.45, 5000)
    labels = (rng.random(5000) < truth).astype(np.float64)
    found = measure_calibration(labels, Scored(2 * truth, truth))
    assert found["before"]["calibration_error"] > 0.2
    assert found["after"]["calibration_error"] < 0.03


def test_reliability_counts_every_held_out_row() -> None:
    bins = trained().metrics["reliability"]
    assert sum(one["rows"] for one in bins) == FLIGHTS.filter(LATE).height
    assert sum(one["rows"] * one["share"] for one in bins) == pytest.approx(FLIGHTS.filter(LATE)["label"].sum())
    assert [one["mean_probability"] for one in bins] == sorted(one["mean_probability"] for one in bins)


def test_fairness_is_measured_for_sensitive_columns_only() -> None:
    fairness = trained().metrics["fairness"]
    assert list(fairness) == ["carrier"]
    difference = fairness["carrier"][0]
    assert list(difference) == ["measure", "value", "lower", "upper", "worst", "best", "levels"]
    rates = {level: one["value"] for level, one in difference["levels"].items()}
    assert difference["measure"] == "selection_rate_difference"
    assert difference["value"] == pytest.approx(max(rates.values()) - min(rates.values()))
    assert sum(one["rows"] for one in difference["levels"].values()) == 1200


def test_the_groups_of_sensitive_columns_have_figures_of_their_own() -> None:
    groups, fairness = trained().metrics["groups"], trained().metrics["fairness"]
    assert list(groups) == ["carrier"]
    rates = {level: one["selection_rate"] for level, one in groups["carrier"].items()}
    levels = fairness["carrier"][0]["levels"]
    assert rates == {level: pytest.approx(one["value"]) for level, one in levels.items()}


FOUR = pl.DataFrame({
    "score_date": [date(2013, 1, 6)] * 2 + [date(2013, 1, 7)] * 2,
    "carrier": ["AA", None] * 2,
    "weekend": [True, True, False, False],
    "label": [1, 0, 0, 1],
})  # fmt: skip
SCORES = np.array([0.9, 0.8, 0.6, 0.7])
PROBABILITIES = np.array([0.5, 0.3, 0.3, 0.3])


def deciding(decision: dict[str, Any]) -> Pipeline:
    return make_pipeline(decision=decision)


def test_a_threshold_is_compared_with_the_probability_and_a_list_is_ranked_by_score() -> None:
    scored = Scored(SCORES, PROBABILITIES)
    threshold = deciding({"rule": {"type": "threshold", "value": 0.4}})
    first = deciding({"rule": {"type": "top_k", "k": 1}})
    assert decide_rows(FOUR, scored, threshold).tolist() == [True, False, False, False]
    assert decide_rows(FOUR, scored, first).tolist() == [True, False, False, True]
    assert dates_of(FOUR).tolist() == [0, 0, 1, 1]


def test_rows_without_a_level_are_a_segment() -> None:
    figures = evaluate(FOUR, Scored(SCORES, PROBABILITIES), deciding({"rule": {"type": "threshold", "value": 0.4}}))
    assert [(one["level"], one["rows"]) for one in figures["segments"]["carrier"]] == [(None, 2), ("AA", 2)]
    assert [(one["week"], one["rows"]) for one in figures["by_week"]] == [("2012-12-31", 2), ("2013-01-07", 2)]


def test_value_counts_false_alarms_and_misses() -> None:
    pipeline = deciding({"rule": {"type": "threshold", "value": 0.4}, "costs": COSTS})
    model = Scored(SCORES, np.array([0.9, 0.5, 0.1, 0.9]))  # one false alarm
    rule = Scored(SCORES, np.array([0.9, 0.1, 0.5, 0.1]))  # one false alarm, one miss
    constant = Scored(SCORES, np.full(4, 0.5))  # two false alarms
    worth = measure_worth(FOUR, {"lightgbm": model, "constant": constant, "rule": rule}, pipeline)
    assert worth is not None
    assert (worth["against"], worth["metric"], worth["gain"]["dates"]) == ("rule", "log_loss", 2)
    value = worth["value"]
    assert (value["unit"], value["model"], value["baseline"], value["gain"]["value"]) == ("EUR", -0.25, -1.0, 0.75)
    assert (value["gain"]["lower"], value["gain"]["upper"]) == (-0.5, 2.0)


def test_without_a_rule_the_best_baseline_is_beaten_or_not() -> None:
    pipeline = deciding({"rule": {"type": "threshold", "value": 0.4}})
    good, bad = Scored(SCORES, np.array([0.9, 0.1, 0.1, 0.9])), Scored(SCORES, np.full(4, 0.5))
    worth = measure_worth(FOUR, {"lightgbm": bad, "constant": bad, "linear": good}, pipeline)
    assert worth is not None
    assert (worth["against"], worth["value"]) == ("linear", None)
    assert worth["gain"]["gain"] < 0
    assert measure_worth(FOUR, {"lightgbm": bad}, pipeline) is None


def test_a_model_that_says_what_the_baseline_says_gains_nothing() -> None:
    pipeline = deciding({"rule": {"type": "threshold", "value": 0.4}, "costs": COSTS})
    constant = Scored(SCORES, np.full(4, 0.3))
    nearly = Scored(SCORES, 0.3 + np.arange(4) * 1e-16)
    worth = measure_worth(FOUR, {"lightgbm": nearly, "constant": constant}, pipeline)
    assert worth is not None
    assert [worth["gain"][name] for name in ("gain", "lower", "upper")] == [0.0, 0.0, 0.0]
    assert worth["value"]["gain"] == {"value": 0.0, "lower": 0.0, "upper": 0.0}


def told(gain: float | None, lower: float | None, upper: float | None, value: dict[str, Any] | None = None) -> str:
    evidence = {"gain": gain, "lower": lower, "upper": upper, "dates": 14}
    return worth_line({"worth": {"against": "rule", "metric": "log_loss", "gain": evidence, "value": value}})


def test_the_worth_is_told_in_one_sentence() -> None:
    value = {"unit": "EUR", "gain": {"value": 0.083, "lower": 0.06, "upper": 0.1}}
    assert told(0.066, 0.06, 0.072, value) == (
        "It is worth a model: 6.6% less log loss than the rule baseline (gain between 6.0% and 7.2%), "
        "and +0.083 EUR of value per decision (between 0.06 and 0.1)."
    )
    assert told(0.01, -0.01, 0.03) == (
        "It is not shown to be worth a model: 1.0% less log loss than the rule baseline (gain between -1.0% and 3.0%)."
    )
    assert told(-0.1, -0.2, -0.05).startswith("It is not worth a model: 10.0% more log loss than the rule baseline")
    assert told(0.1, None, None) == (
        "Not enough evidence whether it is worth a model: 14 held-out dates against the rule baseline."
    )
    assert worth_line({"worth": None}).endswith("there is no baseline to compare it with.")
    assert worth_line({}) == worth_line({"worth": None})
    assert worth_line(trained().metrics).startswith("It is not shown to be worth a model: 2.8% less log loss than")


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_learning_curve_ends_where_the_model_is(task: str) -> None:
    frame = make_flights(task=task)
    section = training_section(algorithm={**LIGHTGBM, "trees": 130}, baselines=[])
    final = train(frame, make_pipeline(task=task, training=section))
    curve, overall = final.metrics["curve"], final.metrics["algorithms"]["lightgbm"]["overall"]
    loss = "log_loss" if task == "binary" else "rmse"
    assert (curve["metric"], curve["iterations"][0], curve["iterations"][-1]) == (loss, 1, 130)
    assert [len(curve[name]) for name in ("iterations", "fit", "held_out")] == [100] * 3
    assert curve["held_out"][-1] == pytest.approx(overall[loss], rel=1e-9)
    assert curve["fit"][-1] < curve["fit"][0]


def test_reading_a_learning_curve_changes_no_byte_of_the_model() -> None:
    final = trained("none")
    assert isinstance(final.model, LightGbmModel)
    examples = Examples(
        encode(FLIGHTS.select(final.encoding.names), final.encoding),
        FLIGHTS["label"].cast(pl.Float64).to_numpy(),
        final.encoding,
    )
    before = final.model.booster.model_to_string()
    curve = learning_curve(final.model, examples, examples, "binary")
    assert curve["fit"][-1] == pytest.approx(log_loss(examples.labels, final.model.predict(examples.matrix)), rel=1e-12)
    assert final.model.booster.model_to_string() == before


def test_a_rule_can_be_the_algorithm_and_regression_has_a_worth_too() -> None:
    rule = {"type": "rule", "score": "hour * 1.5"}
    pipeline = make_pipeline(task="regression", training=training_section(algorithm=rule, baselines=[CONSTANT]))
    frame = make_flights(task="regression")
    final = train(frame, pipeline)
    metrics, late = final.metrics, frame.filter(LATE)
    expected = rmse(late["label"].to_numpy(), (late["hour"] * 1.5).to_numpy())
    assert metrics["algorithms"]["rule"]["overall"]["rmse"] == pytest.approx(expected, rel=1e-12)
    assert (metrics["worth"]["against"], metrics["worth"]["metric"]) == ("constant", "mse")
    assert (metrics["curve"], metrics["reliability"], metrics["fairness"]) == (None, None, {})
    assert final.model.to_bytes().startswith(b'{"mean": ')
