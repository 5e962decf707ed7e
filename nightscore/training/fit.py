"""A training frame becomes an evaluated model: split by score dates, compare with baselines, refit on all.

Added here: a step of training. Not here: how one algorithm is fitted, or which nights make the frame.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from nightscore.errors import FeatureBuildFailed, NotEnoughData
from nightscore.measures.calibration import NO_CALIBRATION, Calibrator, reliability
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Algorithm, Alone, Cascade
from nightscore.training.algorithms import Model, fit_algorithm
from nightscore.training.boosted import LightGbmModel, learning_curve
from nightscore.training.cascade import CascadeModel
from nightscore.training.evaluate import (
    Scored,
    evaluate,
    labels_of,
    measure_calibration,
    measure_fairness,
    measure_groups,
)
from nightscore.training.folds import Split, split_dates
from nightscore.training.matrix import (
    SCORE_DATE,
    Encoding,
    Examples,
    Vector,
    check_columns,
    encode,
    fit_encoding,
    row_key,
)
from nightscore.training.reference import Reference
from nightscore.training.routing import calibrator_of, fit_cascade, measure_cascade
from nightscore.training.worth import measure_worth

GOLDEN_ROWS = 200
CALIBRATION_ROWS = 50
"""Fewer rows say too little about probabilities."""
EXPECTED_SCORE, EXPECTED_RAW, EXPECTED_PROBABILITY = "_expected_score", "_expected_raw", "_expected_probability"
EXPECTED = (EXPECTED_SCORE, EXPECTED_RAW, EXPECTED_PROBABILITY)
"""Columns beside the features of golden rows; no spec name begins with an underscore, so they cannot meet one."""
HELD_OUT_SCORE, HELD_OUT_PROBABILITY = "_score", "_probability"
"""Columns beside key and label of held-out rows."""


@dataclass(frozen=True)
class Fitted:
    """A model, the encoding it was fitted with, and the calibrator of its scores."""

    model: Model
    encoding: Encoding
    calibrator: Calibrator = NO_CALIBRATION

    def score(self, frame: pl.DataFrame) -> Vector:
        """Scores (rows,) of the feature columns of `frame`."""
        return self.model.predict(encode(frame.select(self.encoding.names), self.encoding))


@dataclass(frozen=True)
class Trained:
    """The final model, what it was measured by, and rows with the scores it must always give.

    The final model learns from every date but those that calibrate it. `metrics`: see `_measure`. `importance`:
    feature → total gain. `held_out`: key, label, `_score` and `_probability` of every row of the held-out dates,
    sorted by key, each scored by a model and a calibrator of its fold's past, not by the final ones. `reference`: what
    later nights are compared with; None where nobody will (`training/reference.py` adds it).
    """

    pipeline: Pipeline
    model: Model
    encoding: Encoding
    calibrator: Calibrator
    metrics: dict[str, Any]
    importance: dict[str, float]
    golden: pl.DataFrame
    held_out: pl.DataFrame
    reference: Reference | None = None

    def score(self, frame: pl.DataFrame) -> Vector:
        """Scores (rows,) of the feature columns of `frame`, by the final model."""
        return self.model.predict(encode(frame.select(self.encoding.names), self.encoding))


def train(frame: pl.DataFrame, pipeline: Pipeline) -> Trained:
    """Train the pipeline's algorithm on `frame`: score_date, entity key, features and label, one row a labelled key.

    The row order does not matter. Raises NotEnoughData with every reason, FeatureBuildFailed for a frame that does
    not fit the spec, SpecError for a rule that cannot be evaluated.
    """
    rows = sort_rows(frame, pipeline)
    split = split_dates(rows[SCORE_DATE].unique().sort().to_list(), pipeline)
    _require_enough(rows, split, pipeline)
    algorithm = pipeline.training.algorithm
    folds = fit_folds(rows, split, pipeline, algorithm)
    final = _fit_and_calibrate(rows, split.learn, split.calibrate, pipeline, algorithm)
    trained = assemble(rows, split, folds, final, pipeline)
    return replace(trained, metrics=trained.metrics | _routing(rows, split, folds, final, pipeline))


def assemble(
    rows: pl.DataFrame, split: Split, folds: Sequence[Fitted], final: Fitted, pipeline: Pipeline
) -> Trained:  # fmt: skip
    """The final model with what the models of `folds`, and baselines fitted here, show on the held-out dates."""
    algorithm = pipeline.training.algorithm
    scored: dict[str, Scored] = {algorithm.type: score_folds(rows, split, folds)}
    for baseline in pipeline.training.baselines:
        name = _free_name(baseline.type, scored)
        scored[name] = score_folds(rows, split, fit_folds(rows, split, pipeline, baseline))
    return Trained(
        pipeline=pipeline,
        model=final.model,
        encoding=final.encoding,
        calibrator=final.calibrator,
        metrics=_measure(rows, split, scored, pipeline) | {"curve": _curve(rows, split, folds[-1], pipeline)},
        importance=final.model.importance() if isinstance(final.model, LightGbmModel | CascadeModel) else {},
        golden=_golden(rows, final),
        held_out=_held_out(rows_of(rows, split.held_out), scored[algorithm.type], pipeline),
    )


def sort_rows(frame: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
    """The training frame sorted by key; FeatureBuildFailed with every reason why nothing can be learnt from it."""
    key = row_key(pipeline)
    found = [f"column {name} is missing" for name in (*key, pipeline.label.column) if name not in frame.columns]
    if not found:
        check_columns(frame, fit_encoding(frame, pipeline), (*key, pipeline.label.column))
        found = list(_wrong_rows(frame, pipeline))
    if found:
        raise FeatureBuildFailed(
            f"reading the training frame of {pipeline.name}", found, "repair the feature or the label SQL"
        )
    return frame.sort(key)


def _wrong_rows(frame: pl.DataFrame, pipeline: Pipeline) -> Iterator[str]:
    label, key = frame[pipeline.label.column], row_key(pipeline)
    if repeated := int(frame.select(key).is_duplicated().sum()):
        yield f"{repeated} rows share a key ({', '.join(key)})"
    if not (label.dtype.is_numeric() or label.dtype == pl.Boolean):
        yield f"label {label.name} is {label.dtype}, expected a number or Boolean"
        return
    values = label.cast(pl.Float64)
    if unusable := int((~values.is_finite()).fill_null(True).sum()):
        yield f"label {label.name} has {unusable} rows without a finite value"
    if pipeline.task == "binary" and (other := int((~values.is_in([0.0, 1.0])).sum())):
        yield f"label {label.name} has {other} values other than 0 and 1"


def _require_enough(rows: pl.DataFrame, split: Split, pipeline: Pipeline) -> None:
    found = list(_shortages(rows, split, pipeline))
    if found:
        raise NotEnoughData(
            f"training {pipeline.name}",
            found,
            "wait for more mature nights, or change training.window_days, holdout_days, calibration or min_rows",
        )


def _shortages(rows: pl.DataFrame, split: Split, pipeline: Pipeline) -> Iterator[str]:
    training, dates = pipeline.training, rows[SCORE_DATE].n_unique()
    apart, calibrates = training.holdout_days, training.calibration.dates if training.calibration else 0
    if rows.height < training.min_rows:
        yield f"{rows.height} rows, expected at least {training.min_rows}"
    if dates <= apart + calibrates:
        also = f" and the {calibrates} that calibrate" if calibrates else ""
        yield f"{dates} score dates, expected more than the {apart} that are held out{also}"
    elif not split.folds[0].fit:
        yield f"no score date is mature by the first that is held out, {split.folds[0].evaluate[0]}"
    if split.calibrate and (few := rows_of(rows, split.calibrate).height) < CALIBRATION_ROWS:
        yield f"{few} rows on the dates that calibrate, expected at least {CALIBRATION_ROWS}"
    if pipeline.task == "binary":
        for name, part in _parts(split):
            labels = rows_of(rows, part)[pipeline.label.column]
            if labels.n_unique() == 1:
                yield f"one class only, {labels[0]}, on {name}"


def _parts(split: Split) -> Iterator[tuple[str, Sequence[date]]]:
    """The dates that must show both classes, by name."""
    for number, fold in enumerate(split.folds, start=1):
        of = f" of fold {number}" if len(split.folds) > 1 else ""
        yield f"the dates to fit on{of}", fold.fit
    yield "the dates that calibrate", split.calibrate
    yield "all dates" + (" but those that calibrate" if split.calibrate else ""), split.learn


def fit_folds(rows: pl.DataFrame, split: Split, pipeline: Pipeline, algorithm: Algorithm) -> list[Fitted]:
    """Each fold's model, with a calibrator of its own."""
    return [_fit_and_calibrate(rows, fold.fit, split.calibrate, pipeline, algorithm) for fold in split.folds]


