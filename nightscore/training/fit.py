"""A training frame becomes an evaluated model: split by score dates, compare with baselines, refit on all.

Added here: a step of training. Not here: how one algorithm is fitted, or which nights make the frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nightscore.errors import FeatureBuildFailed, NotEnoughData
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Algorithm
from nightscore.training.algorithms import Model, fit_algorithm
from nightscore.training.boosted import LightGbmModel
from nightscore.training.evaluate import evaluate
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

GOLDEN_ROWS = 200
EXPECTED_SCORE, EXPECTED_RAW = "_expected_score", "_expected_raw"
EXPECTED = (EXPECTED_SCORE, EXPECTED_RAW)
"""Columns beside the features of golden rows; no spec name begins with an underscore, so they cannot meet one."""


@dataclass(frozen=True)
class Fitted:
    """A model and the encoding it was fitted with."""

    model: Model
    encoding: Encoding

    def score(self, frame: pl.DataFrame) -> Vector:
        """Scores (rows,) of the feature columns of `frame`."""
        return self.model.predict(encode(frame.select(self.encoding.names), self.encoding))


@dataclass(frozen=True)
class Trained:
    """The final model, what it was measured by before the refit, and rows with the scores it must always give.

    `metrics`: `algorithm` (the name of the trained one), `algorithms` (name → overall, by_date, segments; of the
    held-out dates), and `fit`, `held_out` and `all` (first, last, dates, rows). `importance`: feature → total gain.
    """

    pipeline: Pipeline
    model: Model
    encoding: Encoding
    metrics: dict[str, Any]
    importance: dict[str, float]
    golden: pl.DataFrame


def train(frame: pl.DataFrame, pipeline: Pipeline) -> Trained:
    """Train the pipeline's algorithm on `frame`: score_date, entity key, features and label, one row a labelled key.

    The row order does not matter. Raises NotEnoughData with every reason, FeatureBuildFailed for a frame that does
    not fit the spec.
    """
    rows = _sorted_rows(frame, pipeline)
    first_held_out = _first_held_out(rows, pipeline)
    early, late = rows.filter(~first_held_out), rows.filter(first_held_out)
    _require_enough(rows, early, pipeline)
    final = _fit(rows, pipeline, pipeline.training.algorithm)
    return Trained(
        pipeline=pipeline,
        model=final.model,
        encoding=final.encoding,
        metrics=_measure(early, late, rows, pipeline),
        importance=final.model.importance() if isinstance(final.model, LightGbmModel) else {},
        golden=_golden(rows, final),
    )


def _sorted_rows(frame: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
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


def _first_held_out(rows: pl.DataFrame, pipeline: Pipeline) -> pl.Series:
    held_out = rows[SCORE_DATE].unique().sort().tail(pipeline.training.holdout_days)
    return rows[SCORE_DATE].is_in(held_out.to_list())


def _require_enough(rows: pl.DataFrame, early: pl.DataFrame, pipeline: Pipeline) -> None:
    found = list(_shortages(rows, early, pipeline))
    if found:
        raise NotEnoughData(
            f"training {pipeline.name}",
            found,
            "wait for more mature nights, or change training.window_days, holdout_days or min_rows",
        )


def _shortages(rows: pl.DataFrame, early: pl.DataFrame, pipeline: Pipeline) -> Iterator[str]:
    training, dates = pipeline.training, rows[SCORE_DATE].n_unique()
    if rows.height < training.min_rows:
        yield f"{rows.height} rows, expected at least {training.min_rows}"
    if dates <= training.holdout_days:
        yield f"{dates} score dates, expected more than the {training.holdout_days} that are held out"
    if pipeline.task == "binary":
        for part, name in ((early, "the dates to fit on"), (rows, "all dates")):
            if part.height and part[pipeline.label.column].n_unique() < 2:
                yield f"one class only, {part[pipeline.label.column][0]}, on {name}"


def _measure(early: pl.DataFrame, late: pl.DataFrame, rows: pl.DataFrame, pipeline: Pipeline) -> dict[str, Any]:
    algorithms: dict[str, Any] = {}
    for algorithm in (pipeline.training.algorithm, *pipeline.training.baselines):
        scores = _fit(early, pipeline, algorithm).score(late)
        algorithms[_free_name(algorithm.type, algorithms)] = evaluate(late, scores, pipeline)
    return {
        "algorithm": pipeline.training.algorithm.type,
        "algorithms": algorithms,
        "fit": _span(early),
        "held_out": _span(late),
        "all": _span(rows),
    }


def _free_name(name: str, taken: dict[str, Any]) -> str:
    same = sum(1 for other in taken if other.split("_")[0] == name)
    return f"{name}_{same + 1}" if same else name


def _fit(rows: pl.DataFrame, pipeline: Pipeline, algorithm: Algorithm) -> Fitted:
    encoding = fit_encoding(rows, pipeline)
    matrix = encode(rows.select(encoding.names), encoding)
    labels = rows[pipeline.label.column].cast(pl.Float64).to_numpy()
    examples = Examples(matrix, labels, encoding)
    return Fitted(fit_algorithm(algorithm, examples, pipeline.task, pipeline.training.seed), encoding)


def _span(rows: pl.DataFrame) -> dict[str, Any]:
    dates = rows[SCORE_DATE].unique().sort()
    return {"first": str(dates[0]), "last": str(dates[-1]), "dates": len(dates), "rows": rows.height}


def _golden(rows: pl.DataFrame, final: Fitted) -> pl.DataFrame:
    spread = np.linspace(0, rows.height - 1, min(GOLDEN_ROWS, rows.height)).astype(np.int64)
    golden = rows.select(final.encoding.names)[spread]
    raw = final.model.raw(encode(golden, final.encoding))
    return golden.with_columns(pl.Series(EXPECTED_SCORE, final.score(golden)), pl.Series(EXPECTED_RAW, raw))
