"""Scored rows with their decisions, as a night has them, for tests that begin after scoring.

Added here: another column that a night adds after its scores. Not here: tests.
"""

import polars as pl

from nightscore.scoring.decide import DECISION_COLUMNS, check_rules, decide_ranked
from nightscore.scoring.ranks import rank_rows
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE, row_key


def decide(frame: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
    """`frame` (keys, features, score, probability) sorted by key, with what the decision of each score date adds."""
    made = {"score", "probability"}
    check_rules(pipeline, {name: dtype for name, dtype in frame.schema.items() if name not in made})
    nights = frame.sort(row_key(pipeline)).partition_by(SCORE_DATE, maintain_order=True) if frame.height else [frame]
    decided = pl.concat(decide_ranked(_ranked(night), pipeline.decision, night.height) for night in nights)
    return decided.select(*frame.columns, *DECISION_COLUMNS)


def _ranked(night: pl.DataFrame) -> pl.DataFrame:
    score = night["score"].cast(pl.Float64).to_numpy()
    merit = night.select(pl.coalesce("probability", "score")).to_series().cast(pl.Float64).to_numpy()
    return night.with_columns(pl.Series("rank", rank_rows(merit, score), dtype=pl.Int64))
