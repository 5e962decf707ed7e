"""Estimates without labels against values of NannyML, against expectations over all labels, and their defined edges."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures.cbpe import Estimate, ExpectedConfusion, estimate_performance
from nightscore.measures.metrics import Vector, binary_metrics, brier, log_loss

SMALL = {
    "ranking": [0.91, 0.15, 0.62, 0.08, 0.77, 0.34, 0.55, 0.02, 0.48, 0.83, 0.27, 0.69],
    "probabilities": [0.88, 0.21, 0.57, 0.05, 0.79, 0.3, 0.61, 0.01, 0.42, 0.8, 0.33, 0.6],
}
NUMBER = np.arange(1, 997)
SHARE = NUMBER * 37 % 997 / 997
LARGE = {"ranking": SHARE, "probabilities": np.round(SHARE / 2 + (NUMBER * 101 % 991 / 991) ** 2 / 2, 5)}

# By the functions estimate_* of nannyml 0.13.1, decisions at 0.5. It rounds sums to 5 decimals and takes ties as they
# come, so probabilities have 5 decimals at most and ranks are distinct. It has no log loss and no Brier score.
NANNYML = [
    (
        SMALL,
        ExpectedConfusion(4.249999999999999, 1.75, 4.68, 1.32),
        {
            "roc_auc": 0.8173242570870944,
            "average_precision": 0.7559980958598553,
            "accuracy": 0.7441666666666666,
            "precision": 0.7083333333333333,
            "recall": 0.763016157989228,
            "f1": 0.7346585998271391,
            "specificity": 0.7278382581648523,
        },
    ),
    (
        LARGE,
        ExpectedConfusion(216.59778, 117.40222, 464.39531, 197.60469),
        {
            "roc_auc": 0.6722263232887,
            "average_precision": 0.5671648264203815,
            "accuracy": 0.6837280020080321,
            "precision": 0.6484963473053892,
            "recall": 0.522927301713097,
            "f1": 0.578981729370661,
            "specificity": 0.7982077716967962,
        },
    ),
]
DECISIONS = ("accuracy", "precision", "recall", "f1", "specificity")
NOTHING = dict.fromkeys(("log_loss", "brier", "roc_auc", "average_precision", *DECISIONS))
ROWS = st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


def estimated(probabilities: Any, decided: Any = None, ranking: Any = None) -> Estimate:
    chance = np.array(probabilities, np.float64)
    yes = chance >= 0.5 if decided is None else np.array(decided, np.bool_)
    return estimate_performance(chance, yes, None if ranking is None else np.array(ranking, np.float64))


def near(figures: dict[str, float | None], tolerance: float = 1e-9) -> dict[str, Any]:
    return {name: one if one is None else pytest.approx(one, rel=0, abs=tolerance) for name, one in figures.items()}


def of_rows(rows: list[tuple[int, bool, int]]) -> Estimate:
    probability, decided, rank = zip(*rows, strict=True)
    return estimated(np.array(probability) / 20, decided, rank)


@pytest.mark.parametrize(("inputs", "confusion", "figures"), NANNYML, ids=["small", "large"])
def test_estimates_are_those_of_nannyml(
    inputs: dict[str, Any], confusion: ExpectedConfusion, figures: dict[str, float]
) -> None:
    found = estimated(**inputs)
    assert found.rows == len(inputs["ranking"])
    assert found.confusion is not None
    assert vars(found.confusion) == near(vars(confusion))
    assert {name: found.metrics[name] for name in figures} == near(figures)


def test_losses_and_accuracy_are_the_expectation_over_every_way_that_labels_may_fall() -> None:
    chance = np.array([0.9, 0.5, 0.2, 0.0, 1.0, 0.35])
    decided = chance >= 0.4
    expected = dict.fromkeys(("log_loss", "brier", "accuracy"), 0.0)
    for outcome in itertools.product([0.0, 1.0], repeat=len(chance)):
        labels = np.array(outcome)
        weight = float(np.where(labels == 1, chance, 1 - chance).prod())
        figures = binary_metrics(labels, chance, decided)
        expected = {name: value + weight * (figures[name] or 0.0) for name, value in expected.items()}
    found = estimated(chance, decided).metrics
    assert {name: found[name] for name in expected} == near(expected, 1e-12)


def test_certain_probabilities_give_the_figures_of_their_labels() -> None:
    labels = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    scores, decided = np.array([0.9, 0.9, 0.1, 0.4, 0.6, 0.4, 0.2]), np.array([1, 1, 0, 0, 1, 0, 0], np.bool_)
    found, realised = estimated(labels, decided, scores).metrics, binary_metrics(labels, scores, decided)
    same = ("roc_auc", "average_precision", "accuracy", "precision", "recall", "f1")
    assert {name: found[name] for name in same} == near({name: realised[name] for name in same}, 1e-12)
    assert (found["log_loss"], found["brier"]) == (log_loss(labels, labels), brier(labels, labels))


def test_estimates_of_calibrated_probabilities_come_true() -> None:
    random = np.random.default_rng(8)
    chance = random.beta(1, 3, 200_000)
    labels, decided = (random.random(len(chance)) < chance).astype(np.float64), chance >= 0.3
    found, realised = estimated(chance, decided).metrics, binary_metrics(labels, chance, decided)
    shared = found.keys() & realised.keys()
    assert shared == found.keys() - {"specificity"}
    assert {name: found[name] for name in shared} == near({name: realised[name] for name in shared}, 0.005)


NO_NEGATIVES = {"log_loss": 0.0, "brier": 0.0, "average_precision": 1.0, "precision": 1.0}


@pytest.mark.parametrize(
    ("probabilities", "decided", "confusion", "figures"),
    [
        ([], [], None, {}),
        ([math.nan, math.inf], [True, False], None, {}),
        (
            [0.75],
            [True],
            (0.75, 0.25, 0.0, 0.0),
            {"log_loss": 0.5623351446188083, "brier": 0.1875, "average_precision": 0.75, "accuracy": 0.75,
             "precision": 0.75, "recall": 1.0, "f1": 6 / 7, "specificity": 0.0},
        ),
        (
            [0.25] * 4,
            [False] * 4,
            (0.0, 0.0, 3.0, 1.0),
            {"log_loss": 0.5623351446188083, "brier": 0.1875, "roc_auc": 0.5, "average_precision": 0.25,
             "accuracy": 0.75, "recall": 0.0, "f1": 0.0, "specificity": 1.0},
        ),
        (
            [1.0] * 3,
            [True, True, False],
            (2.0, 0.0, 0.0, 1.0),
            {**NO_NEGATIVES, "accuracy": 2 / 3, "recall": 2 / 3, "f1": 0.8},
        ),
        (
            [0.0] * 3,
            [False] * 3,
            (0.0, 0.0, 3.0, 0.0),
            {"log_loss": 0.0, "brier": 0.0, "accuracy": 1.0, "specificity": 1.0},
        ),
        (
            [0.0, 1.0],
            [False, True],
            (1.0, 0.0, 1.0, 0.0),
            {**NO_NEGATIVES, "roc_auc": 1.0, "accuracy": 1.0, "recall": 1.0, "f1": 1.0, "specificity": 1.0},
        ),
    ],
    ids=["empty", "missing", "single", "constant", "all positive", "all negative", "certain"],
)  # fmt: skip
def test_what_cannot_be_known_is_none(
    probabilities: list[float],
    decided: list[bool],
    confusion: tuple[float, ...] | None,
    figures: dict[str, float],
) -> None:
    found = estimated(probabilities, decided)
    assert found.rows == np.isfinite(probabilities).sum()
    assert found.confusion == (None if confusion is None else ExpectedConfusion(*confusion))
    assert found.metrics == near({**NOTHING, **figures}, 1e-12)


def test_rows_without_a_probability_or_a_rank_take_no_part() -> None:
    found = estimated([0.2, math.nan, 0.9, 0.6], [False, True, True, True], [1.0, 2.0, 3.0, math.nan])
    assert found == estimated([0.2, 0.9], [False, True], [1.0, 3.0])


@given(ROWS, st.randoms())
def test_neither_the_order_of_rows_nor_their_duplication_changes_an_estimate(
    rows: list[tuple[int, bool, int]], random: Any
) -> None:
    found = of_rows(rows)
    assert of_rows(random.sample(rows, len(rows))).metrics == near(found.metrics, 1e-12)
    twice = of_rows(rows * 2)
    alone = {"roc_auc"} if len(rows) == 1 else set()
    assert {name: one for name, one in twice.metrics.items() if name not in alone} == near(
        {name: one for name, one in found.metrics.items() if name not in alone}, 1e-12
    )
    assert found.confusion is not None
    assert twice.confusion is not None
    assert vars(twice.confusion) == near({name: 2 * rows for name, rows in vars(found.confusion).items()}, 1e-12)


@given(ROWS)
def test_estimates_are_shares_and_their_confusion_has_every_row(rows: list[tuple[int, bool, int]]) -> None:
    found = of_rows(rows)
    assert found.confusion is not None
    assert sum(vars(found.confusion).values()) == pytest.approx(len(rows), abs=1e-12)
    assert [name for name, one in found.metrics.items() if one is not None and not -1e-12 <= one <= 1 + 1e-12] == []


@given(ROWS)
def test_only_the_order_of_ranks_counts(rows: list[tuple[int, bool, int]]) -> None:
    stretched = [(chance, decided, rank**3 - 7) for chance, decided, rank in rows]
    assert of_rows(stretched) == of_rows(rows)


def test_an_estimate_goes_to_json() -> None:
    found = estimated(**SMALL)
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert Estimate(told["rows"], ExpectedConfusion(**told["confusion"]), told["metrics"]) == found
    assert json.loads(json.dumps(estimated([]).as_json())) == {"rows": 0, "confusion": None, "metrics": NOTHING}


def test_a_million_rows_take_a_few_sorts() -> None:
    chance: Vector = np.random.default_rng(1).random(1_000_000)
    assert estimate_performance(chance, chance >= 0.5).metrics["roc_auc"] == pytest.approx(5 / 6, abs=0.01)
