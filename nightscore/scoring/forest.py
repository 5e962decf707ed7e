"""A LightGBM model as the arrays that `quickscorer.c` walks: values become codes, nodes become strikes of leaves.

Every node strikes the smaller of its subtrees, so that most strikes fall into one byte of eight leaves; which child
comes first is free, since leaf values are added by tree and not by place.
Added here: another kind of node. Not here: reading the text (`model_text.py`), the walk itself, rows (`engine.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nightscore.scoring.model_text import (
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    ModelText,
    UnsupportedModel,
    read_model_text,
)

Array = npt.NDArray[Any]

CODES = 254
"""Thresholds that one byte can tell apart; 255 is left for what always goes right."""
CLASSES = 127
"""Classes of categories that a set of 16 bytes holds, beside class 0 for all others."""
MAX_LEAVES, MAX_SLOTS = 2040, 4096
NO_SLOT = -1
_BIAS, _FOUR_TIMES = 0x80, 0x01010101

COLUMN = np.dtype(
    [("feature", "<i4"), ("first", "<i4"), ("count", "<i4"), ("above", "<i4"), ("below", "<i4"),
     ("is_category", "u1"), ("nan_code", "u1"), ("zero_code", "u1"), ("unused", "u1")]
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
class _Layout:
    """By node the leaves [start, end) of the subtree that it strikes, and whether that is its left one.

    `places`: where each leaf stands in its tree.
    """

    start: Array
    end: Array
    left_first: Array
    places: Array


@dataclass(frozen=True)
class _Tests:
    """When nodes strike: arrays of nodes, slots of codes and what is asked of these; the columns that they need."""

    columns: Sequence[tuple[int, ...]]
    table: Array
    node: Array
    slot: Array
    test: Array


def compile_forest(text: str) -> Forest:
    """The forest of a model's text.

    Raises UnsupportedModel with every reason why LightGBM must score it, ValueError for damaged text.
    """
    model = read_model_text(text)
    if (model.sizes > MAX_LEAVES).any():
        raise UnsupportedModel([f"a tree has more than {MAX_LEAVES} leaves"])
    classes = _classes(model)
    layout = _lay_out(model, _needs_pages(model, classes))
    numbers = _test_numbers(model, layout)
    first_slot = 1 + int(numbers.slot.max(initial=-1))
    categories, sets = _test_categories(model, layout, classes, first_slot)
    slots = first_slot + 2 * len(categories.columns)
    if slots > MAX_SLOTS:
        raise UnsupportedModel([f"its nodes need {slots} columns of codes, more than {MAX_SLOTS}"])
    (by_number, numbers_end), (by_category, categories_end) = (
        _strike(model, layout, tests) for tests in (numbers, categories)
    )
    return Forest(
        model.features, model.outputs, slots, model.transform,
        columns=np.array([*numbers.columns, *categories.columns], COLUMN), thresholds=numbers.table,
        classes=categories.table, numbers=by_number, categories=by_category, sets=sets,
        groups=_records(GROUP, numbers_end, categories_end), trees=_trees(model), leaves=_leaves(model, layout),
    )  # fmt: skip


def _lay_out(model: ModelText, right_first: Array) -> _Layout:
    """The smaller subtree of each node comes first, except that it is the right one where it must be."""
    nodes, left, right = len(model.feature), model.left, model.right
    spans, starts = np.ones(nodes + len(model.leaves), np.int64), np.zeros(nodes + len(model.leaves), np.int64)
    levels = [np.flatnonzero(np.diff(model.tree, prepend=-1))]
    while len(levels[-1]):
        children = np.concatenate([left[levels[-1]], right[levels[-1]]])
        levels.append(children[children < nodes])
    for level in reversed(levels):
        spans[level] = spans[left[level]] + spans[right[level]]
    left_first = (spans[left] <= spans[right]) & ~right_first
    first, second = np.where(left_first, left, right), np.where(left_first, right, left)
    for level in levels:
        starts[first[level]] = starts[level]
        starts[second[level]] = starts[level] + spans[first[level]]
    return _Layout(starts[:nodes], starts[:nodes] + spans[first], left_first, starts[nodes:])


def _test_numbers(model: ModelText, layout: _Layout) -> _Tests:
    """The code that is exceeded where a node strikes, which rows do that go the other way."""
    nodes = np.flatnonzero(~model.is_category)
    feature, missing, above = model.feature[nodes], model.missing[nodes], layout.left_first[nodes]
    default_left = model.default_left[nodes] & (missing != MISSING_NONE)
    distinct, rank = {}, np.zeros(len(nodes), np.int64)
    for one in np.unique(feature).tolist():
        own = feature == one
        distinct[one], rank[own] = np.unique(model.threshold[nodes[own]], return_inverse=True)
    chunk, place = np.divmod(rank, CODES)
    shape = (model.features, int(chunk.max(initial=0)) + 1, 3, 2)
    ways, way = np.unique(np.ravel_multi_index((feature, chunk, missing, default_left), shape), return_inverse=True)
    # Right is above the threshold; left is where 255 - code is above 254 - place.
    sides, slot = np.unique(2 * way + ~above, return_inverse=True)
    slots = {side: at for at, side in enumerate(sides.tolist())}
    columns: list[tuple[int, ...]] = []
    tables, filled = [np.empty(0)], 0
    for at, (of, part, *rest) in enumerate(np.stack(np.unravel_index(ways, shape), axis=1).tolist()):
        thresholds = distinct[of][part * CODES : (part + 1) * CODES]
        tables.append(_pad(thresholds))
        sizes = filled, len(tables[-1]), slots.get(2 * at, NO_SLOT), slots.get(2 * at + 1, NO_SLOT)
        columns.append((of, *sizes, 0, *_codes_of_nan_and_zero(thresholds, *rest), 0))
        filled += len(tables[-1])
    test = (np.where(above, place, CODES - place) ^ _BIAS) * _FOUR_TIMES
    return _Tests(columns, np.concatenate(tables), nodes, slot, test)


def _pad(thresholds: Array) -> Array:
    """A search of so many steps needs no look at where the thresholds end."""
    padded = np.full(16 if len(thresholds) < 16 else 256, np.inf)
    padded[: len(thresholds)] = thresholds
    return padded


def _codes_of_nan_and_zero(thresholds: Array, missing: int, default_left: int) -> tuple[int, int]:
    """Without a way for missing values NaN counts as zero."""
    default = 0 if default_left else 255
    zero = default if missing == MISSING_ZERO else int(np.searchsorted(thresholds, 0.0))
    return default if missing == MISSING_NAN else zero, zero


def _classes(model: ModelText) -> dict[int, Array]:
    """For each feature the class of each category: those that no node tells apart share one, 0 is in no set."""
    node, category = model.members
    classes = {}
    for feature in np.unique(model.feature[model.is_category]).tolist():
        own = model.feature[node] == feature
        order = np.argsort(category[own], kind="stable")
        known, firsts = np.unique(category[own][order], return_index=True)
        seen: dict[bytes, int] = {}
        classes[feature] = np.zeros(int(known.max(initial=-1)) + 1, np.int64)
        for one, sets in zip(known.tolist(), np.split(node[own][order], firsts[1:]), strict=False):
            classes[feature][one] = seen.setdefault(sets.tobytes(), len(seen) + 1)
    return classes


def _pages(classes: Array) -> int:
    """How many sets of 16 bytes say which classes a node knows."""
    return max(1, -(-int(classes.max(initial=0)) // CLASSES))


def _needs_pages(model: ModelText, classes: Mapping[int, Array]) -> Array:
    """Where only membership can be told, page by page, which strikes what lies right."""
    return np.isin(model.feature, [one for one, own in classes.items() if _pages(own) > 1]) & model.is_category


def _test_categories(
    model: ModelText, layout: _Layout, classes: Mapping[int, Array], slot: int
) -> tuple[_Tests, Array]:  # fmt: skip
    """The set of classes whose rows a node strikes, page by page; and the sets."""
    columns: list[tuple[int, ...]] = []
    tables, filled = [np.empty(0, np.uint8)], 0
    nodes, slots, sets = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty((0, 16), np.uint8)]
    for feature, own in classes.items():
        pages, (page, place) = _pages(own), np.divmod(own - 1, CLASSES)
        node, at, bits = _sets_of(model, layout, feature, own, pages)
        nodes.append(node)
        slots.append(slot + 2 * at)
        sets.append(bits)
        for one in range(pages):
            tables.append(np.where(page == one, place + 1, 0).astype(np.uint8))
            columns.append((feature, filled, len(own), slot, slot + 1, 1, 0, 0, 0))
            filled, slot = filled + len(own), slot + 2
    distinct, test = np.unique(np.concatenate(sets), axis=0, return_inverse=True)
    found = _Tests(columns, np.concatenate(tables), np.concatenate(nodes), np.concatenate(slots), test.ravel())
    return found, distinct.ravel()


def _sets_of(
    model: ModelText, layout: _Layout, feature: int, classes: Array, pages: int
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Of each node of the feature the pages that can strike: nodes, pages, sets of 16 bytes."""
    nodes = np.flatnonzero(model.is_category & (model.feature == feature))
    node, category = model.members[:, model.feature[model.members[0]] == feature]
    page, place = np.divmod(classes[category] - 1, CLASSES)
    # A node of one page has a set also where it knows no category.
    keys, row = np.unique(np.concatenate([node * pages + page, nodes * pages]), return_inverse=True)
    bits = np.zeros((len(keys), 128), np.uint8)
    bits[row[: len(place)], place + 1] = 1
    bits[layout.left_first[keys // pages]] ^= 1
    keep = bits.any(axis=1)
    return keys[keep] // pages, keys[keep] % pages, np.packbits(bits[keep], axis=1, bitorder="little")


def _strike(model: ModelText, layout: _Layout, tests: _Tests) -> tuple[Array, Array]:
    """For each byte of a tree's leaves, the last byte first, the strikes that fall into it; and where these end."""
    start, end = layout.start[tests.node], layout.end[tests.node]
    counts = (end - 1) // 8 - start // 8 + 1
    at = np.repeat(np.arange(len(counts)), counts)
    byte = (start // 8)[at] + np.arange(len(at)) - (np.cumsum(counts) - counts)[at]
    first, last = np.maximum(start[at] - 8 * byte, 0), np.minimum(end[at] - 8 * byte, 8)
    struck = ((1 << last) - (1 << first)) * _FOUR_TIMES
    ends = np.cumsum(_bytes(model))
    group = ends[model.tree[tests.node]][at] - 1 - byte
    order = np.lexsort((struck, tests.test[at], tests.slot[at], group))
    strikes = _records(STRIKE, tests.slot[at][order], tests.test[at][order], struck[order])
    return strikes, np.concatenate([[0], np.cumsum(np.bincount(group, minlength=int(_bytes(model).sum())))])


def _bytes(model: ModelText) -> Array:
    return -(-model.sizes // 8)


def _trees(model: ModelText) -> Array:
    bytes_ = _bytes(model)
    return _records(TREE, np.cumsum(bytes_) - bytes_, bytes_, np.cumsum(model.sizes) - model.sizes)


def _leaves(model: ModelText, layout: _Layout) -> Array:
    leaves = np.empty(len(model.leaves))
    leaves[np.repeat(np.cumsum(model.sizes) - model.sizes, model.sizes) + layout.places] = model.leaves
    return leaves


def _records(kind: np.dtype[Any], *fields: Array) -> Array:
    records = np.empty(len(fields[0]), kind)
    for name, values in zip(kind.names or (), fields, strict=True):
        records[name] = values
    return records
