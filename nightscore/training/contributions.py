"""How much each feature moved each score: the parts that a raw score is the sum of, per kind of model.

Added here: a kind of model that lives in this package; any other model brings a method `contributions` of its own.
Not here: words for readers (`nightscore/scoring/reasons.py`), or importance as training counts it (`boosted.py`).
"""

from typing import Protocol, runtime_checkable

import numpy as np

from nightscore.errors import FeatureBuildFailed, SpecError
from nightscore.training.algorithms import ConstantModel, Model
from nightscore.training.linear import LinearModel
from nightscore.training.matrix import Encoding, Matrix, Vector
from nightscore.training.rule import RuleModel


@runtime_checkable
class Explains(Protocol):
    """A model that takes its own scores apart."""

    def contributions(self, matrix: Matrix, threads: int) -> tuple[Matrix, Vector]:
        """Contributions (rows, features) and base (rows,) that add up to `raw`; equal for any number of threads."""


def contributions(model: Model, matrix: Matrix, encoding: Encoding, threads: int = 1) -> tuple[Matrix, Vector]:
    """Contributions (rows, features) and base (rows,) whose sum is `model.raw(matrix)`, but for rounding.

    In units of the raw score: log odds for a binary task, the label's unit for regression. A row's parts depend on
    its own values alone, bit for bit. Trees are compared with the mean over their training rows (TreeSHAP); a linear
    model's numbers with their training mean, its categories with no category at all. A constant and a rule
    have zeros: their score is all base.
    Raises SpecError for a model that cannot be taken apart, FeatureBuildFailed where `matrix` is not the encoding's.
    """
    _check_width(matrix, encoding)
    if isinstance(model, LinearModel):
        return _of_terms(model, matrix)
    if isinstance(model, ConstantModel | RuleModel):
        return np.zeros(matrix.shape), model.raw(matrix)
    if isinstance(model, Explains):
        return model.contributions(matrix, threads)
    raise SpecError(
        "explaining scores",
        f"{type(model).__name__} cannot be taken apart into its features' contributions",
        "switch reasons off in the spec, or choose an algorithm that has them, such as lightgbm or linear",
    )


def _of_terms(model: LinearModel, matrix: Matrix) -> tuple[Matrix, Vector]:
    # A standardised number is 0 at its mean, so a term's value is already its distance from there.
    parts = np.zeros(matrix.shape)
    for term in model.terms:
        term.add_to(parts[:, term.column], matrix)
    return parts, np.full(matrix.shape[0], model.intercept)


def _check_width(matrix: Matrix, encoding: Encoding) -> None:
    if matrix.shape[1] != len(encoding.names):
        raise FeatureBuildFailed(
            "explaining scores",
            f"the matrix has {matrix.shape[1]} columns, expected {len(encoding.names)}: {', '.join(encoding.names)}",
            "encode the features with the model's own encoding",
        )
