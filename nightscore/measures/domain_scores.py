"""Scores of a classifier that tells two domains apart, each row's by trees that never saw its date.

Settings leave nothing to chance: one thread, a fixed seed, rows in their order. The same rows, the same scores.
Added here: how the classifier is fitted and scored. Not here: what its AUC means (`domain.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.bins import to_vector
from nightscore.measures.bootstrap import Codes, Matrix
from nightscore.measures.metrics import Mask, Vector, roc_auc
from nightscore.measures.profiles import Kind

FOLDS = 5
TREES = 40
_PARTS = 70
"""A leaf has one in so many rows at least: what a handful of rows do is no shift of a column."""


@dataclass(frozen=True)
class Domains:
    """Rows of both domains: `matrix` (rows, columns), `current` where a row is of this week, and its `fold`."""

    matrix: Matrix
    current: Vector
    fold: Codes
    kinds: Mapping[str, Kind]


@dataclass(frozen=True)
class Scored:
    """Out-of-fold scores (rows,), the AUC within folds, and for each column that with its values shuffled."""

    scores: Vector
    auc: float | None
    shuffled: Vector


def make_domains(old: pl.DataFrame, new: pl.DataFrame, kinds: Mapping[str, Kind], date_column: str) -> Domains:
    """The rows of `old`, then of `new`, with the columns `kinds` as numbers and dates dealt to folds in turn."""
    columns = [_encoded(old, new, name, kind) for name, kind in kinds.items()]
    return Domains(
        matrix=np.column_stack(columns),
        current=np.repeat([0.0, 1.0], [len(old), len(new)]),
        fold=np.concatenate([_date_folds(side[date_column]) for side in (old, new)]),
        kinds=kinds,
    )


def texts(old: pl.DataFrame, new: pl.DataFrame, name: str) -> pl.Series:
    """The column of both sides as text."""
    return pl.concat([side[name].cast(pl.String) for side in (old, new)])


def score_out_of_fold(domains: Domains, shuffle: bool) -> Scored:
    """Each fold scored by trees fitted to the others; AUC is the mean over folds, weighted by pairs of rows.

    A fold with dates of one side only is not scored. `shuffle` also scores every column's values in random order.
    """
    scores, width = np.full(len(domains.current), np.nan), domains.matrix.shape[1]
    aucs: list[Vector] = []
    weights: list[float] = []
    for fold in range(FOLDS):
        held = domains.fold == fold
        labels = domains.current[held]
        if not 0 < labels.sum() < len(labels):
            continue
        booster, matrix = _fit(domains, ~held), domains.matrix[held]
        scores[held] = booster.predict(matrix, num_threads=1)
        auc = roc_auc(labels, scores[held])
        others = _aucs_shuffled(booster, matrix, labels, auc) if shuffle else [np.nan] * width
        aucs.append(np.array([auc, *others], np.float64))
        weights.append(float(labels.sum() * (1 - labels).sum()))
    if not aucs:
        return Scored(scores, None, np.full(width, np.nan))
    mean = np.average(aucs, axis=0, weights=weights)
    return Scored(scores, float(mean[0]), mean[1:])


def _fit(domains: Domains, rows: Mask) -> Any:
    import lightgbm

    categories = [at for at, kind in enumerate(domains.kinds.values()) if kind == "category"]
    parameters = _parameters(int(rows.sum()))
    data = lightgbm.Dataset(
        domains.matrix[rows], domains.current[rows], categorical_feature=categories, params=parameters
    )
    return lightgbm.train(parameters, data, num_boost_round=TREES)


def _parameters(rows: int) -> dict[str, object]:
    """Coarse on purpose: ten bins a number, eight leaves, and every part of a tree of many rows.

    Finer trees learn a timetable by heart, so that each season is told from the last as surely as a fault.
    """
    leaf = max(10, rows // _PARTS)
    return {
        "objective": "binary",
        "num_leaves": 8,
        "max_bin": 10,
        "min_data_in_bin": 1,
        "learning_rate": 0.1,
        "min_data_in_leaf": leaf,
        "min_data_per_group": max(1, leaf // 3),
        "cat_smooth": leaf / 3,
        "lambda_l2": 1.0,
        "num_threads": 1,
        "seed": 0,
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,
        "verbosity": -1,
    }


def _aucs_shuffled(booster: Any, matrix: Matrix, labels: Vector, auc: float | None) -> list[float | None]:
    """Of each column; one that no tree asks for changes nothing."""
    used = enumerate(booster.feature_importance().tolist())
    return [_auc_shuffled(booster, matrix, labels, column) if splits else auc for column, splits in used]


def _auc_shuffled(booster: Any, matrix: Matrix, labels: Vector, column: int) -> float | None:
    changed = matrix.copy()
    changed[:, column] = np.random.default_rng(column).permutation(changed[:, column])
    return roc_auc(labels, np.asarray(booster.predict(changed, num_threads=1)))


def _date_folds(dates: pl.Series) -> Codes:
    """Dates in turn, so that each fold has some of every part of the time."""
    return (dates.rank("dense").cast(pl.Int64).to_numpy() - 1) % FOLDS


def _encoded(old: pl.DataFrame, new: pl.DataFrame, name: str, kind: Kind) -> Vector:
    """Numbers and booleans as they are, levels by their place in order; NaN where missing."""
    if kind != "category":
        return np.concatenate([to_vector(side[name]) for side in (old, new)])
    column = texts(old, new, name)
    levels = column.drop_nulls().unique().sort().to_list()
    places = {level: float(place) for place, level in enumerate(levels)}
    return column.replace_strict(places, default=None, return_dtype=pl.Float64).to_numpy()
