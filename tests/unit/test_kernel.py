"""The kernel gives LightGBM's bits: every kind of model and value, by every instruction set, however it is split."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hatch_build import build_kernel
from nightscore.scoring import kernel as kernel_module
from nightscore.scoring.forest import compile_forest
from nightscore.scoring.kernel import Kernel, find_instructions
from nightscore.scoring.model_text import read_model_text
from tests.unit.lightgbm_models import (
    MANY_CATEGORIES,
    MANY_LEAVES,
    ZERO,
    edit,
    make_adversarial,
    make_values,
    predict,
    split_columns,
    train,
)

pytestmark = pytest.mark.skipif(not find_instructions(), reason="no kernel was built")

MODELS: dict[str, dict[str, Any]] = {
    "doubles": {"kinds": "fff"},
    "NaN seen": {"kinds": "nnf", "trees": 10},
    "no way for missing values": {"kinds": "nzi", "use_missing": False},
    "zero is missing": {"kinds": "nzi", "zero_as_missing": True, "trees": 10},
    "more thresholds than a byte tells apart": {"kinds": "fz", "rows": 6000, "trees": 8, "num_leaves": 255,
        "max_bin": 5000, "min_data_in_bin": 1, **MANY_LEAVES},
    "few categories": {"kinds": "cfc", "trees": 10, "min_data_per_group": 1},
    "categories of several pages": {"kinds": "CCf", "rows": 4000, "trees": 20, **MANY_CATEGORIES, **MANY_LEAVES},
    "categories one by one": {"kinds": "cC", "max_cat_to_onehot": 1000, "rows": 2000, "trees": 20, **MANY_CATEGORIES},
    "63 leaves": {"kinds": "fnc", "rows": 3000, "num_leaves": 63, "trees": 20},
    "300 leaves": {"kinds": "fnci", "rows": 3000, "num_leaves": 300, **MANY_LEAVES},
    "2040 leaves": {"kinds": "fnci", "rows": 6000, "num_leaves": 2040, "max_bin": 2000, "trees": 1, **MANY_LEAVES},
    "one leaf": {"kinds": "f", "rows": 30, "trees": 2, "min_data_in_leaf": 30},
    "dart": {"kinds": "fn", "boosting": "dart", "trees": 12, "drop_rate": 0.5},
    "three classes": {"kinds": "fnc", "objective": "multiclass", "trees": 5},
}  # fmt: skip
OBJECTIVES: list[dict[str, Any]] = [
    *({"objective": name} for name in (
        "regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie", "binary",
        "cross_entropy", "multiclass", "lambdarank", "rank_xendcg",
    )),
    {"objective": "binary", "sigmoid": 0.7},
    {"objective": "binary", "sigmoid": 12.25},
    {"objective": "binary", "sigmoid": 1.118},  # LightGBM's own reader makes it 1.1179999999999999
]  # fmt: skip
SMALL = {"min_data_in_leaf": 1, "min_data_in_bin": 1, "min_data_per_group": 1, "cat_smooth": 1.0}


@pytest.fixture(params=find_instructions())
def instructions(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sums(text: str, values: Any, instructions: str) -> Any:
    return Kernel.of(compile_forest(text), instructions).add_trees(split_columns(values), 0, len(values))


def bits(values: Any) -> Any:
    return np.ascontiguousarray(values).view(np.int64)


def assert_same_bits(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("name", MODELS)
def test_sums_are_lightgbms(name: str, instructions: str) -> None:
    text = train(**MODELS[name])
    values = make_adversarial(text, 1000)
    assert_same_bits(sums(text, values, instructions), predict(text, values, raw_score=True))


def test_the_models_are_what_their_names_say() -> None:
    models = {name: read_model_text(train(**settings)) for name, settings in MODELS.items()}
    many = compile_forest(train(**MODELS["categories of several pages"]))
    doubles, asked = models["more thresholds than a byte tells apart"], ("no way for missing values", "zero is missing")
    assert {
        "missing": [set(models[name].missing.tolist()) for name in (*asked, "NaN seen")],
        "thresholds": len(np.unique(doubles.threshold[doubles.feature == 0])) > 2 * 254,
        "leaves": [int(models[name].sizes.max()) for name in ("63 leaves", "300 leaves", "2040 leaves", "one leaf")],
        "pages": int(many.columns["is_category"].sum()) > 2,
    } == {"missing": [{0}, {1}, {0, 2}], "thresholds": True, "leaves": [63, 300, 2040, 1], "pages": True}  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(
    kinds=st.text("fnzicC", min_size=1, max_size=4), rows=st.integers(40, 400), trees=st.integers(1, 5),
    seed=st.integers(0, 999),
    objective=st.sampled_from(["regression", "binary", "multiclass", "poisson"]),
    leaves=st.integers(2, 90), bins=st.integers(3, 400), missing=st.sampled_from(["none", "zero", "nan"]),
)  # fmt: skip
def test_whatever_the_model_and_the_values_bits_are_the_same(
    kinds: str, rows: int, trees: int, seed: int, objective: str, leaves: int, bins: int, missing: str
) -> None:
    how = {"use_missing": missing != "none", "zero_as_missing": missing == "zero"}
    text = train.__wrapped__(kinds, rows, trees, seed, objective, num_leaves=leaves, max_bin=bins, **SMALL, **how)
    values = np.vstack([make_adversarial(text, 300, seed), make_values(kinds, 50, seed + 1)])
    raw, scores = predict(text, values, raw_score=True), predict(text, values)
    forest, columns = compile_forest(text), split_columns(values)
    for one in find_instructions():
        found = Kernel.of(forest, one).add_trees(columns, 0, len(values))
        assert_same_bits(found, raw)
        assert_same_bits(Kernel.of(forest, one).transform(found), scores)


@pytest.mark.parametrize("threshold", [-ZERO, ZERO, 1e-37, -1e-37, 5e-324, 0.0, -0.0, np.inf, -np.inf, 1e300, 0.1])
@pytest.mark.parametrize("kind", [0, 2, 4, 6, 8, 10])
def test_thresholds_about_zero_and_at_the_ends_ask_as_lightgbm_does(
    threshold: float, kind: int, instructions: str
) -> None:
    """A value that LightGBM takes for zero stood on the other side of a threshold of -1e-35."""
    text = edit(train("f", num_leaves=2, trees=1), {"threshold": repr(threshold), "decision_type": str(kind)})
    values = make_adversarial(text, 500)
    assert_same_bits(sums(text, values, instructions), predict(text, values, raw_score=True))


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda settings: " ".join(map(str, settings.values())))
def test_scores_are_lightgbms_for_every_objective(settings: dict[str, Any], instructions: str) -> None:
    text = train("fnc", **settings)
    values = make_adversarial(text, 500)
    found = Kernel.of(compile_forest(text), instructions)
    assert_same_bits(found.transform(found.add_trees(split_columns(values), 0, 500)), predict(text, values))


def test_models_of_custom_objectives_give_their_sums(instructions: str) -> None:
    text = train("fnc").replace("objective=regression\n", "")
    values = make_adversarial(text, 500)
    found = Kernel.of(compile_forest(text), instructions)
    assert_same_bits(found.transform(found.add_trees(split_columns(values), 0, 500)), predict(text, values))


def test_sums_far_out_become_the_same_scores(instructions: str) -> None:
    for objective in ("binary", "poisson", "multiclass"):
        text = edit(train("f", objective=objective, num_leaves=3, trees=2), {"leaf_value": "-800 5e-324 750.5"})
        values = make_adversarial(text, 200)
        found = Kernel.of(compile_forest(text), instructions)
        assert_same_bits(found.transform(found.add_trees(split_columns(values), 0, 200)), predict(text, values))


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 700])
@pytest.mark.parametrize("name", ["63 leaves", "three classes", "categories of several pages"])
def test_any_count_of_rows(name: str, rows: int, instructions: str) -> None:
    text = train(**MODELS[name])
    values = make_adversarial(text, 700)
    expected = sums(text, values, instructions)[:rows]
    assert_same_bits(sums(text, values[:rows], instructions), expected)


def spans(cuts: list[int], end: int) -> Iterator[tuple[int, int]]:
    return itertools.pairwise([0, *sorted(min(cut, end) for cut in cuts), end])


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["63 leaves", "three classes"]), row_cuts=st.lists(st.integers(0, 900), max_size=4),
    tree_cuts=st.lists(st.integers(0, 20), max_size=3), instructions=st.sampled_from(find_instructions() or ("",)),
)  # fmt: skip
@example("three classes", [255, 256, 513], [1, 4, 5], "portable")
def test_rows_and_trees_may_be_split_anywhere(
    name: str, row_cuts: list[int], tree_cuts: list[int], instructions: str
) -> None:
    text = train(**MODELS[name])
    values, kernel = make_adversarial(text, 900), Kernel.of(compile_forest(text), instructions)
    columns, found = split_columns(values), np.zeros((900, kernel.forest.outputs))
    for start, stop in spans(row_cuts, 900):
        for trees in spans(tree_cuts, len(kernel.forest.trees)):
            kernel.add_trees(columns, start, stop, trees, found[start:stop])
    assert_same_bits(found, predict(text, values, raw_score=True))


def test_one_kernel_serves_two_threads_at_once(instructions: str) -> None:
    text = train(**MODELS["63 leaves"])
    values, kernel = make_adversarial(text, 20_000), Kernel.of(compile_forest(text), instructions)
    columns = split_columns(values)
    with ThreadPoolExecutor(2) as threads:
        parts = threads.map(lambda start: kernel.add_trees(columns, start, start + 1000), range(0, 20_000, 1000))
        found = np.concatenate(list(parts))
    assert_same_bits(found, predict(text, values, raw_score=True))


COLUMN = np.zeros(10)
READ_ONLY = np.zeros((10, 1))
READ_ONLY.flags.writeable = False
WRONG: dict[str, tuple[Any, ...]] = {
    "a column too many": ([COLUMN] * 2, 0, 10),
    "another type": ([COLUMN.astype(np.float32)], 0, 10),
    "gaps": ([np.zeros(20)[::2]], 0, 10),
    "two dimensions": ([np.zeros((10, 1))], 0, 10),
    "rows that are not there": ([COLUMN], 0, 11),
    "rows before the first": ([COLUMN], -1, 10),
    "an end before its start": ([COLUMN], 5, 4),
    "trees that are not there": ([COLUMN], 0, 10, (0, 4)),
    "trees before the first": ([COLUMN], 0, 10, (-1, 3)),
    "trees in the wrong order": ([COLUMN], 0, 10, (2, 1)),
    "too few sums": ([COLUMN], 0, 10, (0, 3), np.zeros((9, 1))),
    "sums of another shape": ([COLUMN], 0, 10, (0, 3), np.zeros(10)),
    "sums of another type": ([COLUMN], 0, 10, (0, 3), np.zeros((10, 1), np.float32)),
    "sums with gaps": ([COLUMN], 0, 10, (0, 3), np.zeros((10, 2))[:, :1]),
    "sums that are kept": ([COLUMN], 0, 10, (0, 3), READ_ONLY),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_lead_out_of_bounds_is_refused(name: str) -> None:
    kernel = Kernel.of(compile_forest(train("f")), find_instructions()[-1])
    with pytest.raises(ValueError, match=r"expected|are not all"):
        kernel.add_trees(*WRONG[name])


def test_only_sums_of_the_forest_are_transformed() -> None:
    kernel = Kernel.of(compile_forest(train("f", objective="multiclass")), "portable")
    with pytest.raises(ValueError, match=r"expected sums of shape \(4, 3\)"):
        kernel.transform(np.zeros((4, 2)))


def test_instructions_that_the_processor_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of the instruction sets"):
        Kernel.of(compile_forest(train("f")), "AVX-1024")


def test_a_library_of_other_sources_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "quickscorer.c"
    changed.write_bytes(kernel_module.SOURCES[0].read_bytes() + b"\n")
    monkeypatch.setattr(kernel_module, "SOURCES", (changed, *kernel_module.SOURCES[1:]))
    assert kernel_module._library.__wrapped__() is None


def test_without_a_library_there_are_no_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "LIBRARY", tmp_path / "quickscorer.so")
    assert kernel_module._library.__wrapped__() is None


def test_without_a_compiler_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build_kernel(Path(), target=tmp_path / "kernel.so") is None


def test_sources_that_do_not_compile_leave_nothing_behind(tmp_path: Path) -> None:
    assert build_kernel(Path(), extra_flags=("-include", "no-such.h"), target=tmp_path / "kernel.so") is None
    assert list(tmp_path.iterdir()) == []
