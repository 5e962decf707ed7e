"""From a night to a registered model version: training set, fit, capsule, registry row, and the first champion.

Added here: steps of registration. Not here: fitting (`nightscore/training`), or promotion between versions.
"""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from nightscore.catalog.models import ModelVersion, alias_holder, insert_version, next_version, version_of_recipe
from nightscore.features.determinism import require_determined
from nightscore.lake.fingerprints import code_hash, fingerprint
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import CapsuleId, write_capsule
from nightscore.registry.families import family_of, numeric_releases
from nightscore.registry.names import CHAMPION
from nightscore.registry.provenance import Provenance, find_provenance
from nightscore.registry.sources import keep_commit
from nightscore.registry.studies import record_version_run
from nightscore.registry.versions import make_first_champion, open_capsule
from nightscore.spec.pipeline import Pipeline
from nightscore.training.fit import Trained, train
from nightscore.training.reference import read_partitions, with_reference
from nightscore.training.training_set import TrainingSet, make_training_set
from nightscore.training.worth import worth_line

TRAINING_SET_FILE = "training_set.parquet"
_LEARNS_NOTHING: dict[str, Any] = {"training": {"tuning"}, "features": {"columns": {"__all__": {"title"}}}}
_UNSAID = {"folds": 1, "calibration": None}
"""Settings that a spec may leave out; a recipe without them is the one that it was before they existed."""


@dataclass(frozen=True)
class Draft:
    """A version before it has a number; `facts`: where its sources come from, as the catalog keeps it."""

    recipe: str
    snapshot_md5: str
    algorithm: str
    as_of: date
    purpose: str
    created_by: str
    run_id: str
    facts: Mapping[str, Any]
    family: str | None


@dataclass(frozen=True)
class Registration:
    """A registered version, what it learnt from, and whether it was there already."""

    version: ModelVersion
    training_set: TrainingSet
    is_new: bool

    @property
    def training_set_facts(self) -> dict[str, Any]:
        """What the orchestrator shows of the training set."""
        account = self.training_set.account
        return {
            "dagster/row_count": account.rows_out, "rows_in": account.rows_in, "excluded": dict(account.excluded),
            "as_of": str(self.training_set.as_of), "md5": self.training_set.stored.md5,
            "content": self.training_set.stored.content_sha256, "snapshot": self.version.snapshot_md5,
        }  # fmt: skip

    @property
    def model_facts(self) -> dict[str, Any]:
        """What the orchestrator shows of the model: identity and held-out metrics."""
        version, held_out = self.version, self.version.metrics["algorithms"]
        identity = {
            "version": version.name, "new": self.is_new, "capsule": version.capsule_md5,
            "manifest_sha256": version.manifest_sha256, "function_hash": version.function_hash,
            "snapshot": version.snapshot_md5, "provenance": dict(version.provenance or {}),
        }  # fmt: skip
        measured = {
            f"held_out/{algorithm}/{metric}": value
            for algorithm, result in held_out.items()
            for metric, value in result["overall"].items()
            if isinstance(value, int | float)
        }
        worth = {"worth": worth_line(version.metrics)} if version.metrics.get("worth") else {}
        return identity | worth | measured


def train_version(workspace: Workspace, pipeline: Pipeline, as_of: date, purpose: str, run_id: str) -> Registration:
    """Train for night `as_of` and register the version; the first version of a pipeline becomes its champion.

    The same recipe on the same data is the version it was before. Raises NotEnoughData, NotReadable, and Undetermined
    for features that could come out otherwise another time.
    """
    require_determined(workspace.settings, pipeline)
    with timed_step(workspace, pipeline.name, "training set", [as_of], run_id) as log:
        training_set = make_training_set(workspace, pipeline, as_of, run_id)
        rows = training_set.frame.height
        log.outcomes.append(NightOutcome(training_set.account.dataset, as_of, "made", rows))
    recipe = _recipe(pipeline, training_set)
    with workspace.engine.connect() as connection:
        known = version_of_recipe(connection, pipeline.name, recipe)
    if known is not None:
        _finish(workspace, pipeline, known)
        return Registration(known, training_set, is_new=False)
    with timed_step(workspace, pipeline.name, "model", [as_of], run_id) as log:
        begun = perf_counter()
        trained = train(training_set.frame, pipeline)
        paths = {one.score_date: workspace.lake.store.verified_path(one.md5) for one in training_set.features}
        trained = with_reference(trained, read_partitions(paths))
        version = _register(workspace, pipeline, trained, training_set, recipe, purpose, run_id)
        record_version_run(workspace, pipeline, version, perf_counter() - begun, run_id)
        _finish(workspace, pipeline, version)
        log.outcomes.append(NightOutcome(f"{pipeline.name}.model", as_of, "made", rows))
    return Registration(version, training_set, is_new=True)