def score_folds(rows: pl.DataFrame, split: Split, folds: Sequence[Fitted]) -> Scored:
    """All held-out rows, each scored by the model of its fold."""
    parts = [fitted.score(rows_of(rows, fold.evaluate)) for fitted, fold in zip(folds, split.folds, strict=True)]
    probabilities = [fitted.calibrator.apply(scores) for fitted, scores in zip(folds, parts, strict=True)]
    return Scored(np.concatenate(parts), np.concatenate(probabilities))


def _fit_and_calibrate(
    rows: pl.DataFrame, learn: Sequence[date], calibrate: Sequence[date], pipeline: Pipeline, algorithm: Algorithm
) -> Fitted:
    late = rows_of(rows, calibrate)
    if isinstance(algorithm, Cascade):
        full = _fit(rows_of(rows, learn), pipeline, algorithm.full)
        assert isinstance(full.model, LightGbmModel)
        fitted = replace(full, model=fit_cascade(algorithm, full.model, full.encoding, late, pipeline))
    else:
        fitted = _fit(rows_of(rows, learn), pipeline, algorithm)
    return calibrated(fitted, late, pipeline)


def calibrated(fitted: Fitted, late: pl.DataFrame, pipeline: Pipeline) -> Fitted:
    """`fitted` with the calibrator that the spec asks for, fitted to its scores of the rows `late`."""
    if pipeline.training.calibration is None:
        return fitted
    return replace(fitted, calibrator=calibrator_of(fitted.score(late), labels_of(late, pipeline), pipeline))


