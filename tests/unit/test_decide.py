"""Ranks, deciles, decisions and reasons; rules that cannot work are refused before scoring."""

from datetime import date
from typing import Any

import polars as pl
import pytest

from nightscore.errors import SpecError
from nightscore.scoring.decide import check_decision, check_rules
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import BusinessRule
from tests.unit.decided import decide
from tests.unit.synthetic_flights import make_pipeline

NIGHT = pl.DataFrame({
    "score_date": [date(2013, 4, 1)] * 5,
    "carrier": ["UA", "AA", "AA", "B6", "DL"],
    "flight": [1, 9, 2, 3, 4],
    "hour": [6, 23, None, 23, 12],
    "score": [0.2, 0.5, 0.5, 0.3, 0.9],
    "probability": [0.2, 0.5, 0.5, 0.3, 0.9],
})  # fmt: skip


def rules(rule: dict[str, Any], *business: dict[str, Any], task: str = "binary") -> Pipeline:
    return make_pipeline(task=task, decision={"rule": rule, "business_rules": business})


THRESHOLD = {"type": "threshold", "value": 0.5}
TOP_2 = {"type": "top_k", "k": 2}
LATE = {"name": "late_hours", "when": "hour >= 22 AND score >= 0.30", "decision": True}
NEVER_AA = {"name": "never_aa", "when": "carrier = 'AA'", "decision": False}


def test_a_night_is_ranked_decided_and_sorted_by_key() -> None:
    assert decide(NIGHT, rules(THRESHOLD, LATE)).drop("score_date", "hour").rows() == [
        ("AA", 2, 0.5, 0.5, True, "threshold", 2, 4),
        ("AA", 9, 0.5, 0.5, True, "late_hours", 3, 6),
        ("B6", 3, 0.3, 0.3, True, "late_hours", 4, 8),
        ("DL", 4, 0.9, 0.9, True, "threshold", 1, 2),
        ("UA", 1, 0.2, 0.2, False, "threshold", 5, 10),
    ]


def test_the_order_of_rows_does_not_matter() -> None:
    pipeline = rules(TOP_2, LATE)
    assert decide(NIGHT.sample(fraction=1, shuffle=True, seed=3), pipeline).equals(decide(NIGHT, pipeline))


def test_ties_at_the_edge_of_the_top_go_to_the_smaller_key() -> None:
    chosen = decide(NIGHT, rules(TOP_2)).filter("decision").select("carrier", "flight", "decision_reason")
    assert chosen.rows() == [("AA", 2, "top_k"), ("DL", 4, "top_k")]


def test_the_last_rule_that_holds_wins() -> None:
    decided = decide(NIGHT, rules(THRESHOLD, LATE, NEVER_AA)).filter(carrier="AA")
    assert decided.select("decision", "decision_reason").rows() == [(False, "never_aa")] * 2


def test_a_condition_that_is_null_does_not_hold() -> None:
    decided = decide(NIGHT, rules(THRESHOLD, {**LATE, "when": "hour >= 0"})).filter(pl.col("hour").is_null())
    assert decided["decision_reason"].to_list() == ["threshold"]


def test_deciles_hold_equal_shares() -> None:
    frame = pl.DataFrame({"flight": range(200)}).with_columns(
        score_date=date(2013, 4, 1),
        carrier=pl.lit("AA"),
        score=pl.col("flight") / 200,
        probability=pl.lit(None, pl.Float64),
    )
    decided = decide(frame, rules(THRESHOLD))
    assert decided["decile"].value_counts().sort("decile").rows() == [(at, 20) for at in range(1, 11)]
    assert decided.filter(flight=199)["decile"].to_list() == [1]
    assert sorted(decided["rank"]) == list(range(1, 201))


def test_each_score_date_is_ranked_by_itself() -> None:
    two = pl.concat([NIGHT, NIGHT.with_columns(score_date=date(2013, 4, 2))])
    alone = decide(NIGHT, rules(TOP_2))
    assert decide(two, rules(TOP_2)).filter(score_date=date(2013, 4, 1)).equals(alone)


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize("rule", [THRESHOLD, {"type": "top_k", "k": 5}])
def test_a_missing_score_comes_last_and_is_never_chosen(missing: float | None, rule: dict[str, Any]) -> None:
    score = pl.when(pl.col("carrier") == "DL").then(missing).otherwise("score")
    frame = NIGHT.with_columns(score=score, probability=score)
    decided = decide(frame, rules(rule)).filter(carrier="DL")
    assert decided.select("decision", "rank").rows() == [(False, 5)]


def test_an_empty_night_keeps_its_columns() -> None:
    assert decide(NIGHT.clear(), rules(THRESHOLD, LATE)).schema == decide(NIGHT, rules(THRESHOLD, LATE)).schema


CALIBRATED = NIGHT.with_columns(probability=pl.Series([0.1, 0.6, 0.4, 0.4, 0.7]))


def test_a_threshold_is_compared_with_the_calibrated_probability() -> None:
    decided = decide(CALIBRATED, rules(THRESHOLD)).select("carrier", "flight", "decision")
    assert decided.filter("decision").drop("decision").rows() == [("AA", 9), ("DL", 4)]


def test_equal_probabilities_are_ranked_by_score() -> None:
    """As an isotonic calibration makes them; two versions of a rollout are ranked by what both mean alike."""
    ranked = decide(CALIBRATED, rules(THRESHOLD)).sort("rank").select("carrier", "flight")
    assert ranked.rows() == [("DL", 4), ("AA", 9), ("AA", 2), ("B6", 3), ("UA", 1)]


def test_without_a_probability_the_score_decides() -> None:
    regression = decide(NIGHT.with_columns(probability=pl.lit(None, pl.Float64)), rules(THRESHOLD, task="regression"))
    assert regression.drop("probability").equals(decide(NIGHT, rules(THRESHOLD)).drop("probability"))


def test_every_rule_that_cannot_work_is_named() -> None:
    whens = ["hours > 3", "hour >", "hour + 1", "carrier > hour"]
    broken = [{"name": f"rule_{at}", "when": when, "decision": True} for at, when in enumerate(whens)]
    with pytest.raises(SpecError) as failure:
        check_rules(rules(THRESHOLD, *broken), NIGHT.drop("score", "probability").schema)
    starts = ["rule_0 (hours > 3) names hours", "rule_1 (hour >) is not valid", "rule_2 (hour + 1) gives Int64",
              "rule_3 (carrier > hour) is not valid"]  # fmt: skip
    assert [reason.startswith(f"business rule {start}") for reason, start in
            zip(failure.value.found, starts, strict=True)] == [True] * 4  # fmt: skip


def test_a_column_that_the_decision_makes_cannot_be_a_feature() -> None:
    with pytest.raises(SpecError, match="column rank is made by the decision"):
        decide(NIGHT.with_columns(rank=1), rules(THRESHOLD))


@pytest.mark.parametrize(
    ("when", "found"),
    [("no_such_column > 1", "names no_such_column"), ("score +", "is not valid"), ("score + 1", "gives Float64")],
)
def test_a_rule_that_cannot_work_is_found_with_the_spec(when: str, found: str) -> None:
    flights = load_spec(Settings().pipelines_path / "flight_delay.yaml")
    rule = BusinessRule(name="broken", when=when, decision=True)
    decision = flights.decision.model_copy(update={"business_rules": (rule,)})
    with pytest.raises(SpecError, match=found):
        check_decision(flights.model_copy(update={"decision": decision}))
