"""Models as functions of columns, their trees walked by the kernel: a forest, a cascade of one, a mean of several.

Added here: another kind of model that trees are in. Not here: when the kernel is used at all (`engine.py`).
"""

from collections.abc import Callable, Sequence

import numpy as np

from nightscore.measures.metrics import Mask
from nightscore.scoring.forest import compile_forest
from nightscore.scoring.kernel import Kernel
from nightscore.scoring.model_text import UnsupportedModel
from nightscore.training.algorithms import Model
from nightscore.training.boosted import LightGbmModel
from nightscore.training.cascade import CascadeModel, link
from nightscore.training.ensemble import EnsembleModel, Member, recode_columns, weighted_mean
from nightscore.training.matrix import Vector

TREES = (LightGbmModel, CascadeModel)
Columns = Sequence[Vector]
Evaluate = Callable[[Columns], Vector]
"""Columns (rows,) in the model's order to scores (rows,), to the bit those that the model gives."""


def compile_model(model: Model, instructions: str) -> Evaluate:
    """The model's scores by the kernel; raises UnsupportedModel where nothing in it, or not all, can be walked so."""
    if isinstance(model, LightGbmModel):
        return _trees(_kernel(model, instructions))
    if isinstance(model, CascadeModel):
        return _cascade(model, _kernel(model.full, instructions))
    if isinstance(model, EnsembleModel) and any(isinstance(one.model, TREES) for one in model.members):
        return _ensemble(model, [_member(one, instructions) for one in model.members])
    raise UnsupportedModel(["the model has no trees of LightGBM's"])


def _kernel(model: LightGbmModel, instructions: str) -> Kernel:
    return Kernel.of(compile_forest(model.text), instructions)


def _trees(kernel: Kernel) -> Evaluate:
    def score(columns: Columns) -> Vector:
        return kernel.transform(kernel.add_trees(columns, 0, len(columns[0])))[:, 0]

    return score


def _cascade(model: CascadeModel, kernel: Kernel) -> Evaluate:
    """The rest of the trees is added to the sums of the first, for uncertain rows alone."""

    def score(columns: Columns) -> Vector:
        early = kernel.add_trees(columns, 0, len(columns[0]), (0, model.prefix))

        def go_on(rows: Mask) -> Vector:
            sums, chosen = early[rows], [column[rows] for column in columns]
            return kernel.add_trees(chosen, 0, len(sums), (model.prefix, len(kernel.forest.trees)), sums)[:, 0]

        return link(model.combine(early[:, 0].copy(), go_on))

    return score


def _ensemble(model: EnsembleModel, members: Sequence[Evaluate]) -> Evaluate:
    weights = [one.weight for one in model.members]

    def score(columns: Columns) -> Vector:
        own = [recode_columns(columns, model.encoding, one.encoding) for one in model.members]
        return weighted_mean(weights, [member(part) for member, part in zip(members, own, strict=True)])

    return score


def _member(member: Member, instructions: str) -> Evaluate:
    """A member without trees scores by its own code."""
    if isinstance(member.model, TREES):
        walked = compile_model(member.model, instructions)
        return lambda columns: member.calibrator.apply(walked(columns))
    return lambda columns: member.predict(np.column_stack(columns), 1)
