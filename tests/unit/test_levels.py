"""Each figure of a night against its threshold, level by level; the message names the column and both numbers."""

from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from nightscore.spec.monitoring import Monitoring
from nightscore.watch.evidence import (
    Chart,
    ColumnNight,
    ColumnWeek,
    DomainClassifier,
    Freshness,
    MatureOutcomes,
    NightEvidence,
    Residual,
    Swap,
)
from nightscore.watch.levels import CusumState, advance_cusum, judge

MONDAY = date(2024, 3, 4)
SPEC = Monitoring()


def night(**figures: Any) -> NightEvidence:
    clean = {"pipeline": "visits", "score_date": MONDAY, "reference": "visits@3", "rows": 1000}
    return NightEvidence.model_validate({**clean, **figures})


def column(**figures: Any) -> dict[str, Any]:
    return {"columns": (ColumnNight(name="age", **figures),)}


def shown(**figures: Any) -> list[tuple[str, str]]:
    return [(one.level, one.cause) for one in judge(night(**figures), SPEC, CusumState()).shown]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"schema_findings": ("age is text",)}, [("L1", "schema")]),
        ({"duplicate_keys": 1}, [("L1", "duplicate_keys")]),
        ({"scores_not_finite": 1}, [("L1", "scores:not_finite")]),
        ({"differing_bits": 1}, [("L2", "kernel:bits")]),
        ({"scores_constant": True}, [("L1", "scores:constant")]),
        ({"scores_constant": True, "rows": 19}, []),
        ({"rows": 749, "rows_min": 1000, "rows_max": 1000}, [("L1", "rows:low")]),
        ({"rows": 750, "rows_min": 1000, "rows_max": 1000}, []),
        ({"rows": 1330, "rows_min": 1000, "rows_max": 1000}, []),
        ({"rows": 1331, "rows_min": 1000, "rows_max": 1000}, [("L1", "rows:high")]),
        ({"rows": 0, "rows_min": 16, "rows_max": 1000}, []),
        ({"rows": 0, "rows_min": 17, "rows_max": 1000}, [("L1", "rows:low")]),
        ({"rows": 59, "rows_min": 100, "rows_max": 100}, [("L1", "rows:low")]),
        ({"rows": 60, "rows_min": 100, "rows_max": 100}, []),
        ({"rows": 140, "rows_min": 100, "rows_max": 100}, []),
        ({"rows": 141, "rows_min": 100, "rows_max": 100}, [("L1", "rows:high")]),
        ({"rows": 0, "rows_min": 0, "rows_max": 0}, []),
        ({"rows": 4, "rows_min": 0, "rows_max": 0}, []),
        ({"rows": 5, "rows_min": 0, "rows_max": 0}, [("L1", "rows:high")]),
        (column(null_rate=0.051), [("L1", "nulls:age")]),
        (column(null_rate=0.05), []),
        (column(null_rate=0.3, reference_null_rate=0.25), []),
        (column(null_rate=0.0, reference_null_rate=0.2), [("L1", "nulls:age")]),
        (column(null_rate=0.2, null_deviation_q95=0.11), []),
        (column(null_rate=0.23, null_deviation_q95=0.11), [("L1", "nulls:age")]),
        (column(unseen_share=0.011), [("L1", "unseen:age")]),
        (column(unseen_share=0.01), []),
        (column(out_of_range_share=0.02), [("L1", "range:age")]),
        ({**column(unseen_share=2 / 30, out_of_range_share=2 / 30, null_rate=2 / 30), "rows": 30}, []),
        ({**column(unseen_share=3 / 30), "rows": 30}, [("L1", "unseen:age")]),
        ({"freshness": (Freshness(name="history", age_days=2, limit_days=1),)}, [("L1", "freshness:history")]),
        ({"freshness": (Freshness(name="history", age_days=1, limit_days=1),)}, []),
        (
            {"freshness": (Freshness(name="sales", age_days=2, limit_days=1, kind="label"),)},
            [("L2", "labels:sales")],
        ),
        (column(psi=0.25), [("L2", "psi_day:age")]),
        (column(psi=0.2499), []),
        (column(psi=0.29, psi_q99=0.2), []),
        (column(psi=0.31, psi_q99=0.2), [("L2", "psi_day:age")]),
        ({**column(psi=5.0), "rows": 19}, []),
        (column(psi=9.0, chart=Chart(value=3.0, low=1.0, high=3.0)), []),
        (column(chart=Chart(value=3.1, low=1.0, high=3.0)), [("L2", "chart:age")]),
        (column(chart=Chart(value=0.9, low=1.0, high=3.0)), [("L2", "chart:age")]),
        (column(chart=Chart(value=2.0, low=2.0, high=2.0)), []),
        (column(chart=Chart(value=2.1, low=2.0, high=2.0)), [("L2", "chart:age")]),
        ({"week": (ColumnWeek(name="age", psi=0.2),)}, [("L3", "psi_week:age")]),
        ({"week": (ColumnWeek(name="age", psi=0.19),)}, []),
        ({"week": (ColumnWeek(name="score", psi=0.1),)}, [("L3", "psi_week:score")]),
        ({"week": (ColumnWeek(name="age", psi=0.12, psi_q99=0.1),)}, []),
        ({"domain": DomainClassifier(auc=0.7, threshold=0.6, columns=("code", "age"))}, [("L3", "domain")]),
        ({"domain": DomainClassifier(auc=0.59, threshold=0.6, columns=("code",))}, []),
        ({"swaps": (Swap(name="code", pairs=(("a", "b"),)), Swap(name="city"))}, [("L3", "swap:code")]),
        (column(), []),
    ],
)
def test_a_cause_shows_beyond_its_threshold(figures: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert shown(**figures) == expected


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (
            {"rows": 400, "rows_min": 1000},
            "400 rows, and at least 750 are normal (fewest on a Monday: 1000)",
        ),
        (
            column(null_rate=0.4, reference_null_rate=0.02),
            "age: 40 % of the rows are null, 2 % in the reference; a change of 38 points, and at most 5 is normal",
        ),
        (
            column(unseen_share=0.174),
            "age: 17.4 % of the rows hold a level that the reference never saw, and at most 1 % is normal",
        ),
        (
            column(out_of_range_share=0.5),
            "age: 50 % of the rows lie outside the reference's range, and at most 1 % is normal",
        ),
        (
            {"freshness": (Freshness(name="history", age_days=4, limit_days=1),)},
            "history is 4 days old, and at most 1 is normal",
        ),
        (
            column(psi=0.4, psi_q99=0.2),
            "age: PSI 0.400 tonight against Mondays of the reference, and below 0.300 is normal",
        ),
        (
            column(chart=Chart(value=3.14159, low=1.0, high=3.0)),
            "age: its daily value is 3.142, and 1 to 3 is normal",
        ),
        (
            {"domain": DomainClassifier(auc=0.7, threshold=0.6, columns=("code", "age"), detail="B6 and DL swapped")},
            "a classifier tells the trailing 7 days from the reference with AUC 0.700, and below 0.600 is normal; by "
            "code, age; B6 and DL swapped",
        ),
        (
            {"swaps": (Swap(name="code", pairs=(("a", "b"), ("c", "d"))),)},
            "code: the rows of a and b, c and d look like each other's rows of the reference: were codes swapped?",
        ),
    ],
)
def test_the_message_names_the_column_and_both_numbers(figures: dict[str, Any], message: str) -> None:
    assert [one.message for one in judge(night(**figures), SPEC, CusumState()).shown] == [message]