def _routing(
    rows: pl.DataFrame, split: Split, folds: Sequence[Fitted], final: Fitted, pipeline: Pipeline
) -> dict[str, Any]:
    """What a cascade saves and loses on the held-out dates against its full models; nothing for other models."""
    cascades = [(one, one.model) for one in folds if isinstance(one.model, CascadeModel)]
    if not isinstance(final.model, CascadeModel):
        return {}
    late = rows_of(rows, split.calibrate)
    alone = [calibrated(replace(one, model=model.full), late, pipeline) for one, model in cascades]
    own, full = score_folds(rows, split, folds), score_folds(rows, split, alone)
    routed = [
        (model, model.escalates(examples_of(rows_of(rows, fold.evaluate), one.encoding, pipeline).matrix))
        for (one, model), fold in zip(cascades, split.folds, strict=True)
    ]
    return {"cascade": measure_cascade(final.model, routed, rows_of(rows, split.held_out), own, full, pipeline)}


def _measure(rows: pl.DataFrame, split: Split, scored: Mapping[str, Scored], pipeline: Pipeline) -> dict[str, Any]:
    """What the held-out dates say of every algorithm in `algorithms`, and of the trained one in all else.

    `fit` (of the last fold), `held_out`, `all` and `calibrate` are first, last, dates and rows of each part.
    """
    late, algorithm = rows_of(rows, split.held_out), pipeline.training.algorithm.type
    labels, own, binary = labels_of(late, pipeline), scored[algorithm], pipeline.task == "binary"
    spans = {part: _span(rows_of(rows, dates)) for part, dates in _dates_of_parts(rows, split).items()}
    calibration = pipeline.training.calibration
    return {
        "algorithm": algorithm,
        "algorithms": {name: evaluate(late, one, pipeline) for name, one in scored.items()},
        "worth": measure_worth(late, scored, pipeline),
        "calibration": calibration and {
            "method": calibration.method, "dates": spans["calibrate"], **measure_calibration(labels, own),
        },
        "reliability": reliability(labels, own.probabilities) if binary else None,
        "fairness": measure_fairness(late, own, pipeline),
        "groups": measure_groups(late, own, pipeline),
        **spans,
    }  # fmt: skip


