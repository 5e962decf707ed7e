"""The fourth step of a night: the champion scores the features, decisions follow, the gate judges, a receipt is made.

Nothing is fitted here. Added here: how scores become a predictions partition. Not here: the scores (`predict.py`) or
the decisions (`decide.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion, commit_partitions
from nightscore.catalog.publications import record_receipt
from nightscore.lake.fingerprints import code_hash, fingerprint
from nightscore.lake.outcomes import NightOutcome, record_accounts, timed_step
from nightscore.lake.parquet import read_batches
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import Admission, account_of, admit, outcome_of
from nightscore.quality.rules import prediction_rules, rules_hash
from nightscore.registry.capsule import Capsule
from nightscore.registry.versions import open_capsule, require_champion
from nightscore.scoring.decide import decide
from nightscore.scoring.predict import ROWS_PER_CHUNK, score_chunks
from nightscore.spec.datasets import features_dataset, predictions_dataset
from nightscore.spec.pipeline import Pipeline


def score_nights(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Score `nights` with the champion, read once and pinned for all of them; unchanged nights are reused."""
    with timed_step(workspace, pipeline.name, "score", nights, run_id) as log:
        champion = require_champion(workspace, pipeline.name)
        features = workspace.lake.require(features_dataset(pipeline.name), nights)
        dataset = predictions_dataset(pipeline.name)
        standing = workspace.lake.current(dataset, min(nights), max(nights))
        recipes = {version.score_date: _recipe(pipeline, champion, version) for version in features}
        stale = [v for v in features if not _is_current(standing, v.score_date, recipes[v.score_date])]
        capsule = open_capsule(workspace, champion) if stale else None
        for version in features:
            night = version.score_date
            if capsule is None or version not in stale:
                log.outcomes.append(NightOutcome(dataset, night, "reused", standing[night].rows))
                continue
            scored = _score(workspace, pipeline, capsule, champion, version)
            made = _commit(workspace, pipeline, champion, version, scored, recipes[night], standing, run_id)
            log.outcomes.append(made)
    return log.outcomes


def _recipe(pipeline: Pipeline, champion: ModelVersion, features: PartitionVersion) -> str:
    return fingerprint(
        "predictions", features=features.md5, capsule=champion.manifest_sha256, version=champion.version,
        decision=pipeline.decision.model_dump(mode="json"), publish=pipeline.publish.model_dump(mode="json"),
    )  # fmt: skip


def _is_current(standing: Mapping[date, PartitionVersion], night: date, recipe: str) -> bool:
    return night in standing and standing[night].fingerprint == recipe


def _score(
    workspace: Workspace, pipeline: Pipeline, capsule: Capsule, champion: ModelVersion, features: PartitionVersion
) -> pl.DataFrame:
    """Keys, carried columns, score, decision, rank, decile, model version and arm, sorted by key."""
    path = workspace.lake.store.verified_path(features.md5)
    carried = _carried(pipeline)
    chunks = list(_scored_chunks(capsule, read_batches(path, ROWS_PER_CHUNK), carried, workspace.settings.threads))
    decided = decide(pl.concat(chunks), pipeline)
    published = ["score_date", *pipeline.entity.key, *pipeline.publish.columns]
    return decided.select(
        *published, "score", "probability", "decision", "decision_reason", "rank", "decile",
        pl.lit(champion.version, pl.Int64).alias("model_version"), pl.lit("champion").alias("arm"),
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
    for batch in batches:
        for scored in score_chunks(capsule, [batch], threads=threads):
            yield scored.with_columns(batch.select(carried)) if carried else scored


def _commit(
    workspace: Workspace, pipeline: Pipeline, champion: ModelVersion, features: PartitionVersion,
    scored: pl.DataFrame, recipe: str, standing: Mapping[date, PartitionVersion], run_id: str,
) -> NightOutcome:  # fmt: skip
    rules = prediction_rules(pipeline, features.rows)
    night = features.score_date
    content = workspace.lake.put(scored, rules.key)
    admission = admit(workspace, pipeline.name, rules, night, content, lambda: scored, run_id)
    committed = []
    if admission.accepted is not None:
        made = candidate(rules.dataset, night, admission.accepted, admission.rows_out, recipe, standing, [features])
        receipt = _receipt(pipeline, champion, features, admission, recipe, rules_hash(rules))
        with workspace.engine.begin() as connection:
            now = workspace.clock.now()
            ids = commit_partitions(connection, [made], run_id, now)
            predictions_id = ids[rules.dataset, night]
            record_receipt(connection, receipt | {"predictions_id": predictions_id, "run_id": run_id, "made_at": now})
        committed = [made]
    record_accounts(workspace, [account_of(admission)], run_id)
    outcome = outcome_of(admission, committed)
    made_by = {"model": champion.name, "features_md5": features.md5, "fingerprint": recipe}
    return replace(outcome, facts={**made_by, **outcome.facts})


def _receipt(
    pipeline: Pipeline, champion: ModelVersion, features: PartitionVersion, admission: Admission, recipe: str,
    hash_of_rules: str,
) -> dict[str, Any]:  # fmt: skip
    report = admission.verdict.report
    body = {
        "features": {"version_id": features.version_id, "md5": features.md5, "rows": features.rows},
        "features_inputs": list(features.inputs),
        "model": {"name": champion.name, "manifest_sha256": champion.manifest_sha256},
        "spec": pipeline.model_dump(mode="json", include={"decision", "publish", "task", "entity"}),
        "code_sha256": code_hash(), "rules_sha256": hash_of_rules,
        "rows": {"in": features.rows, "out": report["rows_out"], "quarantined": report["rows_quarantined"]},
        "predictions_md5": admission.accepted.md5 if admission.accepted else None,
    }  # fmt: skip
    return {
        "pipeline": pipeline.name, "score_date": features.score_date, "model_version": champion.version,
        "fingerprint": recipe, "body": body,
    }  # fmt: skip