@pytest.mark.parametrize(
    ("figures", "at_once"),
    [
        (column(psi=0.749), False),
        (column(psi=0.75), True),
        (column(psi=0.89, psi_q99=0.2), False),
        (column(psi=0.91, psi_q99=0.2), True),
        (column(chart=Chart(value=99.0, low=1.0, high=3.0)), False),
        ({"week": (ColumnWeek(name="age", psi=9.0),)}, False),
        ({"swaps": (Swap(name="code", pairs=(("a", "b"),)),)}, True),
    ],
)
def test_only_a_loud_night_or_swapped_codes_need_no_second_night(figures: dict[str, Any], at_once: bool) -> None:
    assert [one.at_once for one in judge(night(**figures), SPEC, CusumState()).shown] == [at_once]


def test_the_ratio_is_one_at_the_threshold_and_stays_finite() -> None:
    figures = {**column(psi=0.125, chart=None, null_rate=0.025, unseen_share=0.005), "rows_min": 1000, "rows": 0}
    found = {one.cause: one.ratio for one in judge(night(**{**figures, "rows": 1500}), SPEC, CusumState()).signals}
    assert found["rows:low"] == 0.5
    assert (found["psi_day:age"], found["nulls:age"], found["unseen:age"]) == (0.5, 0.5, 0.5)
    nothing = judge(night(rows=0, rows_min=1000), SPEC, CusumState()).shown
    assert [(one.cause, one.ratio) for one in nothing] == [("rows:low", 1000.0)]
    half = judge(night(domain=DomainClassifier(auc=0.55, threshold=0.6)), SPEC, CusumState()).signals
    assert [one.ratio for one in half if one.cause == "domain"] == [pytest.approx(0.5)]


