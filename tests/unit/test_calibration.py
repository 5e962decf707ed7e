"""Calibrators are monotone, depend on a row's score alone, and survive JSON exactly."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures.calibration import NO_CALIBRATION, Calibrator, fit_calibrator, reliability
from nightscore.measures.metrics import log_loss

FITTED = ["isotonic", "sigmoid"]


def overconfident(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logit is twice the true one, and one unit too high."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    return 1 / (1 + np.exp(-(2 * logit + 1))), labels


@pytest.mark.parametrize("method", FITTED)
def test_calibration_lowers_the_loss_of_scores_it_was_not_fitted_on(method: str) -> None:
    calibrator = fit_calibrator(method, *overconfident(1, 5000))
    scores, labels = overconfident(2, 5000)
    assert log_loss(labels, calibrator.apply(scores)) < log_loss(labels, scores) - 0.05


def test_the_sigmoid_finds_the_slope_and_intercept_that_the_scores_are_off_by() -> None:
    slope, intercept = fit_calibrator("sigmoid", *overconfident(3, 50_000)).x
    assert (slope, intercept) == (pytest.approx(0.5, abs=0.02), pytest.approx(-0.5, abs=0.05))


def test_the_sigmoid_equals_scikit_learns_on_the_logit() -> None:
    from sklearn.calibration import _sigmoid_calibration

    scores, labels = overconfident(4, 2000)
    slope, intercept = _sigmoid_calibration(np.log(scores / (1 - scores)), labels)
    assert fit_calibrator("sigmoid", scores, labels).x == pytest.approx((-slope, -intercept), abs=1e-4)


def test_isotonic_equals_scikit_learns() -> None:
    from sklearn.isotonic import IsotonicRegression

    scores, labels = overconfident(5, 3000)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    fresh, _ = overconfident(6, 3000)
    found = fit_calibrator("isotonic", scores, labels).apply(fresh)
    assert found == pytest.approx(expected.predict(fresh), abs=1e-12)


@pytest.mark.parametrize("method", ["none", *FITTED])
def test_a_probability_depends_on_its_own_score_alone(method: str) -> None:
    scores, labels = overconfident(7, 10_007)
    scores[:6] = [0.0, 1.0, 5e-324, 0.5, 1 - 2**-53, 1e-13]
    calibrator = fit_calibrator(method, scores, labels)
    whole = calibrator.apply(scores)
    for chunk in (1, 7, 1000):
        parts = [calibrator.apply(scores[start : start + chunk]) for start in range(0, len(scores), chunk)]
        assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(calibrator.apply(scores[::-1]), whole[::-1])
    assert np.array_equal(calibrator.apply(np.ascontiguousarray(scores[::-1])), whole[::-1])
    assert np.array_equal(calibrator.apply(np.column_stack([scores, scores])[:, 1]), whole)
    shifted = np.frombuffer(b"x" + scores.tobytes(), np.float64, offset=1)
    assert np.array_equal(calibrator.apply(shifted), whole)


@pytest.mark.parametrize("method", FITTED)
def test_probabilities_are_within_0_and_1_and_keep_the_order_of_scores(method: str) -> None:
    calibrator = fit_calibrator(method, *overconfident(8, 3000))
    found = calibrator.apply(np.linspace(0, 1, 10_001))
    assert (np.diff(found) >= 0).all()
    assert 0 <= found[0] < found[-1] <= 1
    assert np.isnan(calibrator.apply(np.array([np.nan]))).all()


@pytest.mark.parametrize("method", FITTED)
def test_the_order_of_rows_does_not_show_in_the_fit(method: str) -> None:
    scores, labels = overconfident(9, 3000)
    scores = np.round(scores, 2)
    order = np.random.default_rng(0).permutation(3000)
    assert fit_calibrator(method, scores, labels) == fit_calibrator(method, scores[order], labels[order])


@pytest.mark.parametrize("method", ["none", *FITTED])
def test_json_keeps_a_calibrator_exactly(method: str) -> None:
    calibrator = fit_calibrator(method, *overconfident(10, 500))
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.as_json()))) == calibrator


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.sampled_from(FITTED))
def test_any_rows_give_a_valid_calibrator(rows: list[tuple[float, bool]], method: str) -> None:
    scores, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    calibrator = fit_calibrator(method, scores, labels)
    assert Calibrator.from_json(calibrator.as_json()) == calibrator
    found = calibrator.apply(np.sort(scores))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_scores_that_point_the_wrong_way_become_the_smoothed_share() -> None:
    labels = np.array([1.0] * 30 + [0.0] * 70)
    found = fit_calibrator("sigmoid", np.where(labels == 1, 0.2, 0.8), labels)
    target = 0.3 * 31 / 32 + 0.7 / 72
    assert found.x == (0.0, pytest.approx(math.log(target / (1 - target))))


def test_no_calibration_gives_the_same_array() -> None:
    scores = np.array([0.1, 2.0])
    assert NO_CALIBRATION.apply(scores) is scores
    assert fit_calibrator("none", np.empty(0), np.empty(0)) == NO_CALIBRATION


@pytest.mark.parametrize("scores", [[], [0.5, math.nan], [math.inf, 0.1]])
@pytest.mark.parametrize("method", FITTED)
def test_a_fit_needs_finite_scores(method: str, scores: list[float]) -> None:
    with pytest.raises(ValueError, match="a finite score in each"):
        fit_calibrator(method, np.array(scores), np.zeros(len(scores)))


@pytest.mark.parametrize(
    ("method", "x", "y", "reason"),
    [
        ("isotonic", [0.2, 0.1], [0.1, 0.2], "x does not rise"),
        ("isotonic", [0.1, 0.1], [0.1, 0.2], "x does not rise"),
        ("isotonic", [0.1, 0.2], [0.2, 0.1], "y falls"),
        ("isotonic", [0.1, 0.2], [0.2, 1.1], "within"),
        ("isotonic", [-0.1, 0.2], [0.2, 0.3], "within"),
        ("isotonic", [], [], "length"),
        ("isotonic", [0.1, 0.2], [0.2], "length"),
        ("isotonic", [0.1, math.nan], [0.2, 0.3], "finite"),
        ("isotonic", [0.1, 0.2], [0.2, math.inf], "finite"),
        ("isotonic", [0.1, True], [0.2, 0.3], "finite"),
        ("isotonic", [0.1, "0.2"], [0.2, 0.3], "finite"),
        ("isotonic", 0.1, [0.2], "finite"),
        ("sigmoid", [-1.0, 0.0], [], "slope"),
        ("sigmoid", [1.0, math.inf], [], "finite"),
        ("sigmoid", [1.0], [], "slope"),
        ("sigmoid", [1.0, 0.0], [0.5], "intercept"),
        ("none", [0.5], [], "not empty"),
        ("beta", [], [], "expected one of none, isotonic, sigmoid"),
    ],
)
def test_what_is_no_calibrator_is_refused_by_name(method: str, x: object, y: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Calibrator.from_json({"method": method, "x": x, "y": y})


@pytest.mark.parametrize("stored", [{}, {"method": "none"}, {"method": "none", "x": [], "y": [], "z": 1}, [], None])
def test_other_keys_are_refused(stored: object) -> None:
    with pytest.raises(ValueError, match="the keys method, x and y"):
        Calibrator.from_json(stored)


def test_reliability_has_bins_of_equal_count_from_the_lowest_up() -> None:
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.5])
    labels = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    assert reliability(labels, probabilities, bins=2) == [
        {"rows": 2, "mean_probability": pytest.approx(0.15), "share": 0.5},
        {"rows": 3, "mean_probability": pytest.approx(2.2 / 3), "share": pytest.approx(2 / 3)},
    ]
    assert [one["rows"] for one in reliability(labels, probabilities)] == [1] * 5
    assert reliability(np.empty(0), np.empty(0)) == []


def test_equal_probabilities_share_a_bin_whatever_their_labels() -> None:
    probabilities, labels = np.repeat([0.2, 0.6], 50), np.tile([0.0, 1.0], 50)
    assert reliability(labels, probabilities) == [
        {"rows": 50, "mean_probability": pytest.approx(0.2), "share": 0.5},
        {"rows": 50, "mean_probability": pytest.approx(0.6), "share": 0.5},
    ]