def _dates_of_parts(rows: pl.DataFrame, split: Split) -> dict[str, Sequence[date]]:
    calibrate = {"calibrate": split.calibrate} if split.calibrate else {}
    return {
        "fit": split.folds[-1].fit,
        "held_out": split.held_out,
        "all": rows[SCORE_DATE].unique().to_list(),
        **calibrate,
    }


def _curve(rows: pl.DataFrame, split: Split, last: Fitted, pipeline: Pipeline) -> dict[str, Any] | None:
    """The learning curve of the last fold's model, which only boosted trees have; a cascade's is its full model's."""
    trees = last.model.full if isinstance(last.model, CascadeModel) else last.model
    if not isinstance(trees, LightGbmModel):
        return None
    fold = split.folds[-1]
    fit, held_out = (examples_of(rows_of(rows, dates), last.encoding, pipeline) for dates in (fold.fit, fold.evaluate))
    return learning_curve(trees, fit, held_out, pipeline.task)


def rows_of(rows: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
    """The rows of `dates`, in their order."""
    return rows.filter(pl.col(SCORE_DATE).is_in(pl.Series(dates, dtype=pl.Date).implode()))


def _free_name(name: str, taken: dict[str, Any]) -> str:
    same = sum(1 for other in taken if other.split("_")[0] == name)
    return f"{name}_{same + 1}" if same else name


def _fit(rows: pl.DataFrame, pipeline: Pipeline, algorithm: Alone) -> Fitted:
    encoding = fit_encoding(rows, pipeline)
    examples = examples_of(rows, encoding, pipeline)
    return Fitted(fit_algorithm(algorithm, examples, pipeline.task, pipeline.training.seed), encoding)


def examples_of(rows: pl.DataFrame, encoding: Encoding, pipeline: Pipeline) -> Examples:
    """What a model is fitted to, in the order of `rows`."""
    return Examples(encode(rows.select(encoding.names), encoding), labels_of(rows, pipeline), encoding)


def _span(rows: pl.DataFrame) -> dict[str, Any]:
    dates = rows[SCORE_DATE].unique().sort()
    return {"first": str(dates[0]), "last": str(dates[-1]), "dates": len(dates), "rows": rows.height}


def _golden(rows: pl.DataFrame, final: Fitted) -> pl.DataFrame:
    spread = np.linspace(0, rows.height - 1, min(GOLDEN_ROWS, rows.height)).astype(np.int64)
    golden = rows.select(final.encoding.names)[spread]
    raw, scores = final.model.raw(encode(golden, final.encoding)), final.score(golden)
    expected = (scores, raw, final.calibrator.apply(scores))
    return golden.with_columns(pl.Series(name, values) for name, values in zip(EXPECTED, expected, strict=True))


def _held_out(late: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> pl.DataFrame:
    return late.select(
        *row_key(pipeline),
        pipeline.label.column,
        pl.Series(HELD_OUT_SCORE, scored.scores),
        pl.Series(HELD_OUT_PROBABILITY, scored.probabilities),
    )
