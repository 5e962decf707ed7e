"""Compiling a model's text: what LightGBM must score itself, and what is too damaged for anything."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.scoring.forest import CODES, MAX_SLOTS, Forest, compile_forest
from nightscore.scoring.kernel import Kernel, find_instructions
from nightscore.scoring.model_text import UnsupportedModel
from tests.unit.lightgbm_models import MANY_CATEGORIES, MANY_LEAVES, predict, split_columns, train

SMALL = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=distance carrier
feature_infos=[0:1] 0:2:35

Tree=0
num_leaves=4
num_cat=1
split_feature=0 1 0
threshold=0.5 0 -2
decision_type=2 1 10
left_child=1 -1 -2
right_child=2 -3 -4
leaf_value=1 2 3 4
cat_boundaries=0 2
cat_threshold=5 8
is_linear=0

Tree=1
num_leaves=1
num_cat=0
leaf_value=0.25
is_linear=0

end of trees
"""
"""x <= 0.5 and category in {0, 2, 35}: 1, else 3; x > 0.5 and x <= -2 or NaN: 2, else 4."""

REFUSED = {
    "the text is of version v2": ("version=v4", "version=v2"),
    "the objective is cross_entropy_lambda": ("objective=regression", "objective=cross_entropy_lambda"),
    "the objective is multiclassova num_class:3": ("objective=regression", "objective=multiclassova num_class:3"),
    "the objective is regression sqrt": ("objective=regression", "objective=regression sqrt"),
    "the objective is unheard_of": ("objective=regression", "objective=unheard_of"),
    "LightGBM reads the sigmoid of binary sigmoid:1e-05 in its own way":
        ("objective=regression", "objective=binary sigmoid:1e-05"),
    "trees are averaged, as in a random forest": ("label_index=0", "label_index=0\naverage_output"),
    "leaves hold linear models": ("is_linear=0", "is_linear=1"),
}  # fmt: skip
DAMAGED = {
    "num_tree_per_iteration is None": ("num_tree_per_iteration=1\n", ""),
    "num_tree_per_iteration is one": ("num_tree_per_iteration=1", "num_tree_per_iteration=one"),
    "2 trees cannot be shared by 0 outputs": ("num_tree_per_iteration=1", "num_tree_per_iteration=0"),
    "2 trees cannot be shared by 3 outputs": ("num_tree_per_iteration=1", "num_tree_per_iteration=3"),
    "max_feature_idx is -1": ("max_feature_idx=1", "max_feature_idx=-1"),
    "tree 0 has  leaves and 1 sets of categories": ("num_leaves=4\n", ""),
    "tree 1 has 0 leaves and 0 sets of categories": ("num_leaves=1", "num_leaves=0"),
    "threshold of tree 0 has 2 values, not 3": ("threshold=0.5 0 -2", "threshold=0.5 0"),
    "left_child of tree 0 has 0 values, not 3": ("left_child=1 -1 -2\n", ""),
    "leaf_value of tree 0 has 5 values, not 4": ("leaf_value=1 2 3 4", "leaf_value=1 2 3 4 5"),
    "cat_boundaries of tree 0 has 3 values, not 2": ("cat_boundaries=0 2", "cat_boundaries=0 1 2"),
    "threshold: could not convert string to float: 'half'": ("threshold=0.5", "threshold=half"),
    "split_feature: invalid literal for int() with base 10: '1.5'": ("split_feature=0 1", "split_feature=0 1.5"),
    "left_child: Python int too large to convert to C long": ("left_child=1", "left_child=99999999999999999999"),
    "a feature is none of 2 in tree 0": ("split_feature=0 1", "split_feature=0 2"),
    "a threshold is no number in tree 0": ("threshold=0.5", "threshold=nan"),
    "the type of missing values is unknown in tree 0": ("decision_type=2", "decision_type=14"),
    "a child is before its parent or in no tree in tree 0": ("left_child=1", "left_child=0"),
    "a node or leaf has two parents": ("left_child=1 -1", "left_child=1 -3"),
    "asks for a set of categories that is not there": ("threshold=0.5 0", "threshold=0.5 1"),
    "lies outside the words of its tree": ("cat_boundaries=0 2", "cat_boundaries=0 3"),
}
STRAYS = ["left_child=3 -1", "left_child=1 -5", "left_child=1 -6", "left_child=9223372036854775807 -1",
          "left_child=-9223372036854775808 -1", "left_child=2 -1"]  # fmt: skip
