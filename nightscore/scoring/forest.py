"""A LightGBM model as the arrays that `quickscorer.c` walks: values become codes, nodes become strikes of leaves.

Every node strikes the smaller of its subtrees, so that most strikes fall into one byte of eight leaves; which child
comes first is free, since leaf values are added by tree and not by place.
Added here: another kind of node. Not here: reading the text (`model_text.py`), the walk itself, rows (`engine.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nightscore.scoring.model_text import (
    MISSING_NONE,
    MISSING_ZERO,
    ModelText,
    TreeText,
    UnsupportedModel,
    read_model_text,
)

Array = npt.NDArray[Any]

CODES = 254
"""Thresholds that one byte can tell apart; 255 is left for what always goes right."""
CLASSES = 127
"""Classes of categories that a set of 16 bytes holds, beside class 0 for all others."""
MAX_LEAVES, MAX_SLOTS = 2040, 4096
_BIAS, _FOUR_TIMES = 0x80, 0x01010101
NO_SLOT = -1

COLUMN = np.dtype(
    [("feature", "<i4"), ("first", "<i4"), ("count", "<i4"), ("above", "<i4"), ("below", "<i4"),
     ("is_category", "u1"), ("nan_code", "u1"), ("zero_is_missing", "u1"), ("zero_code", "u1")]
)  # fmt: skip
STRIKE = np.dtype([("slot", "<u4"), ("test", "<u4"), ("strike", "<u4")])
GROUP = np.dtype([("numbers_end", "<u4"), ("categories_end", "<u4")])
TREE = np.dtype([("first_group", "<i4"), ("bytes", "<i4"), ("first_leaf", "<i8")])


@dataclass(frozen=True)
class Forest:
    """The arrays of `quickscorer.c` for rows of so many `features`; `transform`: its kind and slope."""

    features: int
    outputs: int
    slots: int
    transform: tuple[int, float]
    columns: Array
    thresholds: Array
    classes: Array
    numbers: Array
    categories: Array
    sets: Array
    groups: Array
    trees: Array
    leaves: Array


@dataclass(frozen=True)
class _Node:
    """One node of one tree: what it asks, and the leaves [start, end) of its smaller subtree, which lies `left`."""

    tree: TreeText
    at: int
    start: int
    end: int
    left: bool


def compile_forest(text: str) -> Forest:
    """The forest of a model's text; raises UnsupportedModel with every reason why LightGBM must score it."""
    model = read_model_text(text)
    if any(len(tree.leaves) > MAX_LEAVES for tree in model.trees):
        raise UnsupportedModel([f"a tree has more than {MAX_LEAVES} leaves"])
    compiler = _Compiler(_Thresholds.of(model), _Classes.of(model))
    for tree in model.trees:
        compiler.add(tree)
    if compiler.slots > MAX_SLOTS:
        raise UnsupportedModel([f"its nodes need {compiler.slots} columns of codes, more than {MAX_SLOTS}"])
    return compiler.finish(model)


@dataclass(frozen=True)
class _Thresholds:
    """The distinct thresholds of each feature in ascending order."""

    by_feature: Mapping[int, Array]

    @classmethod
    def of(cls, model: ModelText) -> "_Thresholds":
        asked: dict[int, list[Array]] = {}
        for tree in model.trees:
            for feature in np.unique(tree.features[~tree.is_category]).tolist():
                own = ~tree.is_category & (tree.features == feature)
                asked.setdefault(feature, []).append(tree.thresholds[own])
        by_feature = {feature: np.unique(np.concatenate(parts)) for feature, parts in sorted(asked.items())}
        return cls(by_feature)


