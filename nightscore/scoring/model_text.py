"""LightGBM's model text as arrays over all its trees, and what of it the kernel cannot say.

Added here: another key of the text, another objective. Not here: how trees are compiled (`forest.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Facts = Mapping[str, str]

IDENTITY, LOGISTIC, EXPONENTIAL, SOFTMAX = range(4)
TRANSFORMS = {
    "none": IDENTITY, "regression": IDENTITY, "regression_l1": IDENTITY, "huber": IDENTITY, "fair": IDENTITY,
    "quantile": IDENTITY, "mape": IDENTITY, "lambdarank": IDENTITY, "rank_xendcg": IDENTITY, "binary": LOGISTIC,
    "cross_entropy": LOGISTIC, "poisson": EXPONENTIAL, "gamma": EXPONENTIAL, "tweedie": EXPONENTIAL,
    "multiclass": SOFTMAX,
}  # fmt: skip
"""What each objective makes of a row's sums, where `quickscorer.c` does the same; none is named for custom ones."""
CATEGORY_BIT, DEFAULT_LEFT_BIT, MISSING_SHIFT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = range(3)
_OF_NODES = {"split_feature": int, "threshold": float, "decision_type": int, "left_child": int, "right_child": int}


class UnsupportedModel(Exception):
    """A model that is scored by LightGBM itself; `reasons` say why."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class ModelText:
    """Trees in the order of their sum; tree number t adds to output t modulo `outputs`.

    Arrays over the inner nodes of all trees, one tree after another, a parent before its children; `leaves` over all
    leaves. `left` and `right` are the numbers of nodes, or of leaves, which are counted on from the last node.
    `members`: pairs (2, any) of a node and a category that goes left there, in the order of nodes.
    """

    features: int
    outputs: int
    transform: tuple[int, float]
    sizes: Array
    feature: Array
    threshold: Array
    is_category: Array
    default_left: Array
    missing: Array
    left: Array
    right: Array
    leaves: Array
    members: Array

    @property
    def tree(self) -> Array:
        """The tree of each inner node."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes - 1)


def read_model_text(text: str) -> ModelText:
    """The model; raises UnsupportedModel with every reason why a forest cannot say it, ValueError for damaged text."""
    head, *parts = text.split("\nend of trees", 1)[0].split("\nTree=")
    facts, trees = _facts(head), [_facts(part) for part in parts]
    if reasons := list(_refusals(head, facts, trees)):
        raise UnsupportedModel(reasons)
    _refuse_damaged([*_wrong_head(facts, trees), *_wrong_counts(trees)])
    model = _read_trees(facts, trees)
    _refuse_damaged(_wrong_nodes(model))
    return model


