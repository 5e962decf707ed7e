"""From a night to a registered model version: training set, fit, capsule, registry row, and the first champion.

Added here: steps of registration. Not here: fitting (`nightscore/training`), or promotion between versions.
"""

import getpass
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightscore.catalog.models import ModelVersion, alias_holder, insert_version, next_version, version_of_recipe
from nightscore.lake.fingerprints import code_hash, fingerprint
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import CapsuleId, write_capsule
from nightscore.registry.versions import CHAMPION, make_first_champion, open_capsule
from nightscore.spec.pipeline import Pipeline
from nightscore.training.fit import Trained, train
from nightscore.training.training_set import TrainingSet, make_training_set


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
        }  # fmt: skip

    @property
    def model_facts(self) -> dict[str, Any]:
        """What the orchestrator shows of the model: identity and held-out metrics."""
        version, held_out = self.version, self.version.metrics["algorithms"]
        identity = {
            "version": version.name, "new": self.is_new, "capsule": version.capsule_md5,
            "manifest_sha256": version.manifest_sha256, "function_hash": version.function_hash,
        }  # fmt: skip
        measured = {
            f"held_out/{algorithm}/{metric}": value
            for algorithm, result in held_out.items()
            for metric, value in result["overall"].items()
            if isinstance(value, int | float)
        }
        return identity | measured


def train_version(workspace: Workspace, pipeline: Pipeline, as_of: date, purpose: str, run_id: str) -> Registration:
    """Train for night `as_of` and register the version; the first version of a pipeline becomes its champion.

    The same recipe on the same data is the version it was before. Raises NotEnoughData, NotReadable.
    """
    with timed_step(workspace, pipeline.name, "training set", [as_of], run_id) as log:
        training_set = make_training_set(workspace, pipeline, as_of, run_id)
        rows = training_set.frame.height
        log.outcomes.append(NightOutcome(training_set.account.dataset, as_of, "made", rows))
    recipe = _recipe(pipeline, training_set)
    with workspace.engine.connect() as connection:
        known = version_of_recipe(connection, pipeline.name, recipe)
    if known is not None:
        _crown_first(workspace, known)
        return Registration(known, training_set, is_new=False)
    with timed_step(workspace, pipeline.name, "model", [as_of], run_id) as log:
        trained = train(training_set.frame, pipeline)
        version = _register(workspace, pipeline, trained, training_set, recipe, purpose, run_id)
        _crown_first(workspace, version)
        log.outcomes.append(NightOutcome(f"{pipeline.name}.model", as_of, "made", rows))
    return Registration(version, training_set, is_new=True)


def _recipe(pipeline: Pipeline, training_set: TrainingSet) -> str:
    learns = {"training", "features", "label", "task", "entity"}
    parts = pipeline.model_dump(mode="json", include=learns)
    return fingerprint("model", spec=parts, data=training_set.stored.md5, as_of=training_set.as_of)


def _register(
    workspace: Workspace, pipeline: Pipeline, trained: Trained, training_set: TrainingSet, recipe: str,
    purpose: str, run_id: str,
) -> ModelVersion:  # fmt: skip
    snapshot = _snapshot(workspace, training_set)
    with workspace.engine.connect() as connection:
        parent = alias_holder(connection, pipeline.name, CHAMPION)
    context = _context(workspace, training_set, snapshot, parent, purpose)
    capsule_md5, identity = _store_capsule(workspace, pipeline, trained, context)
    with workspace.engine.begin() as connection:
        number = next_version(connection, pipeline.name)
        made_meanwhile = version_of_recipe(connection, pipeline.name, recipe)
        if made_meanwhile is not None:
            return made_meanwhile
        version = ModelVersion(
            pipeline.name, number, capsule_md5, identity.manifest_sha256, identity.function_sha256, recipe, snapshot,
            pipeline.training.algorithm.type, pipeline.task, training_set.as_of, parent, "registered",
            trained.metrics | {"importance": trained.importance}, getpass.getuser(), purpose, run_id,
            workspace.clock.now(),
        )  # fmt: skip
        insert_version(connection, version)
    return version


def _crown_first(workspace: Workspace, version: ModelVersion) -> None:
    """Try the capsule, and make it champion where there is none; also of a run that died before it could."""
    open_capsule(workspace, version)
    make_first_champion(workspace, version, "nightscore", "the first version of the pipeline")


def _snapshot(workspace: Workspace, training_set: TrainingSet) -> str:
    entries = {
        f"{version.dataset}/{version.score_date}.parquet": version.md5 for version in training_set.inputs
    }  # fmt: skip
    entries[f"training_set/{training_set.as_of}.parquet"] = training_set.stored.md5
    return workspace.lake.store.put_directory(entries).md5


def _store_capsule(
    workspace: Workspace, pipeline: Pipeline, trained: Trained, context: Mapping[str, object]
) -> tuple[str, CapsuleId]:
    store = workspace.lake.store
    spec_text = (workspace.settings.pipelines_path / f"{pipeline.name}.yaml").read_text(encoding="utf-8")
    lock = workspace.settings.root / "requirements.lock"
    extra = {"requirements.lock": lock.read_bytes()} if lock.is_file() else {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "capsule"
        identity = write_capsule(folder, trained, spec_text, context, extra)
        entries = {path.name: store.put_bytes(path.read_bytes()).md5 for path in sorted(folder.iterdir())}
    return store.put_directory(entries).md5, identity


def _context(
    workspace: Workspace, training_set: TrainingSet, snapshot: str, parent: int | None, purpose: str
) -> dict[str, object]:
    return {
        "as_of": str(training_set.as_of), "snapshot_md5": snapshot, "parent": parent, "purpose": purpose,
        "training_set_md5": training_set.stored.md5, "code_sha256": code_hash(),
        "commit": _commit(workspace.settings.root), "created_by": getpass.getuser(),
        "left_out": {str(night): why for night, why in training_set.left_out.items()},
    }  # fmt: skip


def _commit(root: Path) -> str | None:
    """The commit of the checkout, with `-dirty` when files differ; None outside of one."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return None
    return said.stdout.strip() or None
