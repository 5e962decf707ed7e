"""Reason codes of a night: which rows get them, and what moved their scores, by the version that scored each.

Added here: how rows and their contributions come together. Not here: contributions (`nightscore/training`), or texts
(`reasons.py`).
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from nightscore.lake.parquet import read_batches
from nightscore.scoring.arms import Arms
from nightscore.scoring.reasons import REASON_CODES, choose_rows, reason_codes
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Reasons
from nightscore.training.contributions import contributions
from nightscore.training.matrix import encode, row_key

ROWS_PER_CHUNK = 10_000
"""Contributions take as much memory as the features themselves, several times over."""


def with_reasons(night: pl.DataFrame, pipeline: Pipeline, arms: Arms, features: Path, threads: int) -> pl.DataFrame:
    """`night` with a text column of reasons, null for rows that the spec wants none for."""
    wanted, key = pipeline.publish.reasons, row_key(pipeline)
    if wanted is None:
        return night
    chosen = night.filter(choose_rows(night, wanted.rows, wanted.k)).select(key)
    parts = [
        part for batch in read_batches(features, ROWS_PER_CHUNK)
        for part in _explain_batch(batch.join(chosen, on=key, how="semi"), pipeline, arms, wanted, threads)
    ]  # fmt: skip
    known = pl.concat(parts) if parts else chosen.head(0).with_columns(pl.lit(None, pl.String).alias(REASON_CODES))
    return night.join(known, on=key, how="left").sort(key)


def _explain_batch(
    batch: pl.DataFrame, pipeline: Pipeline, arms: Arms, wanted: Reasons, threads: int
) -> Iterator[pl.DataFrame]:
    titles = {column.name: column.title or column.name for column in pipeline.features.columns}
    for _, _, capsule, rows in arms.divide(batch):
        if rows.height:
            names = capsule.encoding.names
            moved, _ = contributions(
                capsule.model, encode(rows.select(names), capsule.encoding), capsule.encoding, threads
            )
            texts = reason_codes(rows, moved, names, titles, wanted.top)
            yield rows.select(row_key(pipeline)).with_columns(texts.alias(REASON_CODES))
