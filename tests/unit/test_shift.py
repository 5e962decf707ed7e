"""PSI against reference values, churn of the top, and sketches that add up to the sketch of all rows."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures.bins import count_numbers, decile_edges
from nightscore.measures.distances import FLOOR
from nightscore.measures.distances import psi as psi_of_counts
from nightscore.measures.metrics import Vector
from nightscore.measures.shift import (
    SKETCH_BINS,
    Sketch,
    churn_of_counts,
    count_top,
    merge_sketches,
    psi,
    psi_of_sketches,
    sketch,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "psi.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
NAN, INF = math.nan, math.inf
NUMBERS = st.floats(-1e100, 1e100) | st.sampled_from([0.0, -0.0, 0.5, 1e-300, -1e-300, NAN, INF, -INF])
VALUES = st.lists(NUMBERS, max_size=60)


def vector(values: list[Any]) -> Vector:
    return np.array(values, dtype=np.float64)


def normal(rows: int, seed: int, mean: float = 0.0) -> Vector:
    return np.random.default_rng(seed).normal(mean, 1, rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_psi_is_the_reference_value(case: dict[str, Any]) -> None:
    reference, current = vector(case["reference"]), vector(case["current"])
    edges = decile_edges(reference)
    assert count_numbers(reference, edges).tolist() == case["counts_reference"]
    assert count_numbers(current, edges).tolist() == case["counts_current"]
    assert psi(reference, current) == pytest.approx(case["psi"], rel=1e-9)
    assert psi_of_sketches(sketch(reference), sketch(current)) == pytest.approx(case["psi"], rel=1e-9)


ALL_MOVED = 2 * (1 - 1e-4) * math.log(1 / 1e-4)


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ([], [], None),
        ([], [1.0], None),
        ([1.0], [], None),
        ([NAN], [NAN, NAN], 0.0),
        ([NAN], [1.0], ALL_MOVED),
        ([1.0], [NAN], ALL_MOVED),
        ([1.0], [1.0], 0.0),
        ([5.0] * 9, [5.0], 0.0),
        ([5.0] * 9, [4.0], 0.0),
        ([5.0] * 9, [6.0], ALL_MOVED),
    ],
)
def test_psi_is_defined_for_empty_constant_missing_and_single_rows(
    reference: list[float], current: list[float], expected: float | None
) -> None:
    for found in (
        psi(vector(reference), vector(current)),
        psi_of_sketches(*map(sketch, map(vector, (reference, current)))),
    ):
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@given(VALUES, VALUES, st.randoms())
def test_psi_does_not_depend_on_the_order_of_rows_and_is_never_below_zero(
    reference: list[float], current: list[float], random: Any
) -> None:
    found = psi(vector(reference), vector(current))
    shuffled = [random.sample(values, len(values)) for values in (reference, current)]
    assert psi(*map(vector, shuffled)) == found
    assert found is None if not reference or not current else (found is not None and found >= 0)
    assert psi(vector(current), vector(current)) == (0.0 if current else None)


def test_counts_of_nights_with_one_set_of_edges_may_be_added() -> None:
    reference, current = normal(1000, 1), normal(900, 2, 0.3)
    edges = decile_edges(reference)
    parts = [count_numbers(part, edges) for part in np.array_split(current, 3)]
    assert psi_of_counts(count_numbers(reference, edges), np.sum(parts, axis=0), FLOOR) == psi(reference, current)


@pytest.mark.parametrize(
    ("before", "after", "k", "expected"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 2, 0.0),
        ([1, 2, 3, 4], [2, 1, 4, 3], 2, 0.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 2, 0.5),
        ([1, 2, NAN, NAN], [NAN, NAN, 1, 2], 2, 1.0),
        ([1, 2], [2, 1], 10, 0.0),
        ([1, NAN], [1, 2], 10, 0.5),
        ([1, 1, 1, 4], [1, 2, 3, 4], 1, 1 - 1 / 3),
        ([1, 2], [NAN, NAN], 1, 1.0),
        ([1], [1], 1, 0.0),
        ([NAN, NAN], [NAN, NAN], 2, None),
        ([], [], 2, None),
    ],
)
def test_churn_is_the_share_of_the_top_that_is_other_rows(
    before: list[float], after: list[float], k: int, expected: float | None
) -> None:
    top = count_top(vector(before), vector(after), k)
    assert churn_of_counts(*top) == (None if expected is None else pytest.approx(expected))
    assert count_top(vector(after), vector(before), k) == top


def test_no_top_has_no_churn() -> None:
    assert churn_of_counts(0, 0) is None


def test_the_sketch_of_no_rows_knows_nothing() -> None:
    empty = sketch(vector([]))
    assert empty == Sketch(32, (), (), 0, None, None, 0.0, 0.0) == merge_sketches([])
    assert (empty.rows, empty.mean, empty.max_abs) == (0, None, None)
    assert (empty.quantiles([0.5]), empty.histogram(vector([0.0]))) == ([None], [0, 0])


def test_missing_values_are_counted_and_take_no_part() -> None:
    found = sketch(vector([NAN, 2.0, INF, -INF, 4.0]))
    assert (found.missing, found.rows, found.mean, found.minimum, found.maximum) == (3, 2, 3.0, 2.0, 4.0)
    assert sketch(vector([NAN])).quantiles([0.0, 1.0]) == [None, None]


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -7.0, 1e-310, 1.7e308, -1.7e308])
def test_the_quantiles_of_a_constant_are_that_constant(value: float) -> None:
    assert sketch(vector([value] * 3)).quantiles([0.0, 0.3, 1.0]) == [value] * 3


@given(VALUES, VALUES, VALUES)
def test_merged_sketches_are_the_sketch_of_all_rows(one: list[float], two: list[float], three: list[float]) -> None:
    whole, merged = sketch(vector([*one, *two, *three])), merge_sketches(map(sketch, map(vector, (three, one, two))))
    assert identity(merged) == identity(whole)
    assert merged.total == pytest.approx(whole.total, rel=1e-9, abs=1e90)


def identity(one: Sketch) -> tuple[Any, ...]:
    return one.dropped_bits, one.bins, one.counts, one.missing, one.minimum, one.maximum


def test_large_sketches_merge_without_loss_and_stay_small() -> None:
    parts = [normal(30_000, seed, mean) for seed, mean in enumerate((0.0, 5.0, -1000.0, 1e-9))]
    whole = sketch(np.concatenate(parts))
    assert identity(merge_sketches(map(sketch, parts))) == identity(whole)
    assert identity(merge_sketches([merge_sketches(map(sketch, parts[:2])), *map(sketch, parts[2:])])) == identity(
        whole
    )
    assert len(whole.bins) <= SKETCH_BINS
    assert whole.rows == 120_000


def test_values_of_every_size_still_fit() -> None:
    found = sketch(np.concatenate([sign * 2.0 ** np.arange(-1074, 1024) for sign in (1, -1)]))
    assert len(found.bins) <= SKETCH_BINS
    assert found.quantiles([0.0, 0.5, 1.0]) == [-(2.0**1023), pytest.approx(0, abs=1e-300), 2.0**1023]


@pytest.mark.parametrize(
    "values",
    [normal(200_000, 3), 290 + 10 * normal(200_000, 4), 1 / (1 + np.exp(normal(200_000, 5, 2.0))), normal(900, 6)],
    ids=["normal", "far from zero", "probabilities", "small"],
)
def test_quantiles_are_as_near_as_the_sketch_says(values: Vector) -> None:
    shares, found = [0.01, 0.05, 0.25, 0.75, 0.95, 0.99], sketch(values)
    exact = np.quantile(values, shares)
    relative_error = 2.0 ** (found.dropped_bits - 53)
    assert found.quantiles(shares) == [pytest.approx(value, rel=relative_error * 1.1) for value in exact]
    assert relative_error < 0.04
    assert found.max_abs == np.abs(values).max()
    assert found.mean == pytest.approx(values.mean(), rel=1e-9)
    assert found.squares == pytest.approx((values**2).sum(), rel=1e-9)


def test_psi_of_sketches_is_near_the_exact_psi() -> None:
    reference, current = (1 / (1 + np.exp(-normal(100_000, seed, mean))) for seed, mean in ((7, -1.0), (8, -0.7)))
    exact = psi(reference, current)
    assert exact is not None
    assert exact > 0.05
    assert psi_of_sketches(sketch(reference), sketch(current)) == pytest.approx(exact, rel=0.03)
    assert psi_of_sketches(sketch(reference), sketch(reference)) == 0.0


def test_a_histogram_counts_every_row_once() -> None:
    found = sketch(vector([-2.0, -1.0, 0.0, 0.0, 0.5, 3.0]))
    assert found.histogram(vector([-1.5, 0.0, 1.0])) == [1, 3, 1, 1]


def test_sums_beyond_the_range_of_a_double_stay_finite() -> None:
    found = sketch(vector([1.7e308, 1.7e308]))
    assert math.isfinite(found.total)
    assert math.isfinite(merge_sketches([found, found]).squares)
