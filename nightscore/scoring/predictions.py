"""A night's predictions as a pure function: a file of features and opened versions in, the rows that readers see out.

Two passes in bounded memory: scores of all rows, from which ranks follow, then decisions and columns batch by batch.
It knows no catalog, so a night of the past is scored by the same lines as tonight's.
Added here: a column of every predictions partition. Not here: scores (`scores.py`), decisions (`decide.py`), commits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import numpy as np
import polars as pl

from nightscore.scoring.arms import Arms
from nightscore.scoring.decide import check_rules, decide_ranked
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.explain import explain
from nightscore.scoring.ranks import Ranks, rank_rows
from nightscore.scoring.reasons import REASON_CODES
from nightscore.scoring.reuse import EarlierNight
from nightscore.scoring.rows import Features, Rows, files_of, read_rows
from nightscore.scoring.scores import Scores, score_night
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE


class Score(Protocol):
    """What gives the scores of a features partition: `score_night`, or the same elsewhere (`execution.py`)."""

    def __call__(self, arms: Arms, features: Features, threads: int, *, earlier: EarlierNight | None = None) -> Scores:
        """Scores (rows,) in the order of the rows."""
        ...


@dataclass(frozen=True)
class Predictions:
    """A scored night whose rows are made as they are asked for; `engines` evaluated its models."""

    pipeline: Pipeline
    arms: Arms
    features: Features
    scores: Scores
    ranks: Ranks
    threads: int
    night: date | None = None

    @property
    def engines(self) -> tuple[EngineUse, ...]:
        """What evaluated the model of each arm."""
        return self.scores.engines

    def batches(self) -> Iterator[pl.DataFrame]:
        """Rows in the order of the features, which is that of their key, in batches.

        Keys, carried columns, score, probability, decision, its reason, rank, decile, model version and arm; with
        `publish.reasons`, `reason_codes` come last.
        """
        carried, start = _carried(self.pipeline), 0
        names = [SCORE_DATE, *(name for name in self.pipeline.entity.key if name != SCORE_DATE), *carried]
        every = None if self.pipeline.publish.reasons else names
        for rows in read_rows(self.features, (), every, night=self.night):
            yield self._decided(rows, names, start)
            start += rows.height

    def frame(self) -> pl.DataFrame:
        """All rows at once."""
        return pl.concat(self.batches())

    def _decided(self, rows: Rows, names: Sequence[str], start: int) -> pl.DataFrame:
        places, pipeline = slice(start, start + rows.height), self.pipeline
        frame = rows.frame(names).with_columns(*self._made(places))
        decided = decide_ranked(frame, pipeline.decision, len(self.ranks))
        published = [SCORE_DATE, *pipeline.entity.key, *pipeline.publish.columns]
        night = decided.select(
            *published, "score", "probability", "decision", "decision_reason", "rank", "decile", "model_version", "arm"
        )
        if pipeline.publish.reasons is None:
            return night
        texts = explain(rows, night, pipeline, self.arms, self.scores.arm[places], self.threads)
        return night.with_columns(texts.alias(REASON_CODES))

    def _made(self, places: slice) -> list[pl.Series | pl.Expr]:
        """Score, probability, rank, version and arm of some rows."""
        scores, probability = self.scores.score[places], self.scores.probability
        empty = pl.repeat(None, len(scores), dtype=pl.Float64, eager=True)
        return [
            pl.Series("score", scores),
            pl.Series("probability", empty if probability is None else probability[places]),
            pl.Series("rank", self.ranks[places].astype(np.int64)),
            *self._by_arm(places),
        ]

    def _by_arm(self, places: slice) -> list[pl.Series | pl.Expr]:
        numbers, names = [version for version, _ in self.arms.versions], self.arms.names
        if len(names) == 1:
            return [pl.lit(numbers[0], pl.Int64).alias("model_version"), pl.lit(names[0]).alias("arm")]
        arm = self.scores.arm[places]
        return [pl.Series("model_version", np.array(numbers)[arm]), pl.Series("arm", names, pl.String).gather(arm)]


def predict_night(
    pipeline: Pipeline, arms: Arms, features: Features, threads: int, earlier: EarlierNight | None = None,
    score: Score = score_night, night: date | None = None,
) -> Predictions:  # fmt: skip
    """Score and rank the rows of `features`, a partition of one night; no other argument changes a bit.

    `night`: the score date of rows that do not say theirs.

    Raises FeatureBuildFailed where the features do not fit the model, SpecError for rules that cannot be applied.
    """
    _check_rules(pipeline, features)
    scores = score(arms, features, threads, earlier=earlier)
    ranks = rank_rows(scores.merit, scores.score, threads)
    return Predictions(pipeline, arms, features, scores, ranks, threads, night)


def _check_rules(pipeline: Pipeline, features: Features) -> None:
    names = [SCORE_DATE, *pipeline.entity.key, *_carried(pipeline)]
    schema = {SCORE_DATE: pl.Date(), **pl.read_parquet_schema(files_of(features)[0])}
    check_rules(pipeline, {name: schema[name] for name in dict.fromkeys(names) if name in schema})


def _carried(pipeline: Pipeline) -> list[str]:
    """Columns that decisions and readers need beside the score."""
    needed = set(pipeline.publish.columns)
    for rule in pipeline.decision.business_rules:
        needed |= set(pl.sql_expr(rule.when).meta.root_names())
    beside = {SCORE_DATE, *pipeline.entity.key, "score", "probability"}
    return [name for name in pipeline.feature_names if name in needed - beside]