SETS = {
    "threshold=0.5 0": ["threshold=0.5 -1", "threshold=0.5 0.5", "threshold=0.5 nan", "threshold=0.5 1e300"],
    "cat_boundaries=0 2": ["cat_boundaries=1 0", "cat_boundaries=-1 2", "cat_boundaries=0 -2"],
    "cat_threshold=5 8": ["cat_threshold=5 4294967296", "cat_threshold=-5 8", "cat_threshold=5"],
}


def damage(change: tuple[str, str]) -> str:
    assert change[0] in SMALL
    return SMALL.replace(*change, 1)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_kernel_does_not_do_is_left_to_lightgbm(reason: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        compile_forest(damage(REFUSED[reason]))
    assert caught.value.reasons == [reason]


def test_every_reason_is_told_at_once() -> None:
    text = damage(REFUSED["leaves hold linear models"]).replace("version=v4", "version=v9")
    with pytest.raises(UnsupportedModel) as caught:
        compile_forest(text)
    assert caught.value.reasons == ["the text is of version v9", "leaves hold linear models"]


@pytest.mark.parametrize("settings", [
    {"objective": "multiclassova"}, {"objective": "cross_entropy_lambda"}, {"reg_sqrt": True}, {"linear_tree": True},
    {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
], ids=str)  # fmt: skip
def test_models_as_lightgbm_writes_them_are_refused(settings: dict[str, object]) -> None:
    settings = {"objective": "regression", **settings}
    if settings["objective"] == "cross_entropy_lambda":
        text = train("ff", objective="cross_entropy").replace(
            "objective=cross_entropy", "objective=cross_entropy_lambda"
        )
    else:
        text = train("ff", **settings)
    with pytest.raises(UnsupportedModel):
        compile_forest(text)


@pytest.mark.parametrize("reason", DAMAGED)
def test_damaged_text_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        compile_forest(damage(DAMAGED[reason]))
    assert str(caught.value).startswith("the model text is damaged: ")


@pytest.mark.parametrize("stray", STRAYS)
def test_children_that_would_lead_astray_are_refused(stray: str) -> None:
    with pytest.raises(ValueError, match=r"a child is before its parent or in no tree|has two parents"):
        compile_forest(damage(("left_child=1 -1", stray)))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SETS.items() for value in values])
def test_sets_of_categories_beyond_their_words_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="set of categories"):
        compile_forest(damage((key, value)))


def test_every_damage_is_told_at_once() -> None:
    text = damage(("threshold=0.5", "threshold=nan")).replace("split_feature=0", "split_feature=7")
    with pytest.raises(ValueError, match="a feature is none of 2 in tree 0; a threshold is no number in tree 0"):
        compile_forest(text)


def test_a_tree_of_2041_leaves_is_left_to_lightgbm() -> None:
    text = train("fnci", rows=6000, num_leaves=2041, max_bin=2000, trees=1, **MANY_LEAVES)
    with pytest.raises(UnsupportedModel, match="a tree has more than 2040 leaves"):
        compile_forest(text)


def test_a_model_that_needs_too_many_columns_is_left_to_lightgbm() -> None:
    nodes = MAX_SLOTS + 1
    chain = SMALL.partition("Tree=0")[0].replace("max_feature_idx=1", f"max_feature_idx={nodes}") + "".join(
        f"Tree={at}\nnum_leaves=2\nnum_cat=0\nsplit_feature={at}\nthreshold=1\ndecision_type=0\n"
        "left_child=-1\nright_child=-2\nleaf_value=1 2\n\n" for at in range(nodes)
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match="its nodes need 4097 columns of codes, more than 4096"):
        compile_forest(chain)


def test_a_small_forest_is_this() -> None:
    forest = compile_forest(SMALL)
    assert {
        "thresholds": [part[:2].tolist() for part in np.split(forest.thresholds, 2)],
        "columns": [one[["feature", "above", "nan_code", "zero_code"]].item() for one in forest.columns[:2]],
        "classes": {at: int(one) for at, one in enumerate(forest.classes) if one},
        "groups": forest.groups.tolist(),
        "trees": forest.trees.tolist(),
        "leaves": sorted(forest.leaves.tolist()),
        "slots": forest.slots,
    } == {
        "thresholds": [[-2.0, 0.5], [-2.0, 0.5]],
        "columns": [(0, 0, 1, 1), (0, 1, 0, 1)],
        "classes": {0: 1, 2: 1, 35: 1},
        "groups": [(0, 0), (2, 1), (2, 1)],
        "trees": [(0, 1, 0), (1, 1, 4)],
        "leaves": [0.25, 1.0, 2.0, 3.0, 4.0],
        "slots": 4,
    }


