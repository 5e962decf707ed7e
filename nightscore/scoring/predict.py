"""Scores in bounded memory: frames of features in, frames of keys and scores out.

Added here: how rows are brought to the model. Not here: what a score means for its reader (`decide.py`).
"""

from collections.abc import Iterable, Iterator

import polars as pl

from nightscore.registry.capsule import Capsule

SCORE = "score"
ROWS_PER_CHUNK = 100_000


def score_chunks(
    capsule: Capsule, frames: Iterable[pl.DataFrame], rows_per_chunk: int = ROWS_PER_CHUNK, threads: int = 1
) -> Iterator[pl.DataFrame]:
    """For each chunk of `frames`, its key columns and `score` (Float64), in the order of its rows.

    A frame holds the key columns and the features, in any order. At most `rows_per_chunk` rows are encoded at once;
    neither that nor `threads` nor the order of rows changes a bit of a score. Raises FeatureBuildFailed.
    """
    for frame in frames:
        for chunk in frame.iter_slices(rows_per_chunk):
            score = pl.Series(SCORE, capsule.predict(chunk, threads), dtype=pl.Float64)
            yield chunk.select(*capsule.key, score)
