"""The reference files, the model and LightGBM's own answers: made once, kept in the benchmark's folder.

Added here: another form of the same rows. Not here: the shape of the rows (`rows.py`), what is timed.
"""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from lightgbm import Booster

from benchmarks.bench.rows import SEED, TRAINING_SEED, labels_of, make_rows, matrix_of
from benchmarks.bench.spec import spec_text
from benchmarks.bench.work import DAY, FEATURES, KEY, LEVELS, PARTS, ROW_GROUPS, THRESHOLD, TOP_SHARE, Work
from nightscore.lake.parquet import write_batches
from nightscore.measures.calibration import NO_CALIBRATION
from nightscore.registry.capsule import write_capsule
from nightscore.spec.loader import load_spec
from nightscore.spec.pipeline import Pipeline
from nightscore.training.algorithms import fit_algorithm
from nightscore.training.fit import EXPECTED_PROBABILITY, EXPECTED_RAW, EXPECTED_SCORE, Trained
from nightscore.training.matrix import Encoding, Examples

TRAINING_ROWS = 200_000
GOLDEN_ROWS = 200
SCORE_DATE = date.fromisoformat(DAY)


def prepare(work: Work) -> None:
    """Make what is not there yet; every file appears whole or not at all."""
    _once(work.capsule, lambda path: _write_model(work, path))
    work.day.mkdir(parents=True, exist_ok=True)
    for part, path in enumerate(work.files):
        _once(path, lambda target, part=part: _write_part(work, part, target))
    _once(work.partition, lambda path: _write_partition(work, path))
    _once(work.reference, lambda path: _write_reference(work, path))


def _once(path: Path, write: Callable[[Path], None]) -> None:
    if not path.exists():
        half = path.with_name(f"half-{path.name}")
        write(half)
        os.replace(half, path)


def _bounds(work: Work, part: int) -> tuple[int, int]:
    return work.rows * part // PARTS, work.rows * (part + 1) // PARTS


def _write_part(work: Work, part: int, path: Path) -> None:
    first, end = _bounds(work, part)
    table = make_rows(first + 1, end - first, SEED, part).to_arrow(compat_level=pl.CompatLevel.oldest())
    group_rows = -(-table.num_rows // ROW_GROUPS)
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=group_rows)


def _write_partition(work: Work, path: Path) -> None:
    """As the lake holds features: Float64, Int64 and String columns, by key."""
    parts = (as_features(pl.read_parquet(part, hive_partitioning=False)) for part in work.files)
    write_batches(parts, ("score_date", KEY), path)


def as_features(frame: pl.DataFrame, day: date = SCORE_DATE, named: str = "score_date") -> pl.DataFrame:
    """Rows of the files as a partition of the lake has them, the day's date first."""
    wide = {pl.Float32: pl.Float64, pl.Int32: pl.Int64, pl.Categorical: pl.String}
    dated = frame.select(pl.lit(day).alias(named), pl.all())
    return dated.cast({old: new for old, new in wide.items() if old in {dtype.base_type() for dtype in dated.dtypes}})


def _write_model(work: Work, path: Path) -> None:
    """Fit on rows of another seed, and keep the model as Nightscore does."""
    work.spec.parent.mkdir(parents=True, exist_ok=True)
    work.spec.write_text(spec_text(), encoding="utf-8")
    write_capsule(path, _fit(load_spec(work.spec)), spec_text(), {})


def _fit(pipeline: Pipeline) -> Trained:
    rows = make_rows(1, TRAINING_ROWS, TRAINING_SEED)
    matrix = matrix_of(rows)
    types = tuple(column.type for column in pipeline.features.columns)
    encoding = Encoding(FEATURES, types, dict(LEVELS))
    examples = Examples(matrix, labels_of(matrix, TRAINING_SEED), encoding)
    model = fit_algorithm(pipeline.training.algorithm, examples, "binary", pipeline.training.seed)
    scores = pl.Series(EXPECTED_SCORE, model.predict(matrix[:GOLDEN_ROWS]))
    raw = pl.Series(EXPECTED_RAW, model.raw(matrix[:GOLDEN_ROWS]))
    golden = as_features(rows[:GOLDEN_ROWS]).with_columns(raw, scores, scores.alias(EXPECTED_PROBABILITY))
    held_out = pl.DataFrame()
    return Trained(pipeline, model, encoding, NO_CALIBRATION, {}, model.importance(), golden, held_out)


def _write_reference(work: Work, path: Path) -> None:
    """LightGBM's scores, and what follows from them: ties of rank go to the smaller key."""
    booster, scored = Booster(model_file=work.model), []
    for part in work.files:
        frame = pl.read_parquet(part, hive_partitioning=False)
        scores = np.asarray(booster.predict(matrix_of(frame), num_threads=work.threads))
        scored.append(frame.select(KEY, pl.Series("score", scores)))
    by_rank = pl.concat(scored).sort("score", KEY, descending=[True, False])
    ranked = by_rank.with_columns(rank=pl.int_range(1, pl.len() + 1), decision=pl.col("score") >= THRESHOLD)
    decile = (10 * pl.col("rank") + pl.len() - 1) // pl.len()
    ranked.with_columns(decile=decile, topk=pl.col("rank") <= work.rows // TOP_SHARE).sort(KEY).write_parquet(path)