@pytest.mark.skipif(not find_instructions(), reason="no kernel was built")
def test_a_small_forest_scores_as_read() -> None:
    rows = np.array([[0.5, 35.0], [0.4, 34.0], [0.6, 0.0], [np.nan, 2.9], [-np.inf, -0.9], [1.0, np.nan]])
    for one in find_instructions():
        sums = Kernel.of(compile_forest(SMALL), one).add_trees(split_columns(rows), 0, len(rows))
        assert sums[:, 0].tolist() == predict(SMALL, rows)[:, 0].tolist() == [1.25, 3.25, 4.25, 1.25, 1.25, 4.25]


def assert_within_bounds(forest: Forest) -> None:
    """What `quickscorer.c` reads without looking."""
    columns, numbers = forest.columns, forest.columns[forest.columns["is_category"] == 0]
    categories = columns[columns["is_category"] == 1]
    trees, groups = forest.trees, forest.groups
    sizes = np.diff([*trees["first_leaf"].tolist(), len(forest.leaves)])
    assert (columns["feature"] >= 0).all()
    assert (columns["feature"] < forest.features).all()
    assert set(numbers["count"].tolist()) <= {16, 256}
    assert (numbers["first"] + numbers["count"] <= len(forest.thresholds)).all()
    assert np.isinf(forest.thresholds[numbers["first"] + numbers["count"] - 1]).all()
    assert (categories["first"] + categories["count"] <= len(forest.classes)).all()
    assert max(columns["above"].max(initial=-1), columns["below"].max(initial=-1)) < forest.slots
    assert (categories["above"] >= 0).all()
    assert (categories["below"] == categories["above"] + 1).all()
    assert forest.numbers["slot"].max(initial=0) < max(forest.slots, 1)
    assert forest.categories["slot"].max(initial=0) + 1 < max(forest.slots, 2)
    assert all(16 * (test + 1) <= len(forest.sets) for test in forest.categories["test"].tolist())
    assert forest.classes.max(initial=0) <= 127
    assert groups[-1].item() == (len(forest.numbers), len(forest.categories))
    assert all((np.diff(groups[name].astype(int)) >= 0).all() for name in ("numbers_end", "categories_end"))
    assert (trees["first_group"] + trees["bytes"] < len(groups)).all()
    assert (trees["bytes"] == -(-sizes // 8)).all()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_whatever_number_is_damaged_the_forest_is_refused_or_stays_within_bounds(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SMALL, train("fc", trees=2), train("CC", rows=900, trees=2, **MANY_CATEGORIES)]))
    for _ in range(data.draw(st.integers(1, 3))):
        found = data.draw(st.sampled_from(list(re.finditer(r"(?<=[= ])-?[\d.e+-]+", text.split("end of trees")[0]))))
        other = data.draw(st.integers(-9, 400) | st.integers() | st.floats() | st.sampled_from(["", "x", "1 2"]))
        text = text[: found.start()] + str(other) + text[found.end() :]
    try:
        forest = compile_forest(text)
    except (UnsupportedModel, ValueError):
        return
    assert_within_bounds(forest)
    if forest.features > 1000:
        return
    values = [np.linspace(-3, 900, 300)] * forest.features
    found_sums = [Kernel.of(forest, one).add_trees(values, 0, 300) for one in find_instructions()]
    for one in found_sums:
        np.testing.assert_array_equal(one, found_sums[0])


def test_chunks_of_thresholds_are_as_long_as_a_byte_can_tell_apart() -> None:
    text = train("fz", rows=6000, trees=8, num_leaves=255, max_bin=5000, min_data_in_bin=1, **MANY_LEAVES)
    forest = compile_forest(text)
    known = [np.isfinite(forest.thresholds[one["first"] : one["first"] + one["count"]]).sum() for one in forest.columns]
    assert max(known) == CODES
    assert_within_bounds(forest)
