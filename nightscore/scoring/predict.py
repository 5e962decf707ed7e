"""Scores in bounded memory: frames of features in, frames of keys and scores out.

The probability is the calibrated score of a binary task, and null for others.
Added here: how rows are brought to the model. Not here: what a score means for its reader (`decide.py`).
"""

from collections.abc import Iterable, Iterator

import polars as pl

from nightscore.registry.capsule import Capsule

SCORE, PROBABILITY = "score", "probability"
ROWS_PER_CHUNK = 100_000


def score_chunks(
    capsule: Capsule, frames: Iterable[pl.DataFrame], rows_per_chunk: int = ROWS_PER_CHUNK, threads: int = 1
) -> Iterator[pl.DataFrame]:
    """For each chunk of `frames`, its key columns, `score` and `probability` (Float64), in the order of its rows.

    A frame holds the key columns and the features, in any order. At most `rows_per_chunk` rows are encoded at once;
    neither that nor `threads` nor the order of rows changes a bit of a score. Raises FeatureBuildFailed.
    """
    for frame in frames:
        # No rows make no slice, but the columns are still wanted.
        for chunk in frame.iter_slices(rows_per_chunk) if frame.height else (frame,):
            scores = capsule.predict(chunk, threads)
            calibrated = capsule.probability(scores) if capsule.task == "binary" else [None] * chunk.height
            probability = pl.Series(PROBABILITY, calibrated, dtype=pl.Float64)
            yield chunk.select(*capsule.key, pl.Series(SCORE, scores, dtype=pl.Float64), probability)


def learnt(capsule: Capsule, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` without features that the version never learnt: it goes on scoring when the spec has got new ones."""
    known = {*capsule.key, capsule.label, *capsule.encoding.names}
    return frame.select(name for name in frame.columns if name in known)
