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
from nightscore.scoring.arms import Arms, Share
from nightscore.scoring.decide import decide
from nightscore.scoring.explain import with_reasons
from nightscore.scoring.predict import ROWS_PER_CHUNK, learnt, score_chunks
from nightscore.spec.pipeline import Pipeline


def recipe_of(
    pipeline: Pipeline, champion: ModelVersion, features: PartitionVersion, share: Share | None = None
) -> str:
    """The fingerprint of the predictions that a version, and the share of another, make of a night's features."""
    decision = pipeline.decision.model_dump(mode="json", exclude={"costs"})
    unused = {"restate"} if pipeline.publish.reasons else {"restate", "reasons"}
    publish = pipeline.publish.model_dump(mode="json", exclude=unused)
    capsule, version = champion.manifest_sha256, champion.version
    divided = {"share": share.as_json()} if share else {}
    return fingerprint(
        "predictions", features=features.md5, capsule=capsule, version=version, decision=decision, publish=publish,
        **divided,
    )  # fmt: skip


def predict_night(pipeline: Pipeline, arms: Arms, features: Path, threads: int) -> pl.DataFrame:
    """Keys, carried columns, score, probability, decision, its reason, rank, decile, model version and arm; by key.

    With `publish.reasons`, `reason_codes` come last. `features` is a partition of one night; `threads` change no bit.
    """
    batches, carried = read_batches(features, ROWS_PER_CHUNK), _carried(pipeline)
    scored = [part for batch in batches for part in _score_batch(arms, batch, carried, threads)]
    decided = decide(pl.concat(scored), pipeline)
    published = ["score_date", *pipeline.entity.key, *pipeline.publish.columns]
    night = decided.select(
        *published, "score", "probability", "decision", "decision_reason", "rank", "decile", "model_version", "arm"
    )
    return with_reasons(night, pipeline, arms, features, threads)


def _carried(pipeline: Pipeline) -> list[str]:
    """Columns that decisions and readers need beside the score."""
    needed = set(pipeline.publish.columns)
    for rule in pipeline.decision.business_rules:
        needed |= set(pl.sql_expr(rule.when).meta.root_names())
    beside = {"score_date", *pipeline.entity.key, "score", "probability"}
    return [name for name in pipeline.feature_names if name in needed - beside]


def _score_batch(arms: Arms, batch: pl.DataFrame, carried: Sequence[str], threads: int) -> Iterator[pl.DataFrame]:
    for arm, version, capsule, rows in arms.divide(batch):
        made = (pl.lit(version, pl.Int64).alias("model_version"), pl.lit(arm).alias("arm"))
        for scored in score_chunks(capsule, [learnt(capsule, rows)], threads=threads):
            yield scored.with_columns(*rows.select(carried), *made)
