"""Disparities equal fairlearn's, and their intervals come from dates."""

import numpy as np
import pytest

from nightscore.measures import metrics
from nightscore.measures.fairness import MEASURES, Disparity, disparities, metrics_by_level

CARRIERS = np.array(["AA", "B6", "UA"], dtype=object)


def judged_rows(seed: int, rows: int = 6000, bias: float = 0.0) -> tuple[np.ndarray, ...]:
    """Three levels on 20 dates; UA is decided on with `bias` more of its rows."""
    rng = np.random.default_rng(seed)
    levels = CARRIERS[rng.integers(0, 3, rows)]
    labels = (rng.random(rows) < 0.3).astype(float)
    scores = np.clip(0.3 * labels + 0.5 * rng.random(rows) + bias * (levels == "UA"), 0, 1)
    return labels, scores, scores >= 0.45, levels, rng.integers(0, 20, rows)


def of(found: list[Disparity], measure: str) -> Disparity:
    return next(one for one in found if one.measure == measure)


def test_disparities_equal_fairlearns() -> None:
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score

    labels, _, decided, levels, groups = judged_rows(1, bias=0.1)
    rates = {
        "selection_rate": selection_rate,
        "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate,
        "accuracy": accuracy_score,
    }
    frame = MetricFrame(metrics=rates, y_true=labels, y_pred=decided.astype(float), sensitive_features=levels)
    found = disparities("carrier", labels, decided, levels, groups)
    assert tuple(one.measure for one in found) == MEASURES
    for name in rates:
        disparity = of(found, f"{name}_difference")
        assert disparity.value == pytest.approx(frame.difference()[name], abs=1e-12)
        rate_by_level = {level: row["value"] for level, row in disparity.levels.items()}
        assert rate_by_level == pytest.approx(frame.by_group[name].to_dict(), abs=1e-12)
    assert of(found, "selection_rate_ratio").value == pytest.approx(frame.ratio()["selection_rate"], abs=1e-12)


def test_a_treated_level_is_named_and_credibly_different() -> None:
    labels, _, decided, levels, groups = judged_rows(2, bias=0.1)
    found = disparities("carrier", labels, decided, levels, groups)
    assert [one.measure for one in found if not one.lower <= one.value <= one.upper] == []
    assert of(found, "selection_rate_difference").best == "UA"
    assert of(found, "false_positive_rate_difference").worst == "UA"
    assert of(found, "selection_rate_difference").lower > 0.1
    assert of(found, "selection_rate_ratio").upper < 0.8


def test_equal_treatment_of_two_levels_is_mostly_within_the_interval() -> None:
    covered = 0
    for seed in range(100):
        labels, _, decided, levels, groups = judged_rows(seed, rows=2000)
        two = levels != "UA"
        found = disparities("carrier", labels[two], decided[two], levels[two], groups[two], seed=seed)
        covered += of(found, "selection_rate_difference").lower <= 0
    assert covered >= 80


def test_a_rare_level_is_listed_but_not_judged() -> None:
    labels, _, decided, levels, groups = judged_rows(3)
    levels[:100] = "ZZ"
    decided[:100] = True
    found = of(disparities("carrier", labels, decided, levels, groups), "selection_rate_difference")
    assert found.levels["ZZ"] == {"rows": 100, "value": 1.0}
    assert "ZZ" not in {found.worst, found.best}
    strict = disparities("carrier", labels, decided, levels, groups, min_share=0.01)
    assert of(strict, "selection_rate_difference").best == "ZZ"


def test_one_judged_level_has_no_disparity() -> None:
    decided = np.array([True, False] * 10)
    found = disparities("sex", decided.astype(float), decided, np.full(20, "F", object), np.arange(20) % 4)
    rates = {"selection_rate": 0.5, "true_positive_rate": 1.0, "false_positive_rate": 0.0, "accuracy": 1.0}
    assert [one.as_json() for one in found] == [
        {
            "column": "sex",
            "measure": measure,
            "value": None,
            "lower": None,
            "upper": None,
            "worst": None,
            "best": None,
            "levels": {"F": {"rows": 20, "value": rates[measure.rsplit("_", 1)[0]]}},
        }
        for measure in MEASURES
    ]


def test_what_is_undefined_is_none() -> None:
    levels = np.array(["a"] * 10 + ["b"] * 10, dtype=object)
    nobody = np.zeros(20, np.bool_)
    found = disparities("x", np.zeros(20), nobody, levels, np.arange(20) % 5)
    assert {one.measure: one.value for one in found} == {
        "selection_rate_difference": 0.0,
        "selection_rate_ratio": None,
        "true_positive_rate_difference": None,
        "false_positive_rate_difference": 0.0,
        "accuracy_difference": 0.0,
    }


def test_one_date_has_values_without_bounds_and_no_rows_have_nothing() -> None:
    labels, _, decided, levels, _ = judged_rows(4, rows=300)
    found = disparities("carrier", labels, decided, levels, np.zeros(300, np.int64))
    assert None not in {one.value for one in found}
    assert {(one.lower, one.upper) for one in found} == {(None, None)}
    none = np.empty(0)
    empty = disparities("carrier", none, none.astype(bool), none.astype(object), none.astype(int))
    assert {(one.value, len(one.levels)) for one in empty} == {(None, 0)}
    assert metrics_by_level(none, none, none.astype(bool), none.astype(object)) == {}


def test_the_order_of_rows_does_not_show() -> None:
    rows = judged_rows(5)
    order = np.random.default_rng(0).permutation(6000)
    labels, _, decided, levels, groups = rows
    mixed_labels, _, mixed_decided, mixed_levels, mixed_groups = (column[order] for column in rows)
    assert disparities("c", mixed_labels, mixed_decided, mixed_levels, mixed_groups) == disparities(
        "c", labels, decided, levels, groups
    )


def test_metrics_by_level_are_those_of_the_levels_rows() -> None:
    labels, scores, decided, levels, _ = judged_rows(6)
    found = metrics_by_level(labels, scores, decided, levels)
    assert list(found) == CARRIERS.tolist()
    for level, figures in found.items():
        rows = levels == level
        expected = metrics.binary_metrics(labels[rows], scores[rows], decided[rows])
        names = ("log_loss", "brier", "accuracy", "precision", "recall")
        assert figures == pytest.approx(
            {"rows": rows.sum(), "selection_rate": decided[rows].mean(), **{name: expected[name] for name in names}}
        )


def test_metrics_of_a_level_that_mean_nothing_are_none() -> None:
    levels = np.array(["a", "a", "b"], dtype=object)
    found = metrics_by_level(np.array([1.0, 0.0, 0.0]), np.full(3, 0.5), np.array([True, False, False]), levels)
    undefined = {level: {name for name, value in row.items() if value is None} for level, row in found.items()}
    assert undefined == {"a": set(), "b": {"precision", "recall"}}
