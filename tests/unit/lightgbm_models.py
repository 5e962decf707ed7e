"""Small LightGBM models of every kind, and values that lie where a kernel could go wrong."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nightscore.scoring.model_text import read_model_text

Array = npt.NDArray[Any]

ZERO = float(np.float32(1e-35))
"""What LightGBM takes for zero, up to this."""
EDGES = (
    np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-36, -1e-36, ZERO, -ZERO, np.nextafter(ZERO, 1),
    np.nextafter(-ZERO, -1), 1e300, -1e300, -1.0, np.nextafter(-1, 0), -0.5, 0.5, 1.7, 31.0, 32.0, 63.0, 64.0, 127.0,
    128.0, 255.0, 256.0, 1e9, 2.0**31 - 1, 2.0**31, 3e9, 2.0**32 + 1, 2.0**63, 1e19,
)  # fmt: skip
LABELS = {
    "binary": 2, "cross_entropy": 2, "multiclass": 3, "multiclassova": 3, "lambdarank": 3, "rank_xendcg": 3,
    "poisson": 5, "tweedie": 5,
}  # fmt: skip
MANY_LEAVES = {"min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0}
MANY_CATEGORIES = {
    "min_data_per_group": 1,
    "cat_smooth": 0.0,
    "cat_l2": 0.0,
    "max_cat_threshold": 400,
    "min_data_in_bin": 1,
}


def make_values(kinds: str, rows: int, seed: int) -> Array:
    """(rows, columns): f float64, n with NaN, z with many zeros, i integers, c and C few and many categories."""
    random = np.random.default_rng(seed)
    of_kind = {
        "f": lambda: random.normal(size=rows),
        "n": lambda: np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
        "z": lambda: np.where(random.random(rows) < 0.4, 0.0, random.normal(size=rows)),
        "i": lambda: random.integers(-3, 12, rows).astype(float),
        "c": lambda: random.integers(0, 9, rows).astype(float),
        "C": lambda: random.integers(0, 700, rows).astype(float),
    }
    return np.column_stack([of_kind[kind]() for kind in kinds])


@cache
def train(
    kinds: str, rows: int = 300, trees: int = 3, seed: int = 0, objective: str = "regression", **settings: Any
) -> str:
    """The text of a model of such columns, trained on targets that depend on each."""
    import lightgbm

    random, values = np.random.default_rng([seed, 1]), make_values(kinds, rows, seed)
    signal = np.nan_to_num(np.sin(1.7 * values)).sum(axis=1) + random.normal(size=rows)
    classes = LABELS.get(objective)
    target = np.argsort(np.argsort(signal)) * classes // rows if classes else np.exp(signal / 4)
    categories = [at for at, kind in enumerate(kinds) if kind in "cC"]
    data = lightgbm.Dataset(values, target, categorical_feature=categories, free_raw_data=True)
    if objective in {"lambdarank", "rank_xendcg"}:
        data.set_group([rows])
    if objective.startswith("multiclass"):
        settings["num_class"] = classes
    fixed = {"objective": objective, "verbosity": -1, "num_threads": 1, "seed": seed}
    return str(lightgbm.train({**fixed, **settings}, data, trees).model_to_string())


def make_adversarial(text: str, rows: int, seed: int = 0) -> Array:
    """(rows, features): thresholds of the model, their neighbours, categories, edges of every kind, mixed at random."""
    model, random = read_model_text(text), np.random.default_rng(seed)
    columns = []
    for feature in range(model.features):
        own = model.threshold[(model.feature == feature) & ~model.is_category]
        codes = model.members[1][model.feature[model.members[0]] == feature]
        with np.errstate(over="ignore"):
            narrow = own.astype(np.float32).astype(np.float64)
        near = [np.nextafter(own, -np.inf), own, np.nextafter(own, np.inf), -own, narrow]
        pool = np.concatenate(
            [*near, codes, codes + 0.5, np.arange(codes.max(initial=0) + 2), EDGES, random.normal(size=9)]
        )
        columns.append(pool[random.integers(0, len(pool), rows)])
    return np.column_stack(columns)


def predict(text: str, values: Array, **how: Any) -> Array:
    """LightGBM's own scores, (rows, outputs)."""
    import lightgbm

    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(values, num_threads=1, **how)).reshape(len(values), -1)


def edit(text: str, changes: Mapping[str, str]) -> str:
    """The text with lines replaced by key, in every tree; without the trees' sizes, as wrong ones abort LightGBM."""
    lines = [line.partition("=") for line in text.split("\n") if not line.startswith("tree_sizes=")]
    return "\n".join(
        f"{key}={changes[key]}" if equals and key in changes else key + equals + rest for key, equals, rest in lines
    )


def split_columns(values: Array) -> Sequence[Array]:
    """Each column by itself, without gaps."""
    return [np.ascontiguousarray(column) for column in values.T]
