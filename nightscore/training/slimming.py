"""Slimming: fewer trees for the same recipe, pruned to the first ones or learnt anew from what the model says.

How many trees are needed is read off training-side dates, by a model that never learnt them; the held-out dates, scored
by slimmed models of their folds' past, then say what it costs. Pure: rows and models in, a trained model out.
Added here: another way to be smaller. Not here: which versions may be slimmed (`nightscore/registry/slimming.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl

from nightscore.errors import NotEnoughData, PromotionRefused
from nightscore.measures.paired import losses
from nightscore.spec.base import Task
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import LightGbm
from nightscore.training.boosted import LightGbmModel, fit_lightgbm
from nightscore.training.evaluate import Scored, labels_of
from nightscore.training.fit import (
    HELD_OUT_SCORE,
    Fitted,
    Trained,
    assemble,
    calibrated,
    examples_of,
    fit_folds,
    rows_of,
    score_folds,
    sort_rows,
)
from nightscore.training.folds import Split, split_dates
from nightscore.training.matrix import SCORE_DATE, Encoding, Examples, Vector

CAUTION = 0.5
"""Trees are chosen within so much of what may be lost, since other dates come out otherwise."""
FASTER = 4.0
"""A student takes larger steps than its teacher, having fewer."""
_MOST_LEARNING_RATE = 0.3

Kind = Literal["pruned", "distilled"]


@dataclass(frozen=True)
class Diet:
    """How a model becomes smaller: its first `trees`, or as many that learn its predictions."""

    kind: Kind
    trees: int

    def apply(
        self, full: LightGbmModel, examples: Examples, algorithm: LightGbm, task: Task, seed: int
    ) -> LightGbmModel:
        """The smaller model; `examples` are what `full` was fitted to."""
        if self.kind == "pruned":
            return full.first(self.trees, examples.encoding)
        return _teach(full, examples, algorithm, self.trees, task, seed)


def slim(
    frame: pl.DataFrame, pipeline: Pipeline, algorithm: LightGbm, model: tuple[LightGbmModel, Encoding],
    held_out: pl.DataFrame, max_loss: float,
) -> Trained:  # fmt: skip
    """`model` with its encoding made smaller and measured as any trained one; `metrics["slimming"]` has what it cost.

    `frame` is its training set, `algorithm` how it was fitted, `held_out` its stored scores of held-out rows: the folds
    are fitted again, and must say the same. Raises PromotionRefused with the figures where it cannot be made smaller
    at a loss below `max_loss` (a share of the loss), NotEnoughData where no dates are left to choose by.
    """
    rows = sort_rows(frame, pipeline)
    split = split_dates(rows[SCORE_DATE].unique().sort().to_list(), pipeline)
    folds = fit_folds(rows, split, pipeline, algorithm)
    whole = score_folds(rows, split, folds)
    _require_same(whole.scores, held_out[HELD_OUT_SCORE].to_numpy())
    diet, tried = choose_diet(rows, split.folds[0].fit, pipeline, algorithm, CAUTION * max_loss)
    small = [_slimmed(one, rows, fold.fit, split, pipeline, algorithm, diet)
             for one, fold in zip(folds, split.folds, strict=True)]  # fmt: skip
    late = rows_of(rows, split.held_out)
    figures = _figures(late, whole, score_folds(rows, split, small), pipeline)
    figures |= {
        "kind": diet.kind, "trees": diet.trees, "full_trees": model[0].trees, "max_loss_share": max_loss,
        "saved_share": 1 - diet.trees / model[0].trees, **tried,
    }  # fmt: skip
    _require_worth(figures)
    final = _slimmed(Fitted(*model), rows, split.learn, split, pipeline, algorithm, diet)
    made = assemble(rows, split, small, final, pipeline)
    return replace(made, metrics=made.metrics | {"slimming": figures})


def choose_diet(
    rows: pl.DataFrame, dates: Sequence[date], pipeline: Pipeline, algorithm: LightGbm, max_loss: float
) -> tuple[Diet, dict[str, int]]:
    """The smaller of a pruned and a distilled model of equal leaves, and the trees that either needs.

    The last of `dates` judge a model of those before them.
    """
    inner = _inner_split(dates, pipeline)
    seed, task = pipeline.training.seed, pipeline.task
    (full,) = fit_folds(rows, inner, _without_calibration(pipeline), algorithm)
    assert isinstance(full.model, LightGbmModel)
    learnt, judged = (examples_of(rows_of(rows, part), full.encoding, pipeline)
                      for part in (inner.folds[0].fit, inner.held_out))  # fmt: skip
    by_trees = _losses_by_trees(full.model, judged, task)
    allowed = (1 + max_loss) * by_trees[-1]
    pruned = _fewest(by_trees, allowed)
    student = _teach(full.model, learnt, algorithm, max(1, pruned - 1), task, seed)
    distilled = _fewest(_losses_by_trees(student, judged, task), allowed)
    tried = {"pruned_trees": pruned, "distilled_trees": distilled or 0}
    if distilled and distilled < pruned:
        return Diet("distilled", distilled), tried
    return Diet("pruned", pruned), tried


def _inner_split(dates: Sequence[date], pipeline: Pipeline) -> Split:
    held_out = max(1, min(pipeline.training.holdout_days, len(dates) // 4))
    update = {"holdout_days": held_out, "folds": 1, "calibration": None}
    inner = split_dates(dates, pipeline.model_copy(update={"training": pipeline.training.model_copy(update=update)}))
    if not inner.folds or not inner.folds[0].fit:
        found = f"{len(dates)} score dates before the held-out ones; none is left to fit on after {held_out} that judge"
        raise NotEnoughData("Choosing how many trees are needed", [found], "slim a version of a longer window")
    return inner


def _without_calibration(pipeline: Pipeline) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"calibration": None})})


def _teach(
    full: LightGbmModel, examples: Examples, algorithm: LightGbm, trees: int, task: Task, seed: int
) -> LightGbmModel:
    """A student of `trees` trees, fitted to what `full` predicts: soft labels, which lose what the gate counts."""
    rate = min(_MOST_LEARNING_RATE, FASTER * algorithm.learning_rate)
    settings = algorithm.model_copy(update={"trees": trees, "learning_rate": max(rate, algorithm.learning_rate)})
    taught = replace(examples, labels=full.predict(examples.matrix))
    return fit_lightgbm(settings, taught, "cross_entropy" if task == "binary" else task, seed)


def _losses_by_trees(model: LightGbmModel, examples: Examples, task: Task) -> Vector:
    """The mean loss (trees,) after 1, 2, … all trees."""
    from scipy.special import expit

    after = model.raw_after(examples.matrix, range(1, model.trees + 1))
    return np.array([
        losses(task, examples.labels, expit(raw) if task == "binary" else raw).mean() for raw in after
    ])  # fmt: skip


def _fewest(by_trees: Vector, allowed: float) -> int:
    """The smallest number of trees whose loss is allowed; 0 where none is."""
    within = np.flatnonzero(by_trees <= allowed)
    return int(within[0]) + 1 if len(within) else 0


def _slimmed(
    fitted: Fitted, rows: pl.DataFrame, dates: Sequence[date], split: Split, pipeline: Pipeline, algorithm: LightGbm,
    diet: Diet,
) -> Fitted:  # fmt: skip
    """A model that was fitted on `dates`, smaller, with a calibrator of its own."""
    assert isinstance(fitted.model, LightGbmModel)
    examples = examples_of(rows_of(rows, dates), fitted.encoding, pipeline)
    model = diet.apply(fitted.model, examples, algorithm, pipeline.task, pipeline.training.seed)
    return calibrated(Fitted(model, fitted.encoding), rows_of(rows, split.calibrate), pipeline)


def _figures(late: pl.DataFrame, whole: Scored, small: Scored, pipeline: Pipeline) -> dict[str, Any]:
    labels = labels_of(late, pipeline)
    full_loss, loss = (float(losses(pipeline.task, labels, one.probabilities).mean()) for one in (whole, small))
    return {
        "metric": "log_loss" if pipeline.task == "binary" else "mse", "rows": late.height, "full_loss": full_loss,
        "loss": loss, "loss_share": (loss - full_loss) / full_loss if full_loss else 0.0,
    }  # fmt: skip


def _require_same(again: Vector, stored: Vector) -> None:
    if again.tobytes() != stored.tobytes():
        raise PromotionRefused(
            "Fitting the folds of the version again", ["its held-out scores come out otherwise than they are stored"],
            "see what has changed: `nightscore reproduce`",
        )  # fmt: skip


def _require_worth(figures: dict[str, Any]) -> None:
    trees, all_trees, share, most = (figures[name] for name in ("trees", "full_trees", "loss_share", "max_loss_share"))
    said = f"{trees} of {all_trees} trees, {figures['kind']}, lose {100 * share:.3g} % on held-out rows"
    figures_said = f"{said} ({figures['metric']} {figures['loss']:.6g} against {figures['full_loss']:.6g})"
    found = [f"{figures_said}, at most {100 * most:.3g} % may be lost"] if share > most else []
    if trees >= all_trees:
        found.append(
            f"all {all_trees} trees are needed; pruned {trees}, distilled {figures['distilled_trees'] or 'never'}"
        )
    if found:
        raise PromotionRefused(
            "Making the version smaller", found, "allow a larger loss with --max-loss, or keep it whole"
        )
