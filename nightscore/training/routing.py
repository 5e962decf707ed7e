"""How a cascade is fitted to dates that its trees never learnt, and what it saves and loses on dates held out.

Added here: another figure of either. Not here: the choice of a band among rows (`band.py`), or scoring (`cascade.py`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.calibration import NO_CALIBRATION, Calibrator, fit_calibrator
from nightscore.measures.metrics import Mask, log_loss
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Threshold
from nightscore.spec.training import Cascade
from nightscore.training.band import Decide, Limits, choose_band
from nightscore.training.boosted import LightGbmModel
from nightscore.training.cascade import CascadeModel
from nightscore.training.evaluate import Scored, decide_rows, labels_of
from nightscore.training.matrix import SCORE_DATE, Encoding, Vector, encode

PREFIX_SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""How many of the trees may make the first stage, where the spec does not say."""


def fit_cascade(
    algorithm: Cascade, full: LightGbmModel, encoding: Encoding, late: pl.DataFrame, pipeline: Pipeline
) -> CascadeModel:
    """The cascade of `full` whose prefix and band make the least work within the spec's limits on the rows `late`.

    `late` are rows that `full` never learnt, sorted by key, of score dates that are not held out.
    """
    matrix, labels = encode(late.select(encoding.names), encoding), labels_of(late, pipeline)
    raw, decide = full.raw(matrix), decision_by_row(late, full.predict(matrix), labels, pipeline)
    limits = Limits(algorithm.max_loss_share, algorithm.max_flip_share)
    choices = {
        prefix: choose_band(full.raw_of_first(matrix, prefix), raw, labels, decide, limits)
        for prefix in _prefixes(algorithm, full.trees)
    }
    prefix = min(choices, key=lambda one: (choices[one].work(one, full.trees), one))
    return CascadeModel(full, prefix, choices[prefix].band, choices[prefix].scale)


def decision_by_row(frame: pl.DataFrame, scores: Vector, labels: Vector, pipeline: Pipeline) -> Decide:
    """The decision rule as one about single rows: a threshold on the probability, or the score that ends the top k.

    `scores` are the full model's, which decide where each date's cut lies.
    """
    rule = pipeline.decision.rule
    if isinstance(rule, Threshold):
        calibrator, value = calibrator_of(scores, labels, pipeline), rule.value
        return lambda probabilities: np.asarray(calibrator.apply(probabilities) >= value)
    ranked = frame.select(SCORE_DATE, pl.Series("score", scores))
    last = pl.when(pl.len() > rule.k).then(pl.col("score").top_k(rule.k).min()).otherwise(-math.inf)
    cuts = ranked.select(last.over(SCORE_DATE)).to_series().to_numpy()
    return lambda probabilities: np.asarray(probabilities >= cuts)


def calibrator_of(scores: Vector, labels: Vector, pipeline: Pipeline) -> Calibrator:
    """The calibrator that the spec asks for, fitted to `scores` (rows,); none where it asks for none."""
    calibration = pipeline.training.calibration
    return fit_calibrator(calibration.method, scores, labels) if calibration else NO_CALIBRATION


def measure_cascade(
    final: CascadeModel, folds: Sequence[tuple[CascadeModel, Mask]], late: pl.DataFrame, own: Scored, full: Scored,
    pipeline: Pipeline,
) -> dict[str, Any]:  # fmt: skip
    """What the final cascade is, and what those of `folds` saved and lost on the held-out rows `late`, sorted by key.

    Each fold gives its model and which of its rows (rows,) went on to all trees. `saved_share` is of tree evaluations,
    by a kernel that goes on from the first sum; `saved_share_lightgbm` by LightGBM, which begins anew. `loss_share` is
    the rise of the log loss over `full`, `flip_share` of its yes decisions, both negative or 0 at best.
    """
    uncertain = np.concatenate([mask for _, mask in folds])
    loss, full_loss = (log_loss(labels_of(late, pipeline), one.probabilities) for one in (own, full))
    before, after = decide_rows(late, full, pipeline), decide_rows(late, own, pipeline)
    flips, yes = int((before != after).sum()), int(before.sum())
    spec = pipeline.training.algorithm
    return {
        **describe(final),
        **spec.model_dump(include={"max_loss_share", "max_flip_share"}),
        "rows": len(uncertain), "escalated_share": _share(int(uncertain.sum()), len(uncertain)),
        "saved_share": _saved(folds, goes_on=True), "saved_share_lightgbm": _saved(folds, goes_on=False),
        "log_loss": loss, "full_log_loss": full_loss,
        "loss_share": (loss - full_loss) / full_loss if loss is not None and full_loss else None,
        "flips": flips, "flip_share": _share(flips, yes),
    }  # fmt: skip


def describe(model: CascadeModel) -> dict[str, Any]:
    """Trees, prefix, band (None where it is open) and scale."""
    band = {name: value if math.isfinite(value) else None for name, value in vars(model.band).items()}
    return {"trees": model.full.trees, "prefix": model.prefix, **band, **vars(model.scale)}


def _prefixes(algorithm: Cascade, trees: int) -> list[int]:
    """Possible numbers of trees of the first stage; fewer than `trees` unless there is but one."""
    if algorithm.small.trees is not None:
        return [min(algorithm.small.trees, trees)]
    return sorted({max(1, round(share * trees)) for share in PREFIX_SHARES})


def _saved(folds: Sequence[tuple[CascadeModel, Mask]], goes_on: bool) -> float | None:
    whole = sum(model.full.trees * len(mask) for model, mask in folds)
    spent = sum(
        model.prefix * len(mask) + (model.full.trees - model.prefix * goes_on) * int(mask.sum())
        for model, mask in folds
    )
    return _share(whole - spent, whole)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
