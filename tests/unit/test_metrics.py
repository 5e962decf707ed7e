"""Metrics equal scikit-learn's, and say None where they mean nothing."""

import numpy as np
import pytest

from nightscore.measures import metrics

NONE = np.empty(0)
NONE_DECIDED = np.empty(0, dtype=np.bool_)


def scored(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(3000), decimals)
    return (rng.random(3000) < scores).astype(float), scores, scores >= 0.35


@pytest.mark.parametrize(("seed", "decimals"), [(1, 17), (2, 2), (3, 1), (4, 0)])
def test_binary_metrics_equal_scikit_learn(seed: int, decimals: int) -> None:
    from sklearn import metrics as sk

    labels, scores, decided = scored(seed, decimals)
    found = metrics.binary_metrics(labels, scores, decided)
    expected = {
        "log_loss": sk.log_loss(labels, scores),
        "brier": sk.brier_score_loss(labels, scores),
        "roc_auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "accuracy": sk.accuracy_score(labels, decided),
        "precision": sk.precision_score(labels, decided),
        "recall": sk.recall_score(labels, decided),
        "f1": sk.f1_score(labels, decided),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12, rel=0)


def test_regression_metrics_equal_scikit_learn() -> None:
    from sklearn import metrics as sk

    rng = np.random.default_rng(5)
    labels = rng.normal(size=2000)
    predictions = labels + rng.normal(size=2000)
    expected = {
        "rmse": sk.root_mean_squared_error(labels, predictions),
        "mae": sk.mean_absolute_error(labels, predictions),
        "r2": sk.r2_score(labels, predictions),
        "mean_bias": float(np.mean(predictions) - np.mean(labels)),
    }
    assert metrics.regression_metrics(labels, predictions) == pytest.approx(expected, abs=1e-12, rel=0)


def test_no_rows_have_no_metrics() -> None:
    assert set(metrics.binary_metrics(NONE, NONE, NONE_DECIDED).values()) == {None}
    assert set(metrics.regression_metrics(NONE, NONE).values()) == {None}


def test_one_class_only_leaves_what_still_has_a_meaning() -> None:
    found = metrics.binary_metrics(np.zeros(4), np.array([0.0, 0.5, 0.5, 0.0]), np.zeros(4, dtype=np.bool_))
    undefined = {name for name, value in found.items() if value is None}
    assert undefined == {"roc_auc", "average_precision", "precision", "recall", "f1"}
    assert found["brier"] == 0.125
    assert found["accuracy"] == 1.0


def test_labels_that_do_not_vary_have_no_r2() -> None:
    assert metrics.r2(np.ones(5), np.zeros(5)) is None


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], 0.0),
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 1] * 10, [0.25, 0.75] * 10, 0.25),
    ],
)
def test_calibration_error_keeps_equal_scores_in_one_bin(
    labels: list[float], scores: list[float], expected: float
) -> None:
    assert metrics.calibration_error(np.array(labels, dtype=float), np.array(scores)) == pytest.approx(expected)


def test_calibration_bins_hold_equal_counts_of_distinct_scores() -> None:
    scores = (np.arange(100) + 0.5) / 100
    labels = np.arange(100) % 2.0
    means = np.abs((labels - scores).reshape(10, 10).mean(axis=1)).mean()
    assert metrics.calibration_error(labels, scores) == pytest.approx(means, abs=1e-12)
    order = np.random.default_rng(0).permutation(100)
    assert metrics.calibration_error(labels[order], scores[order]) == pytest.approx(means, abs=1e-12)
