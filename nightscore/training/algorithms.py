"""What every model can do, which algorithms exist, and how each is fitted from its spec.

Added here: a new algorithm's line in the two tables below; its code goes to a file of its own.
Not here: evaluation (`evaluate.py`) or storage of the capsule around a model (`nightscore/registry`).
"""

import json
import math
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from nightscore.spec.base import Task
from nightscore.spec.training import Alone, Constant, LightGbm, Linear
from nightscore.training.boosted import LightGbmModel, fit_lightgbm
from nightscore.training.cascade import CascadeModel
from nightscore.training.linear import LinearModel, fit_linear
from nightscore.training.matrix import Encoding, Examples, Matrix, Vector
from nightscore.training.rule import RuleModel, fit_rule


class Model(Protocol):
    """A fitted model; its scores depend on a row's own values alone, bit for bit."""

    @property
    def file_name(self) -> str:
        """The file that holds the model in a capsule."""

    def to_bytes(self) -> bytes:
        """The model's file; the same for the same model."""

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """Scores (rows,): a probability for a binary task, the value for regression."""

    def raw(self, matrix: Matrix) -> Vector:
        """Scores (rows,) before the link function."""

    def function_text(self) -> str:
        """What decides the scores, and nothing else: equal text, equal function."""


@dataclass(frozen=True)
class ConstantModel:
    """The same score for every row."""

    value: float
    file_name: str = "model.json"

    def to_bytes(self) -> bytes:
        """The value as JSON."""
        return json.dumps({"value": self.value}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`; raises ValueError for anything but a finite number."""
        value = float(json.loads(data)["value"])
        if not math.isfinite(value):
            raise ValueError(f"the constant is {value}, expected a finite number")
        return cls(value)

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """The value, once a row."""
        return np.full(matrix.shape[0], self.value)

    def raw(self, matrix: Matrix) -> Vector:
        """The same as `predict`; there is no link."""
        return self.predict(matrix)

    def function_text(self) -> str:
        """The value, exactly."""
        return self.value.hex()


def fit_algorithm(algorithm: Alone, examples: Examples, task: Task, seed: int) -> Model:
    """`algorithm` fitted to `examples`, in the order given.

    The row order is part of the result: the caller sorts rows by key. Raises SpecError for a rule that cannot be
    evaluated.
    """
    if isinstance(algorithm, LightGbm):
        return fit_lightgbm(algorithm, examples, task, seed)
    if isinstance(algorithm, Constant):
        return ConstantModel(math.fsum(examples.labels) / len(examples.labels))
    if isinstance(algorithm, Linear):
        return fit_linear(algorithm, examples, task)
    return fit_rule(algorithm, examples, task)


def read_model(algorithm_type: str, data: bytes, encoding: Encoding) -> Model:
    """The model that `to_bytes` of an `algorithm_type` wrote; raises ValueError where it does not fit `encoding`.

    LightGBM ends the whole process on some damaged files, so strange bytes go through `registry.verify` first.
    """
    if algorithm_type == "lightgbm":
        return LightGbmModel.from_bytes(data, encoding)
    if algorithm_type == "cascade":
        return CascadeModel.from_bytes(data, encoding)
    if algorithm_type == "linear":
        return LinearModel.from_bytes(data, encoding)
    if algorithm_type == "constant":
        return ConstantModel.from_bytes(data)
    if algorithm_type == "rule":
        return RuleModel.from_bytes(data, encoding)
    if algorithm_type == "ensemble":
        from nightscore.training.ensemble import EnsembleModel  # it reads its members with this very function

        return EnsembleModel.from_bytes(data, encoding)
    raise ValueError(f"algorithm {algorithm_type} is unknown")


def algorithm_of(model: Model) -> str:
    """The `algorithm_type` that `read_model` wants for the model's file."""
    return next(algorithm for algorithm, name in MODEL_FILES.items() if name == model.file_name)


MODEL_FILES = {
    "lightgbm": "model.txt", "linear": "model.skops", "constant": "model.json", "rule": "model.rule.json",
    "ensemble": "model.ensemble.json", "cascade": "model.cascade.json",
}  # fmt: skip
"""The file that holds each algorithm's model in a capsule."""
