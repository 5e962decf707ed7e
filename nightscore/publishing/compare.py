"""A night's staged predictions against its published ones, row by row by key.

Pure: frames in, facts out; the order of rows does not matter. Added here: how a fact of a night is found.
Not here: the facts and their sum over nights (`difference.py`), or which partitions are compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl

from nightscore.measures.metrics import Vector, brier, log_loss, rmse, roc_auc
from nightscore.measures.shift import count_top, psi, sketch
from nightscore.publishing.difference import (
    Flips,
    NightDifference,
    Performance,
    Rows,
    SegmentFlips,
    Tally,
    Top,
    merge_segments,
)
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import TopK
from nightscore.training.matrix import SCORE_DATE, row_key

PROVENANCE = frozenset({"model_version", "arm", "scored_at", "publication_id"})
"""Columns that say how a row was made, not what it says; a row that differs only here is identical."""
_BEFORE, _AFTER, _SEGMENT, _LABEL = "before:", "after:", "segment:", "label:"


def compare_night(
    pipeline: Pipeline, before: pl.DataFrame | None, after: pl.DataFrame, segments: pl.DataFrame | None,
    labels: pl.DataFrame | None,
) -> NightDifference:  # fmt: skip
    """What publishing `after` would change in `before` (None: nothing is published), two predictions of one night.

    Keys are unique within a frame. `segments` holds key columns and segment columns that the predictions do not
    carry; a segment that neither has is left out. `labels` holds key columns and the label; None: not mature yet.
    """
    standing = after.clear() if before is None else before
    pair = _pair(standing, after, row_key(pipeline))
    common = pair.filter(pl.col(_BEFORE) & pl.col(_AFTER))
    changed, columns = _changes(common)
    old, new = _vector(standing, "score"), _vector(after, "score")
    rows, kept = Rows(standing.height, after.height), common.height
    tally = Tally(
        rows=replace(
            rows, added=rows.after - kept, removed=rows.before - kept, changed=changed, identical=kept - changed
        ),
        columns=columns,
        flips=_flips(common),
        segments=_segment_flips(pipeline, common, segments),
        shift=sketch(_vector(common.select(_shift()), "score")),
        scores_before=sketch(old),
        scores_after=sketch(new[:0] if before is None else new),
        top=Top() if before is None else _top(pipeline, pair),
        models_before=_models(standing),
        models_after=_models(after),
        performance_before=_performance(pipeline, standing, labels),
        performance_after=_performance(pipeline, after, labels),
    )
    return NightDifference(_night(standing, after), before is None, psi(old, new), tally)


def _pair(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Every row of either: its key, both sides' columns by prefix, and whether each side has it."""
    sides = zip(_with_same_types(before, after), (_BEFORE, _AFTER), strict=True)
    left, right = (
        frame.select(*key, pl.all().exclude(key).name.prefix(side), pl.lit(True).alias(side)) for frame, side in sides
    )
    joined = left.join(right, on=list(key), how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(pl.col(_BEFORE, _AFTER).fill_null(False))


def _with_same_types(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A column that changed its type is compared as number or, failing that, as text."""
    other = {name: dtype for name, dtype in after.schema.items() if before.schema.get(name, dtype) != dtype}
    types = {name: _common_type(before.schema[name], dtype) for name, dtype in other.items()}
    return before.cast(types), after.cast(types)  # type: ignore[arg-type]


def _common_type(one: pl.DataType, another: pl.DataType) -> type[pl.DataType]:
    if one.is_integer() and another.is_integer():
        return pl.Int64
    return pl.Float64 if one.is_numeric() and another.is_numeric() else pl.String


def _changes(common: pl.DataFrame) -> tuple[int, dict[str, int]]:
    """Rows that differ, and by column how many; in a column that one side lacks, its rows are null there."""
    prefixed = (name.partition(":") for name in common.columns)
    names = sorted({name for _, colon, name in prefixed if colon and name} - PROVENANCE)
    flags = common.select(_differs(name, common.columns).alias(name) for name in names)
    counted = flags.sum().row(0, named=True)
    any_differs = flags.select(pl.any_horizontal(pl.all()).sum()).item()
    return any_differs, {name: rows for name, rows in counted.items() if rows}


def _differs(name: str, columns: Sequence[str]) -> pl.Expr:
    """NaN equals NaN and null equals null."""
    sides = [pl.col(side + name) if side + name in columns else pl.lit(None) for side in (_BEFORE, _AFTER)]
    return sides[0].ne_missing(sides[1])


def _shift() -> pl.Expr:
    old, new = (pl.col(f"{side}score").cast(pl.Float64) for side in (_BEFORE, _AFTER))
    return (new - old).alias("score")


def _flip_counts() -> tuple[pl.Expr, ...]:
    old, new = (pl.col(f"{side}decision").fill_null(False) for side in (_BEFORE, _AFTER))
    return pl.len(), (~old & new).sum(), (old & ~new).sum()


def _flips(common: pl.DataFrame) -> Flips:
    rows, to_yes, to_no = _flip_counts()
    return Flips(*common.select(rows.alias("rows"), to_yes.alias("to_yes"), to_no.alias("to_no")).row(0))


def _segment_flips(pipeline: Pipeline, common: pl.DataFrame, segments: pl.DataFrame | None) -> tuple[SegmentFlips, ...]:
    found: list[SegmentFlips] = []
    for column in pipeline.features.columns:
        levels = _levels(common, column.name, segments, row_key(pipeline)) if column.segment else None
        if levels is not None:
            rows, to_yes, to_no = _flip_counts()
            by_level = levels.group_by(_SEGMENT).agg(rows.alias("rows"), to_yes.alias("to_yes"), to_no.alias("to_no"))
            found.extend(SegmentFlips(column.name, level, Flips(*counts)) for level, *counts in by_level.rows())
    return merge_segments(found)


def _levels(common: pl.DataFrame, name: str, segments: pl.DataFrame | None, key: Sequence[str]) -> pl.DataFrame | None:
    """`common` with the level of `name` as text: from the key, from what is staged, or from `segments`."""
    for carried in (name, _AFTER + name):
        if carried in common.columns:
            return common.with_columns(pl.col(carried).cast(pl.String).alias(_SEGMENT))
    if segments is None or name not in segments.columns:
        return None
    on = [column for column in key if column in segments.columns]
    given = segments.select(*on, pl.col(name).cast(pl.String).alias(_SEGMENT))
    return common.join(given, on=on, how="left", nulls_equal=True)


def _top(pipeline: Pipeline, pair: pl.DataFrame) -> Top:
    """The top k that the decision rule names, else the top tenth; a row without a score is never in it."""
    sides = pair.select(_rank(_BEFORE), _rank(_AFTER))
    rule = pipeline.decision.rule
    larger = max(int(pair[_BEFORE].sum()), int(pair[_AFTER].sum()))
    k = rule.k if isinstance(rule, TopK) else math.ceil(larger / 10)
    return Top(*count_top(_vector(sides, _BEFORE), _vector(sides, _AFTER), k))


def _rank(side: str) -> pl.Expr:
    score, rank = (pl.col(side + name).cast(pl.Float64) for name in ("score", "rank"))
    return pl.when(score.is_finite()).then(rank).alias(side)


def _models(frame: pl.DataFrame) -> dict[int, int]:
    counted = frame["model_version"].drop_nulls().value_counts().rows()
    return dict(sorted(counted))


def _performance(pipeline: Pipeline, frame: pl.DataFrame, labels: pl.DataFrame | None) -> Performance:
    if labels is None:
        return Performance()
    label = pipeline.label.column
    on = [column for column in row_key(pipeline) if column in labels.columns]
    known = frame.select(*on, "score").join(labels.select(*on, pl.col(label).alias(_LABEL)), on=on, how="inner")
    truth, scores = _vector(known, _LABEL), _vector(known, "score")
    usable = np.isfinite(truth) & np.isfinite(scores)
    truth, scores = truth[usable], scores[usable]
    if not len(truth):
        return Performance()
    return Performance(len(truth), {name: metric(truth, scores) for name, metric in _metrics(pipeline).items()})


def _metrics(pipeline: Pipeline) -> dict[str, Callable[[Vector, Vector], float | None]]:
    return (
        {"rmse": rmse} if pipeline.task == "regression" else {"log_loss": log_loss, "roc_auc": roc_auc, "brier": brier}
    )


def _night(*frames: pl.DataFrame) -> date | None:
    return min((frame[SCORE_DATE].min() for frame in frames if frame.height), default=None)  # type: ignore[type-var, return-value]


def _vector(frame: pl.DataFrame, column: str) -> Vector:
    return frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
