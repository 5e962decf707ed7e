"""LightGBM's model text, read tree by tree, and what of it a forest cannot say.

Added here: another key of the text. Not here: how trees are compiled (`forest.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

IDENTITY, LOGISTIC, EXPONENTIAL, SOFTMAX = range(4)
TRANSFORMS = {
    "none": IDENTITY, "regression": IDENTITY, "regression_l1": IDENTITY, "huber": IDENTITY, "fair": IDENTITY,
    "quantile": IDENTITY, "mape": IDENTITY, "binary": LOGISTIC, "cross_entropy": LOGISTIC, "poisson": EXPONENTIAL,
    "gamma": EXPONENTIAL, "tweedie": EXPONENTIAL, "multiclass": SOFTMAX,
}  # fmt: skip
"""What each objective makes of a row's sums, where `quickscorer.c` does the same."""
CATEGORY_BIT, DEFAULT_LEFT_BIT, MISSING_SHIFT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = range(3)


class UnsupportedModel(Exception):
    """A model that is scored by LightGBM itself; `reasons` say why."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class TreeText:
    """One tree: arrays over its inner nodes, `leaves` over its leaves; a child below 0 is the leaf -child - 1.

    `members` has the categories that go left, by node.
    """

    features: Array
    thresholds: Array
    is_category: Array
    default_left: Array
    missing: Array
    left: Array
    right: Array
    leaves: Array
    members: Mapping[int, Array]


@dataclass(frozen=True)
class ModelText:
    """Trees in the order of their sum; tree number t adds to output t modulo `outputs`."""

    features: int
    outputs: int
    transform: tuple[int, float]
    trees: tuple[TreeText, ...]


def read_model_text(text: str) -> ModelText:
    """The model; raises UnsupportedModel with every reason why a forest cannot say it, ValueError for damaged text."""
    head, *parts = text.split("\nend of trees", 1)[0].split("\nTree=")
    facts = _facts(head)
    reasons = list(_refusals(head, facts))
    trees = [_facts(part) for part in parts]
    if any(one.get("is_linear", "0") != "0" for one in trees):
        reasons.append("leaves hold linear models")
    if reasons:
        raise UnsupportedModel(reasons)
    name, _, rest = facts.get("objective", "none").partition(" ")
    slope = next((float(word[8:]) for word in rest.split() if word.startswith("sigmoid:")), 1.0)
    outputs = int(facts["num_tree_per_iteration"])
    return ModelText(
        int(facts["max_feature_idx"]) + 1, outputs, (TRANSFORMS[name], slope), tuple(_tree(one) for one in trees)
    )


def _facts(part: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def _refusals(head: str, facts: Mapping[str, str]) -> Iterator[str]:
    name, _, rest = facts.get("objective", "none").partition(" ")
    if facts.get("version") not in {"v3", "v4"}:
        yield f"the text is of version {facts.get('version')}"
    if name not in TRANSFORMS or "sqrt" in rest.split():
        yield f"the objective is {facts.get('objective')}"
    if "average_output" in head.splitlines():
        yield "trees are averaged, as in a random forest"


def _tree(facts: Mapping[str, str]) -> TreeText:
    leaves = _numbers(facts["leaf_value"], float)
    if int(facts["num_leaves"]) == 1:
        none = np.empty(0, np.int64)
        return TreeText(none, none, none == 1, none == 1, none, none, none, leaves, {})
    kinds = _numbers(facts["decision_type"], int)
    is_category = (kinds & CATEGORY_BIT) > 0
    thresholds = _numbers(facts["threshold"], float)
    return TreeText(
        features=_numbers(facts["split_feature"], int), thresholds=thresholds, is_category=is_category,
        default_left=(kinds & DEFAULT_LEFT_BIT) > 0, missing=(kinds >> MISSING_SHIFT) & 3,
        left=_numbers(facts["left_child"], int), right=_numbers(facts["right_child"], int), leaves=leaves,
        members=_members(facts, np.flatnonzero(is_category), thresholds),
    )  # fmt: skip


def _members(facts: Mapping[str, str], nodes: Array, thresholds: Array) -> dict[int, Array]:
    """The bits that are set in each node's words; the threshold of such a node says which words are its own."""
    if not len(nodes):
        return {}
    bounds, words = _numbers(facts["cat_boundaries"], int), _numbers(facts["cat_threshold"], int).astype("<u4")
    sets = thresholds[nodes].astype(np.int64)
    return {
        int(node): np.flatnonzero(np.unpackbits(words[bounds[one] : bounds[one + 1]].view("u1"), bitorder="little"))
        for node, one in zip(nodes, sets, strict=True)
    }


def _numbers(text: str, kind: type[int] | type[float]) -> Array:
    return np.array([kind(word) for word in text.split()], dtype=np.float64 if kind is float else np.int64)
