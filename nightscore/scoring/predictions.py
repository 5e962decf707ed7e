"""A night's predictions as a pure function: a file of features and a capsule in, the rows that readers will see out.

It knows no catalog, so a night of the past is scored by the same lines as tonight's.
Added here: a column of every predictions partition. Not here: scores (`predict.py`), decisions (`decide.py`), commits.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.fingerprints import fingerprint
from nightscore.lake.parquet import read_batches
from nightscore.registry.capsule import Capsule
from nightscore.scoring.decide import decide
from nightscore.scoring.predict import ROWS_PER_CHUNK, score_chunks
from nightscore.spec.pipeline import Pipeline


def recipe_of(pipeline: Pipeline, champion: ModelVersion, features: PartitionVersion) -> str:
    """The fingerprint of the predictions that a version makes of a night's features."""
    decision = pipeline.decision.model_dump(mode="json")
    publish = pipeline.publish.model_dump(mode="json", exclude={"restate"})
    capsule, version = champion.manifest_sha256, champion.version
    return fingerprint(
        "predictions", features=features.md5, capsule=capsule, version=version, decision=decision, publish=publish
    )


def predict_night(pipeline: Pipeline, capsule: Capsule, version: int, features: Path, threads: int) -> pl.DataFrame:
    """Keys, carried columns, score, probability, decision, its reason, rank, decile, model version and arm; by key.

    `features` is a partition of one night; `threads` change no bit.
    """
    chunks = list(_scored_chunks(capsule, read_batches(features, ROWS_PER_CHUNK), _carried(pipeline), threads))
    decided = decide(pl.concat(chunks), pipeline)
    published = ["score_date", *pipeline.entity.key, *pipeline.publish.columns]
    return decided.select(
        *published, "score", "probability", "decision", "decision_reason", "rank", "decile",
        pl.lit(version, pl.Int64).alias("model_version"), pl.lit("champion").alias("arm"),
    )  # fmt: skip


def _carried(pipeline: Pipeline) -> list[str]:
    """Columns that decisions and readers need beside the score."""
    needed = set(pipeline.publish.columns)
    for rule in pipeline.decision.business_rules:
        needed |= set(pl.sql_expr(rule.when).meta.root_names())
    beside = {"score_date", *pipeline.entity.key, "score"}
    return [name for name in pipeline.feature_names if name in needed - beside]


def _scored_chunks(
    capsule: Capsule, batches: Iterator[pl.DataFrame], carried: Sequence[str], threads: int
) -> Iterator[pl.DataFrame]:
    known = {*capsule.key, capsule.label, *capsule.encoding.names}
    for batch in batches:
        # A version goes on scoring when the spec has got features that it never learnt.
        learnt = batch.select(name for name in batch.columns if name in known)
        for scored in score_chunks(capsule, [learnt], threads=threads):
            yield scored.with_columns(batch.select(carried)) if carried else scored
