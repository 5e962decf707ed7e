"""Receipts: all that made a night's predictions, pinned so that it can be had again and done again.

The snapshot of a receipt is a directory object in the lake: the night's clean inputs, features, predictions, sources
and lock file. Late corrections replace partitions, never what a receipt names.
Added here: a fact of every scored night. Not here: scoring, or how a receipt is followed back (`reproduction`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion, versions_by_id
from nightscore.lake.fingerprints import code_hash, fingerprint
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import Admission
from nightscore.registry.provenance import Provenance, find_provenance
from nightscore.scoring.arms import Share
from nightscore.scoring.crew import Crew
from nightscore.scoring.engine import EngineUse
from nightscore.spec.pipeline import Pipeline

FEATURES_FILE, PREDICTIONS_FILE = "features.parquet", "predictions.parquet"


@dataclass(frozen=True)
class Origin:
    """What all nights of one run have in common: where their code comes from, and its files in the lake."""

    provenance: Provenance
    stored: Mapping[str, str]


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


def store_origin(workspace: Workspace, pipeline: Pipeline) -> Origin:
    """Put the sources and the lock file of this process into the lake."""
    provenance = find_provenance(workspace.settings.root, pipeline.name)
    store = workspace.lake.store
    return Origin(provenance, {name: store.put_bytes(content).md5 for name, content in provenance.files.items()})


def make_receipt(
    workspace: Workspace, pipeline: Pipeline, crew: Crew, features: PartitionVersion,
    admission: Admission, recipe: str, hash_of_rules: str, origin: Origin, engines: Sequence[EngineUse],
) -> dict[str, Any]:  # fmt: skip
    """The receipt's row, but for the predictions' id and who recorded it when; the snapshot is stored."""
    accepted, report = admission.accepted, admission.verdict.report
    assert accepted is not None
    champion, share = crew.champion, {"share": crew.share.as_json()} if crew.share else {}
    body = {
        "features": {"version_id": features.version_id, "md5": features.md5, "content": features.content_sha256,
                     "rows": features.rows},
        "features_inputs": list(features.inputs),
        "model": {"name": champion.name, "manifest_sha256": champion.manifest_sha256},
        "spec": pipeline.model_dump(mode="json", include={"decision", "publish", "task", "entity"}),
        "code_sha256": code_hash(), "rules_sha256": hash_of_rules, "provenance": origin.provenance.facts,
        "environment": origin.provenance.environment,
        "rows": {"in": features.rows, "out": report["rows_out"], "quarantined": report["rows_quarantined"]},
        "engines": [one.as_json() for one in engines],
        "predictions_md5": accepted.md5, "predictions_content": accepted.content_sha256, **share,
    }  # fmt: skip
    return {
        "pipeline": pipeline.name, "score_date": features.score_date, "model_version": champion.version,
        "fingerprint": recipe, "body": body,
        "snapshot_md5": _pin(workspace, pipeline, features, accepted.md5, origin),
    }  # fmt: skip


def summarise(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """What the orchestrator shows of a receipt: all but its long lists."""
    return {name: fact for name, fact in receipt["body"].items() if name not in {"environment", "features_inputs"}}


def _pin(workspace: Workspace, pipeline: Pipeline, features: PartitionVersion, made_md5: str, origin: Origin) -> str:
    with workspace.engine.connect() as connection:
        inputs = versions_by_id(connection, features.inputs)
    entries = {FEATURES_FILE: features.md5, PREDICTIONS_FILE: made_md5, **origin.stored, **_input_files(inputs)}
    return workspace.lake.store.put_directory(entries).md5


def _input_files(inputs: Iterable[PartitionVersion]) -> dict[str, str]:
    return {f"inputs/{one.dataset.rpartition('.')[2]}/{one.score_date}.parquet": one.md5 for one in inputs}
