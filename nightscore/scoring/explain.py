"""Reason codes of a batch: which rows get them, and what moved their scores, by the version that scored each.

Added here: how rows and their contributions come together. Not here: contributions (`nightscore/training`), or texts
(`reasons.py`).
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.registry.capsule import Capsule
from nightscore.scoring.arms import Arms
from nightscore.scoring.reasons import REASON_CODES, choose_rows, reason_codes
from nightscore.scoring.rows import Rows
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Reasons
from nightscore.training.contributions import contributions
from nightscore.training.matrix import encode

ROWS_PER_CHUNK = 10_000
"""Contributions take as much memory as the features themselves, several times over."""


def explain(
    rows: Rows, decided: pl.DataFrame, pipeline: Pipeline, arms: Arms, arm: npt.NDArray[np.uint8], threads: int
) -> pl.Series:
    """Reasons (rows,) of `rows`, which are `decided`; null for rows that the spec wants none for."""
    wanted = pipeline.publish.reasons
    assert wanted is not None
    texts = np.full(rows.height, None, dtype=object)
    chosen = choose_rows(decided, wanted.rows, wanted.k).to_numpy()
    for number, (_, capsule) in enumerate(arms.versions):
        places = np.flatnonzero(chosen & (arm == number))
        for start in range(0, len(places), ROWS_PER_CHUNK):
            part = places[start : start + ROWS_PER_CHUNK]
            mask = np.zeros(rows.height, dtype=bool)
            mask[part] = True
            texts[part] = _explain(rows.filter(mask), capsule, pipeline, wanted, threads).to_list()
    return pl.Series(REASON_CODES, texts.tolist(), dtype=pl.String)


def _explain(rows: Rows, capsule: Capsule, pipeline: Pipeline, wanted: Reasons, threads: int) -> pl.Series:
    names = capsule.encoding.names
    frame = rows.frame(names)
    moved, _ = contributions(capsule.model, encode(frame, capsule.encoding), capsule.encoding, threads)
    titles = {column.name: column.title or column.name for column in pipeline.features.columns}
    return reason_codes(frame, moved, names, titles, wanted.top)