def _recipe(pipeline: Pipeline, training_set: TrainingSet) -> str:
    learns = {"training", "features", "label", "task", "entity"}
    parts = pipeline.model_dump(mode="json", include=learns, exclude=_LEARNS_NOTHING)
    unsaid = {name: value for name, value in _UNSAID.items() if parts["training"][name] == value}
    parts["training"] = {name: value for name, value in parts["training"].items() if name not in unsaid}
    data = training_set.stored.content_sha256
    return fingerprint("model", spec=parts, data=data, as_of=training_set.as_of, packages=numeric_releases())


def _register(
    workspace: Workspace, pipeline: Pipeline, trained: Trained, training_set: TrainingSet, recipe: str,
    purpose: str, run_id: str,
) -> ModelVersion:  # fmt: skip
    provenance = find_provenance(workspace.settings.root, pipeline.name)
    draft = Draft(
        recipe, _snapshot(workspace, training_set), pipeline.training.algorithm.type, training_set.as_of, purpose,
        getpass.getuser(), run_id, provenance.facts, family_of(workspace.settings, pipeline),
    )  # fmt: skip
    return insert_draft(workspace, pipeline, trained, draft, _context(training_set), provenance)


def insert_draft(
    workspace: Workspace, pipeline: Pipeline, trained: Trained, draft: Draft, context: Mapping[str, object],
    provenance: Provenance,
) -> ModelVersion:  # fmt: skip
    """Store the capsule of `trained` and give it the next number; or the version of its recipe that was made meanwhile.

    `context`: what the capsule says beside what every one does.
    """
    with workspace.engine.connect() as connection:
        parent = alias_holder(connection, pipeline.name, CHAMPION)
    shared = {
        "as_of": str(draft.as_of), "snapshot_md5": draft.snapshot_md5, "parent": parent, "purpose": draft.purpose,
        "created_by": draft.created_by, "code_sha256": code_hash(), **provenance.facts,
    }  # fmt: skip
    capsule_md5, identity = store_capsule(workspace, pipeline, trained, shared | dict(context), provenance)
    with workspace.engine.begin() as connection:
        number = next_version(connection, pipeline.name)
        made_meanwhile = version_of_recipe(connection, pipeline.name, draft.recipe)
        if made_meanwhile is not None:
            return made_meanwhile
        version = ModelVersion(
            pipeline.name, number, capsule_md5, identity.manifest_sha256, identity.function_sha256, draft.recipe,
            draft.snapshot_md5, draft.algorithm, pipeline.task, draft.as_of, parent, "registered",
            trained.metrics | {"importance": trained.importance}, draft.created_by, draft.purpose, draft.run_id,
            workspace.clock.now(), draft.facts, draft.family,
        )  # fmt: skip
        insert_version(connection, version)
    return version


def keep_commit_of(workspace: Workspace, version: ModelVersion) -> None:
    """Hold on to the commit that a version was made at, if there is one."""
    commit = (version.provenance or {}).get("commit")
    if commit is not None:
        keep_commit(workspace.settings.root, version.pipeline, version.version, commit)


def _finish(workspace: Workspace, pipeline: Pipeline, version: ModelVersion) -> None:
    """Keep the commit, try the capsule, and crown it where no version is; also after a run that died before it did."""
    keep_commit_of(workspace, version)
    open_capsule(workspace, version)
    make_first_champion(workspace, pipeline, version, "nightscore", "the first version of the pipeline")


def _snapshot(workspace: Workspace, training_set: TrainingSet) -> str:
    """Pin exactly what was read; nothing is copied."""
    parts = {"features": training_set.features, "labels": training_set.labels}
    entries = {f"{name}/{one.score_date}.parquet": one.md5 for name, versions in parts.items() for one in versions}
    entries[TRAINING_SET_FILE] = training_set.stored.md5
    return workspace.lake.store.put_directory(entries).md5


def store_capsule(
    workspace: Workspace, pipeline: Pipeline, trained: Trained, context: Mapping[str, object], provenance: Provenance
) -> tuple[str, CapsuleId]:
    """Write the capsule of `trained` and put it into the lake: the directory object's MD5, and the identity."""
    store = workspace.lake.store
    spec_text = (workspace.settings.pipelines_path / f"{pipeline.name}.yaml").read_text(encoding="utf-8")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "capsule"
        identity = write_capsule(folder, trained, spec_text, context, provenance.files)
        entries = {path.name: store.put_bytes(path.read_bytes()).md5 for path in sorted(folder.iterdir())}
    return store.put_directory(entries).md5, identity


def _context(training_set: TrainingSet) -> dict[str, object]:
    return {
        "training_set_md5": training_set.stored.md5, "training_set_content": training_set.stored.content_sha256,
        "left_out": {str(night): why for night, why in training_set.left_out.items()},
    }  # fmt: skip