def test_evidence_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        night(**column(psi=float("inf")))


def outcomes(means: list[float], **figures: Any) -> MatureOutcomes:
    days = [Residual(day=MONDAY + timedelta(days=at), mean=mean) for at, mean in enumerate(means)]
    usual: dict[str, Any] = {"residual_sd": 0.02, "days": 14, "positives": 900}
    return MatureOutcomes.model_validate({"residuals": tuple(days), **usual, **figures})


def test_the_sum_follows_the_empirical_spread_of_days() -> None:
    state = advance_cusum(CusumState(), outcomes([0.04, 0.04, -0.02]), SPEC.outcomes)
    assert (state.above, state.below, state.top_above, state.day) == (1.5, 0.5, 3.0, MONDAY + timedelta(days=2))
    assert state.recent == (2.0, 2.0, -1.0)


def test_a_day_counts_once_and_a_night_without_new_days_measures_nothing() -> None:
    once = advance_cusum(CusumState(), outcomes([0.04, 0.04]), SPEC.outcomes)
    again = advance_cusum(once, outcomes([0.04, 0.04]), SPEC.outcomes)
    assert again == once.model_copy(update={"top_above": None, "top_below": None})
    assert judge(night(outcomes=outcomes([0.04, 0.04])), SPEC, again).signals == judge(night(), SPEC, again).signals
    assert advance_cusum(once, outcomes([0.04, 0.04, 0.0]), SPEC.outcomes).above == 2.5


def test_outcomes_show_beyond_the_limit_with_the_champion_beside_the_constant() -> None:
    losses = {"champion_loss": 0.56, "held_out_loss": 0.52, "constant_loss": 0.55}
    evidence = outcomes([0.04, 0.04, 0.04, 0.04], **losses)
    state = advance_cusum(CusumState(), evidence, SPEC.outcomes)
    found = judge(night(outcomes=evidence), SPEC, state).shown
    assert [(one.level, one.cause, one.value, one.threshold) for one in found] == [("L4", "outcomes:above", 6.0, 5.0)]
    assert found[0].message == (
        "outcomes lie above the predictions: their CUSUM is 6 standard deviations, and at most 5 is normal; "
        "log loss over 14 mature days: 0.5600, 0.5200 held out, 0.5500 of the constant"
    )


@pytest.mark.parametrize(
    ("figures", "notes"),
    [
        ({"days": 9}, ("L4: not enough evidence: 9 mature days, 10 are needed",)),
        ({"positives": 99}, ("L4: not enough evidence: 99 positives, 100 are needed",)),
        ({"positives": None}, ()),
        ({"residual_sd": None}, ("L4: not enough evidence: the reference gives no spread of daily residuals",)),
        ({"residual_sd": 0.0}, ("L4: not enough evidence: the reference gives no spread of daily residuals",)),
    ],
)
def test_too_little_evidence_says_so_and_counts_for_nothing(figures: dict[str, Any], notes: tuple[str, ...]) -> None:
    evidence = outcomes([1.0] * 3, **figures)
    state = advance_cusum(CusumState(), evidence, SPEC.outcomes)
    found = judge(night(outcomes=evidence), SPEC, state)
    assert found.notes == notes
    assert bool(found.shown) is not bool(notes)
    assert (state.above > 0) is not bool(notes)
    assert state.day == MONDAY + timedelta(days=2)


def test_labels_that_never_come_are_no_alarm() -> None:
    found = judge(night(), SPEC, CusumState())
    assert (found.shown, found.notes) == ((), ("L4: not enough evidence: no outcomes are mature",))