@dataclass(frozen=True)
class _Classes:
    """For each feature the class of each category: those that no node tells apart share one, 0 is in no set."""

    by_feature: Mapping[int, Array]

    @classmethod
    def of(cls, model: ModelText) -> "_Classes":
        asked: dict[int, list[Array]] = {}
        for tree in model.trees:
            for node, members in tree.members.items():
                asked.setdefault(int(tree.features[node]), []).append(members)
        return cls({feature: _tell_apart(sets) for feature, sets in sorted(asked.items())})

    def pages(self, feature: int) -> int:
        """How many sets of 16 bytes a node on the feature needs."""
        return max(1, -(-int(self.by_feature[feature].max(initial=0)) // CLASSES))


def _tell_apart(sets: list[Array]) -> Array:
    known = max((int(members.max(initial=-1)) for members in sets), default=-1) + 1
    belongs = np.zeros((known + 1, len(sets)), bool)
    for at, members in enumerate(sets):
        belongs[members, at] = True
    # The last row belongs nowhere, and sorts first.
    _, classes = np.unique(np.packbits(belongs, axis=1), axis=0, return_inverse=True)
    return np.asarray(classes.ravel()[:known])


@dataclass
class _Compiler:
    thresholds: _Thresholds
    classes: _Classes
    columns: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    padded: list[Array] = field(default_factory=list)
    class_tables: list[Array] = field(default_factory=list)
    sets: dict[bytes, int] = field(default_factory=dict)
    numbers: list[tuple[int, int, int]] = field(default_factory=list)
    categories: list[tuple[int, int, int]] = field(default_factory=list)
    groups: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    trees: list[tuple[int, int, int]] = field(default_factory=list)
    leaves: list[Array] = field(default_factory=list)
    slots: int = 0

    def add(self, tree: TreeText) -> None:
        """Compile one tree: for each byte of its leaves, last first, the strikes that fall into it."""
        nodes, places = self._lay_out(tree)
        size = len(tree.leaves)
        in_order = np.empty(size)
        in_order[places] = tree.leaves
        strikes: list[tuple[list[Any], list[Any]]] = [([], []) for _ in range(-(-size // 8))]
        for node in nodes:
            self._strike(node, strikes)
        self.trees.append((len(self.groups) - 1, len(strikes), sum(map(len, self.leaves))))
        self.leaves.append(in_order)
        for numbers, categories in reversed(strikes):
            self.numbers += sorted(numbers)
            self.categories += sorted(categories)
            self.groups.append((len(self.numbers), len(self.categories)))

    def _lay_out(self, tree: TreeText) -> tuple[list[_Node], Array]:
        """Nodes with the leaves that they strike, and the place of every leaf."""
        left, right = tree.left.tolist(), tree.right.tolist()
        sizes = [0] * len(left)
        for at in reversed(range(len(left))):  # a child is made after its parent
            sizes[at] = sum(sizes[child] if child >= 0 else 1 for child in (left[at], right[at]))
        starts, places, nodes = [0] * len(left), np.zeros(len(tree.leaves), np.int64), []
        for at in range(len(left)):
            size = sizes[left[at]] if left[at] >= 0 else 1
            left_first = self._left_comes_first(tree, at, 2 * size <= sizes[at])
            size = size if left_first else sizes[at] - size
            nodes.append(_Node(tree, at, starts[at], starts[at] + size, left_first))
            ordered = (left[at], right[at]) if left_first else (right[at], left[at])
            for child, start in zip(ordered, (starts[at], starts[at] + size), strict=True):
                if child >= 0:
                    starts[child] = start
                else:
                    places[-child - 1] = start
        return nodes, places

    def _left_comes_first(self, tree: TreeText, at: int, is_smaller: bool) -> bool:
        """Of a set of several pages only membership can be told page by page, which strikes what lies right."""
        if tree.is_category[at] and self.classes.pages(int(tree.features[at])) > 1:
            return False
        return is_smaller

    def _strike(self, node: _Node, strikes: list[tuple[list[Any], list[Any]]]) -> None:
        is_category = bool(node.tree.is_category[node.at])
        tests = self._sets_of(node) if is_category else [self._code_of(node)]
        for byte in range(node.start // 8, (node.end - 1) // 8 + 1):
            first, last = max(node.start - 8 * byte, 0), min(node.end - 8 * byte, 8)
            struck = ((1 << last) - (1 << first)) * _FOUR_TIMES
            strikes[byte][is_category].extend((slot, test, struck) for slot, test in tests)

    def _code_of(self, node: _Node) -> tuple[int, int]:
        """The slot, and the code that is exceeded there where the node strikes: by rows that go the other way."""
        tree, feature = node.tree, int(node.tree.features[node.at])
        rank = int(np.searchsorted(self.thresholds.by_feature[feature], tree.thresholds[node.at]))
        chunk, place = divmod(rank, CODES)
        missing = int(tree.missing[node.at])
        column = self._number_column(feature, chunk, missing, int(tree.default_left[node.at] and missing > 0))
        # Right is above the threshold; left is where 255 - code is above 254 - place.
        side, test = (3, place) if node.left else (4, CODES - place)
        if column[side] == NO_SLOT:
            column[side] = self._take(1)
        return column[side], (test ^ _BIAS) * _FOUR_TIMES

    def _number_column(self, *way: int) -> list[int]:
        if (0, *way) not in self.columns:
            self.columns[0, *way] = self._make_number_column(*way)
        return self.columns[0, *way]

    def _make_number_column(self, feature: int, chunk: int, missing: int, default_left: int) -> list[int]:
        own = self.thresholds.by_feature[feature][chunk * CODES : (chunk + 1) * CODES]
        default = 0 if default_left else 255
        # Without a way for missing values NaN counts as zero.
        nan = int(np.searchsorted(own, 0.0)) if missing == MISSING_NONE else default
        # A search of so many steps needs no look at where the thresholds end.
        padded = np.full(32 if len(own) < 32 else 256, np.inf)
        padded[: len(own)] = own
        first = sum(map(len, self.padded))
        self.padded.append(padded)
        return [feature, first, len(padded), NO_SLOT, NO_SLOT, 0, nan, int(missing == MISSING_ZERO), default]

    def _sets_of(self, node: _Node) -> list[tuple[int, int]]:
        """For each page the slot, and the set of classes whose rows the node strikes."""
        feature = int(node.tree.features[node.at])
        classes = self.classes.by_feature[feature]
        members = np.unique(classes[node.tree.members[node.at]])
        pages = self.classes.pages(feature)
        return [self._set_of(feature, page, members, node.left) for page in range(pages)]

    def _set_of(self, feature: int, page: int, members: Array, struck_outside: bool) -> tuple[int, int]:
        own = members[(members > page * CLASSES) & (members <= (page + 1) * CLASSES)] - page * CLASSES
        bits = np.zeros(128, np.uint8)
        bits[own] = 1
        packed = np.packbits(1 - bits if struck_outside else bits, bitorder="little").tobytes()
        return self._category_column(feature, page)[3], self.sets.setdefault(packed, len(self.sets))

    def _category_column(self, feature: int, page: int) -> list[int]:
        if (1, feature, page) not in self.columns:
            classes = self.classes.by_feature[feature] - page * CLASSES
            table = np.where((classes > 0) & (classes <= CLASSES), classes, 0).astype(np.uint8)
            slot, first = self._take(2), sum(map(len, self.class_tables))
            self.columns[1, feature, page] = [feature, first, len(table), slot, slot + 1, 1, 0, 0, 0]
            self.class_tables.append(table)
        return self.columns[1, feature, page]

    def _take(self, slots: int) -> int:
        self.slots += slots
        return self.slots - slots

    def finish(self, model: ModelText) -> Forest:
        """All trees as arrays."""
        return Forest(
            model.features, model.outputs, self.slots, model.transform,
            columns=np.array([tuple(one) for one in self.columns.values()], COLUMN),
            thresholds=np.concatenate([np.empty(0), *self.padded]),
            classes=np.concatenate([np.zeros(1, np.uint8), *self.class_tables])[1:].copy(),
            numbers=np.array(self.numbers, STRIKE), categories=np.array(self.categories, STRIKE),
            sets=np.frombuffer(b"".join(self.sets), np.uint8).copy(), groups=np.array(self.groups, GROUP),
            trees=np.array(self.trees, TREE), leaves=np.concatenate([np.empty(0), *self.leaves]),
        )  # fmt: skip
