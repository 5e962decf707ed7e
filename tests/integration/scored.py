"""Frames to scores by way of files, as nights are scored; for tests of capsules, ensembles and predictions."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from nightscore.registry.capsule import Capsule
from nightscore.scoring.arms import Arms
from nightscore.scoring.predictions import predict_night as stream_night
from nightscore.scoring.scores import score_night
from nightscore.spec.pipeline import Pipeline


def predict_night(pipeline: Pipeline, arms: Arms, features: Path, threads: int) -> pl.DataFrame:
    return stream_night(pipeline, arms, features, threads).frame()


def score_chunks(
    capsule: Capsule, frames: Iterable[pl.DataFrame], rows: int = 100_000, threads: int = 1
) -> list[pl.DataFrame]:
    """Key, score and probability of each chunk of at most `rows` rows."""
    chunks = [chunk for frame in frames for chunk in (frame.iter_slices(rows) if frame.height else (frame,))]
    return [_score(capsule, chunk, threads) for chunk in chunks]


def _score(capsule: Capsule, chunk: pl.DataFrame, threads: int) -> pl.DataFrame:
    with TemporaryDirectory() as folder:
        chunk.write_parquet(Path(folder) / "features.parquet")
        found = score_night(Arms(1, capsule), Path(folder) / "features.parquet", threads)
    probability = [None] * chunk.height if found.probability is None else found.probability
    return chunk.select(*capsule.key).with_columns(
        pl.Series("score", found.score, dtype=pl.Float64), pl.Series("probability", probability, dtype=pl.Float64)
    )
