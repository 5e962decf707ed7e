"""LightGBM: fitting with every source of chance pinned, exact scores, and the function without its history.

Added here: a setting of LightGBM. Not here: anything that would let a thread count or a clock into a model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from nightscore.measures.metrics import log_loss, rmse
from nightscore.spec.base import Task
from nightscore.spec.training import LightGbm
from nightscore.training.matrix import Encoding, Examples, Matrix, Vector
from nightscore.training.predictor import Predictor

FUNCTION_LINES = (
    "num_leaves", "num_cat", "split_feature", "threshold", "decision_type", "left_child", "right_child",
    "leaf_value", "cat_boundaries", "cat_threshold",
)  # fmt: skip
"""The lines of a model file that decide scores; counts, gains and parameters are its history."""
CURVE_POINTS = 100
Objective = Task | Literal["cross_entropy"]
"""A task's own loss; cross entropy takes probabilities for labels, and scores as a binary task does."""


@dataclass(frozen=True)
class LightGbmModel:
    """Boosted trees, kept as LightGBM's own text."""

    text: str
    predictor: Predictor = field(repr=False, compare=False)
    file_name: str = "model.txt"

    @cached_property
    def booster(self) -> Any:
        """The model as LightGBM's Python package has it, for what is done after training."""
        from lightgbm import Booster

        return Booster(model_str=self.text)

    def to_bytes(self) -> bytes:
        """LightGBM's model text."""
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes, encoding: Encoding) -> Self:
        """The model in `data`; raises ValueError where its columns are not the encoding's, in the same order.

        LightGBM may end the process on damaged text: only for bytes that a probe has loaded before.
        """
        text = data.decode()
        predictor = Predictor(text)
        if (found := predictor.feature_names()) != encoding.names:
            raise ValueError(f"the model's columns are {list(found)}, expected {list(encoding.names)}")
        return cls(text, predictor)

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """Scores (rows,); equal for any number of threads."""
        return self.predictor.scores(matrix, threads)

    def raw(self, matrix: Matrix) -> Vector:
        """Summed leaf values (rows,): log odds for a binary task."""
        return self.predictor.scores(matrix, threads=1, raw=True)

    @property
    def trees(self) -> int:
        """How many trees are summed."""
        return self.predictor.iterations

    def raw_of_first(self, matrix: Matrix, trees: int, threads: int = 1) -> Vector:
        """Summed leaf values (rows,) of the first `trees`, bit for bit as if there were no others."""
        return self.predictor.scores(matrix, threads, raw=True, iterations=trees)

    def raw_after(self, matrix: Matrix, trees: Iterable[int]) -> Iterator[Vector]:
        """Summed leaf values (rows,) after each of so many `trees`, which ascend; each is summed once."""
        raw, start = np.zeros(len(matrix)), 0
        for end in trees:
            raw = raw + self.predictor.scores(matrix, threads=1, raw=True, start=start, iterations=end - start)
            start = end
            yield raw

    def first(self, trees: int, encoding: Encoding) -> Self:
        """The model of the first `trees` alone, in the same `encoding`."""
        return self.from_bytes(self.booster.model_to_string(num_iteration=trees).encode(), encoding)

    def contributions(self, matrix: Matrix, threads: int, trees: int = -1) -> tuple[Matrix, Vector]:
        """TreeSHAP of the first `trees`, or of all: contributions (rows, features) and base (rows,)."""
        found = self.predictor.contributions(matrix, threads, trees)
        return found[:, :-1], found[:, -1]

    def function_text(self) -> str:
        """Thresholds, children, leaf values and category bitsets of every tree."""
        trees = self.text.split("\nparameters:", 1)[0]
        return "\n".join(line for line in trees.splitlines() if line.split("=", 1)[0] in FUNCTION_LINES)

    def importance(self) -> dict[str, float]:
        """Total gain of the splits on each feature, in the model's order."""
        gains = self.booster.feature_importance(importance_type="gain")
        return dict(zip(self.booster.feature_name(), map(float, gains), strict=True))


def fit_lightgbm(algorithm: LightGbm, examples: Examples, objective: Objective, seed: int) -> LightGbmModel:
    """Trees fitted to `examples`; the same bytes for the same input."""
    import lightgbm

    data = lightgbm.Dataset(
        examples.matrix,
        examples.labels,
        feature_name=list(examples.encoding.names),
        categorical_feature=list(examples.encoding.category_indexes),
    )
    booster = lightgbm.train(_parameters(algorithm, objective, seed), data, num_boost_round=algorithm.trees)
    return LightGbmModel.from_bytes(booster.model_to_string().encode(), examples.encoding)


def learning_curve(model: LightGbmModel, fit: Examples, held_out: Examples, task: Task) -> dict[str, Any]:
    """Loss on `fit` and on `held_out` after so many trees: `metric`, `iterations`, `fit`, `held_out`.

    Read off the finished trees, so that watching the fit cannot change it; at most 100 points.
    """
    trees = model.trees
    ends = np.unique(np.linspace(1, trees, min(CURVE_POINTS, trees)).round().astype(np.int64)).tolist()
    return {
        "metric": "log_loss" if task == "binary" else "rmse",
        "iterations": ends,
        "fit": _losses(model, fit, ends, task),
        "held_out": _losses(model, held_out, ends, task),
    }


def _losses(model: LightGbmModel, examples: Examples, ends: list[int], task: Task) -> list[float | None]:
    from scipy.special import expit

    labels = examples.labels
    return [
        log_loss(labels, expit(raw)) if task == "binary" else rmse(labels, raw)
        for raw in model.raw_after(examples.matrix, ends)
    ]


def _parameters(algorithm: LightGbm, objective: Objective, seed: int) -> dict[str, object]:
    return {
        "objective": objective,
        "num_leaves": algorithm.leaves,
        "learning_rate": algorithm.learning_rate,
        "min_data_in_leaf": algorithm.min_rows_in_leaf,
        "feature_fraction": algorithm.feature_fraction,
        "bagging_fraction": algorithm.bagging_fraction,
        "bagging_freq": 0 if algorithm.bagging_fraction == 1 else 1,
        "lambda_l2": algorithm.l2,
        "num_threads": algorithm.threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "feature_pre_filter": False,
        "verbosity": -1,
    }
