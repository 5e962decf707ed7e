"""The evidence of a night: all that its predictions, its inputs and the week behind it show beside the reference.

Added here: a part of the evidence that the lake has. Not here: outcomes, which are known later (`nightscore/monitoring`
adds them), figures (`measure.py`), or what follows (`state.py`).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion, versions_by_id
from nightscore.catalog.publications import require_receipt
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import Capsule
from nightscore.registry.versions import open_capsule, require_version
from nightscore.spec.datasets import features_dataset, predictions_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key
from nightscore.training.reference import SCORE, Reference
from nightscore.watch.evidence import NightEvidence
from nightscore.watch.freshness import measure_freshness
from nightscore.watch.measure import WEEK_DAYS, find_swaps, measure_columns, measure_week, tell_week_apart
from nightscore.watch.profile import NightProfile, profile_night
from nightscore.watch.scores import measure_scores


@dataclass(frozen=True)
class Scored:
    """Predictions of one night, the features they were made of, and the version that readers would see them by."""

    predictions: PartitionVersion
    features: PartitionVersion
    version: ModelVersion
    capsule: Capsule
    differing_bits: int = 0

    @property
    def night(self) -> date:
        """The score date."""
        return self.predictions.score_date

    @cached_property
    def reference(self) -> Reference | None:
        """What the version keeps for nights to be compared with, read once."""
        return self.capsule.reference()


def open_scored(workspace: Workspace, pipeline: Pipeline, predictions: PartitionVersion) -> Scored:
    """What made `predictions`, by their receipt."""
    night = predictions.score_date
    with workspace.engine.connect() as connection:
        receipt = require_receipt(connection, pipeline.name, night, predictions.fingerprint)
        (features,) = versions_by_id(connection, predictions.inputs)
    version = require_version(workspace, pipeline.name, receipt.model_version)
    differing = sum(one["differing"] for one in receipt.body.get("engines", ()))
    return Scored(predictions, features, version, open_capsule(workspace, version), differing)


def gather_rows(workspace: Workspace, pipeline: Pipeline, scored: Scored) -> NightEvidence:
    """What tonight's rows and inputs show: enough for L1 and L2.

    Without a reference, as capsules of older releases are, there is nothing to compare columns with.
    """
    reference, night = scored.reference, scored.night
    evidence = _of_predictions(workspace, pipeline, scored, reference).model_copy(
        update={"freshness": measure_freshness(workspace, pipeline, night)}
    )
    if reference is None:
        return evidence
    tonight, rows = _profile(workspace, pipeline, scored, reference), reference.profile.weekday_rows(night.weekday())
    return evidence.model_copy(
        update={
            "rows_min": rows[0] if rows else None,
            "rows_max": rows[1] if rows else None,
            "columns": measure_columns(tonight, reference),
            "swaps": find_swaps(tonight, reference, pipeline),
        }
    )


def gather_night(workspace: Workspace, pipeline: Pipeline, scored: Scored) -> NightEvidence:
    """What tonight's rows and the trailing week show."""
    evidence, reference = gather_rows(workspace, pipeline, scored), scored.reference
    if reference is None:
        return evidence
    nights = _week(workspace, pipeline, scored, reference)
    return evidence.model_copy(
        update={"week": measure_week(nights, reference), "domain": tell_week_apart(nights, reference, pipeline)}
    )


def _of_predictions(
    workspace: Workspace, pipeline: Pipeline, scored: Scored, reference: Reference | None
) -> NightEvidence:
    path = workspace.lake.store.verified_path(scored.predictions.md5)
    found = measure_scores(path, row_key(pipeline), SCORE)
    return NightEvidence(
        pipeline=pipeline.name, score_date=scored.night, reference=scored.version.name, rows=found.rows,
        schema_findings=_schema_findings(workspace, pipeline, scored.features),
        duplicate_keys=found.duplicate_keys, scores_not_finite=found.not_finite,
        scores_constant=found.constant and not _is_constant(scored, reference), differing_bits=scored.differing_bits,
    )  # fmt: skip


def _is_constant(scored: Scored, reference: Reference | None) -> bool:
    """Whether the model never gave more than one score."""
    profile = reference.profile.column(SCORE) if reference else None
    return scored.version.algorithm == "constant" or (profile is not None and profile.minimum == profile.maximum)


def _schema_findings(workspace: Workspace, pipeline: Pipeline, features: PartitionVersion) -> tuple[str, ...]:
    there = set(workspace.lake.scan([features]).collect_schema().names())
    return tuple(f"column {name} is missing" for name in pipeline.feature_names if name not in there)


def _profile(workspace: Workspace, pipeline: Pipeline, scored: Scored, reference: Reference) -> NightProfile:
    return profile_night(workspace, pipeline, reference, scored.version, scored.features, scored.predictions)


def _week(workspace: Workspace, pipeline: Pipeline, scored: Scored, reference: Reference) -> list[NightProfile]:
    """The trailing nights by the features they have now, and their scores by the same version."""
    first, before = scored.night - timedelta(days=WEEK_DAYS - 1), scored.night - timedelta(days=1)
    features = workspace.lake.current(features_dataset(pipeline.name), first, before)
    predictions = workspace.lake.current(predictions_dataset(pipeline.name), first, before)
    return [
        *(
            profile_night(workspace, pipeline, reference, scored.version, one, predictions.get(night))
            for night, one in sorted(features.items())
        ),
        _profile(workspace, pipeline, scored, reference),
    ]