def _facts(part: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def _refusals(head: str, facts: Facts, trees: Sequence[Facts]) -> Iterator[str]:
    name, _, rest = facts.get("objective", "none").partition(" ")
    if facts.get("version") not in {"v3", "v4"}:
        yield f"the text is of version {facts.get('version')}"
    if name not in TRANSFORMS or "sqrt" in rest.split():
        yield f"the objective is {facts.get('objective')}"
    elif _slope(facts) is None:
        yield f"LightGBM reads the sigmoid of {facts['objective']} in its own way"
    if "average_output" in head.splitlines():
        yield "trees are averaged, as in a random forest"
    if any(one.get("is_linear", "0") != "0" for one in trees):
        yield "leaves hold linear models"


def _slope(facts: Facts) -> float | None:
    """As LightGBM reads it: the whole and then the fraction, which rounds twice; None with an exponent."""
    words = facts.get("objective", "").split()
    text = next((word.removeprefix("sigmoid:") for word in words if word.startswith("sigmoid:")), "1")
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdecimal():
        return None
    return float(whole or 0) + float(fraction or 0) / float(10 ** len(fraction))


def _refuse_damaged(reasons: Iterable[str]) -> None:
    if found := list(reasons):
        raise ValueError(f"the model text is damaged: {'; '.join(found)}")


def _wrong_head(facts: Facts, trees: Sequence[Facts]) -> Iterator[str]:
    for key in ("num_tree_per_iteration", "max_feature_idx"):
        if not facts.get(key, "").isdecimal():
            yield f"{key} is {facts.get(key)}"
    outputs = facts.get("num_tree_per_iteration", "")
    if outputs.isdecimal() and (int(outputs) == 0 or len(trees) % int(outputs)):
        yield f"{len(trees)} trees cannot be shared by {outputs} outputs"


def _wrong_counts(trees: Sequence[Facts]) -> Iterator[str]:
    for number, tree in enumerate(trees):
        size, sets = tree.get("num_leaves", ""), tree.get("num_cat", "0")
        if not size.isdecimal() or not sets.isdecimal() or int(size) == 0:
            yield f"tree {number} has {size} leaves and {sets} sets of categories"
            continue
        expected = dict.fromkeys(_OF_NODES, int(size) - 1) | {"leaf_value": int(size)}
        if int(sets):
            expected["cat_boundaries"] = int(sets) + 1
        for key, count in expected.items():
            if (found := _count(tree, key)) != count:
                yield f"{key} of tree {number} has {found} values, not {count}"


def _count(tree: Facts, key: str) -> int:
    return len(tree.get(key, "").split())


def _read_trees(facts: Facts, trees: Sequence[Facts]) -> ModelText:
    name = facts.get("objective", "none").partition(" ")[0]
    sizes = np.array([int(one["num_leaves"]) for one in trees], np.int64)
    nodes = {key: _numbers(trees, key, kind) for key, kind in _OF_NODES.items()}
    kinds, tree = nodes["decision_type"], np.repeat(np.arange(len(trees)), sizes - 1)
    is_category = (kinds & CATEGORY_BIT) > 0
    first_node, first_leaf = _starts(sizes - 1)[tree], len(tree) + _starts(sizes)[tree]
    left, right = (
        np.where(child >= 0, first_node + child, first_leaf - child - 1)
        for child in (nodes["left_child"], nodes["right_child"])
    )
    return ModelText(
        int(facts["max_feature_idx"]) + 1, int(facts["num_tree_per_iteration"]),
        (TRANSFORMS[name], _slope(facts) or 0.0), sizes, nodes["split_feature"], nodes["threshold"], is_category,
        (kinds & DEFAULT_LEFT_BIT) > 0, (kinds >> MISSING_SHIFT) & 3, left, right,
        leaves=_numbers(trees, "leaf_value", float),
        members=_members(trees, np.flatnonzero(is_category), tree[is_category], nodes["threshold"][is_category]),
    )  # fmt: skip


def _numbers(trees: Sequence[Facts], key: str, kind: type[int] | type[float]) -> Array:
    words = chain.from_iterable(tree.get(key, "").split() for tree in trees)
    try:
        return np.fromiter(map(kind, words), np.float64 if kind is float else np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the model text is damaged: {key}: {error}") from error


def _starts(counts: Array) -> Array:
    """Where each begins of those that stand one after another."""
    return np.asarray(np.cumsum(counts) - counts)


def _members(trees: Sequence[Facts], nodes: Array, tree: Array, sets: Array) -> Array:
    """The bits that are set in each node's words; its threshold, in `sets`, says which of its tree's these are."""
    bounds, words = (_numbers(trees, key, int) for key in ("cat_boundaries", "cat_threshold"))
    bound_counts, word_counts = (
        np.array([_count(one, key) for one in trees], np.int64) for key in ("cat_boundaries", "cat_threshold")
    )
    if not ((sets >= 0) & (sets + 1 < bound_counts[tree]) & (sets == np.floor(sets))).all():
        raise ValueError("the model text is damaged: a node asks for a set of categories that is not there")
    at = _starts(bound_counts)[tree] + sets.astype(np.int64)
    first, last = bounds[at], bounds[at + 1]
    if not ((first >= 0) & (first <= last) & (last <= word_counts[tree])).all() or (words >> 32).any():
        raise ValueError("the model text is damaged: a set of categories lies outside the words of its tree")
    owner = np.repeat(np.arange(len(nodes)), last - first)
    within = np.arange(len(owner)) - _starts(last - first)[owner]
    own = words[(_starts(word_counts)[tree] + first)[owner] + within].astype("<u4")
    word, bit = np.nonzero(np.unpackbits(own.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little"))
    return np.stack([nodes[owner[word]], 32 * within[word] + bit])


def _wrong_nodes(model: ModelText) -> Iterator[str]:
    tree, parents = model.tree, np.arange(len(model.feature))
    owner = np.concatenate([tree, np.repeat(np.arange(len(model.sizes)), model.sizes)])
    children = np.stack([model.left, model.right])
    strays = (children <= parents) | (children >= len(owner))
    strays |= owner[np.where(strays, 0, children)] != tree
    wrong = {
        f"a feature is none of {model.features}": (model.feature < 0) | (model.feature >= model.features),
        "a threshold is no number": ~model.is_category & np.isnan(model.threshold),
        "the type of missing values is unknown": ~model.is_category & (model.missing > MISSING_NAN),
        "a child is before its parent or in no tree": strays.any(axis=0),
    }
    yield from (f"{what} in tree {tree[found][0]}" for what, found in wrong.items() if found.any())
    if not strays.any() and np.bincount(children.ravel()).max(initial=0) > 1:
        yield "a node or leaf has two parents"
