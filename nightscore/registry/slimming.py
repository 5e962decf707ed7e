"""Slimmed versions: a version's trees made fewer, as a version of its own family that is judged like any challenger.

Added here: a rule of which version may be slimmed, another fact about one. Not here: how trees become fewer
(`nightscore/training/slimming.py`), or whether it may be champion (`gate.py`).
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.catalog.models import ModelVersion, version_of_recipe
from nightscore.errors import SpecError
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import Capsule
from nightscore.registry.ensembles import facts_of_derived
from nightscore.registry.families import family_of
from nightscore.registry.provenance import find_provenance
from nightscore.registry.register import TRAINING_SET_FILE, Draft, insert_draft, keep_commit_of
from nightscore.registry.versions import open_capsule
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import LightGbm
from nightscore.training.boosted import LightGbmModel
from nightscore.training.fit import Trained
from nightscore.training.reference import read_partitions, with_reference
from nightscore.training.slimming import slim

SLIMMING = "slimming"
"""The key of a slimmed version's metrics and context."""
FULL_FOLDER = "full"
"""Where a slimmed version's snapshot keeps the capsule of the version it was made from."""


@dataclass(frozen=True)
class Source:
    """The version that is made smaller: its opened capsule, its training set, and features by score date."""

    version: int
    manifest_sha256: str
    capsule: Capsule
    training_set: Path
    features: dict[date, Path]


def register_slimmed(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, max_loss: float, purpose: str, actor: str,
    run_id: str,
) -> ModelVersion:  # fmt: skip
    """Register `version` with fewer trees, at a loss on held-out rows of at most `max_loss`, a share of its own.

    The same version slimmed alike is the version it was before. Raises SpecError with every reason why it cannot be
    tried, PromotionRefused with the figures where it loses more or nothing is saved, CapsuleRejected for a damaged one;
    nothing is registered then.
    """
    if found := list(_refusals(workspace, pipeline, version, max_loss)):
        remedy = f"choose another version: `nightscore models list {pipeline.name}`"
        raise SpecError(f"Slimming {version.name}", found, remedy)
    recipe = _recipe(version, max_loss)
    with workspace.engine.connect() as connection:
        known = version_of_recipe(connection, pipeline.name, recipe)
    made = known or _register(workspace, pipeline, version, max_loss, recipe, purpose, actor, run_id)
    open_capsule(workspace, made)
    return made


def make_slimmed(pipeline: Pipeline, source: Source, max_loss: float) -> Trained:
    """The smaller model of `source`, measured; PromotionRefused where it loses more than `max_loss`."""
    algorithm, model, held_out = pipeline.training.algorithm, source.capsule.model, source.capsule.held_out()
    assert isinstance(algorithm, LightGbm)
    assert isinstance(model, LightGbmModel)
    assert held_out is not None
    rows = pl.read_parquet(source.training_set)
    made = slim(rows, pipeline, algorithm, (model, source.capsule.encoding), held_out, max_loss)
    told = made.metrics[SLIMMING] | {"of": source.version}
    return with_reference(replace(made, metrics=made.metrics | {SLIMMING: told}), read_partitions(source.features))


def _refusals(workspace: Workspace, pipeline: Pipeline, version: ModelVersion, max_loss: float) -> Iterator[str]:
    if not (math.isfinite(max_loss) and 0 < max_loss < 1):
        yield f"the loss allowed is {max_loss}, expected a share of the loss above 0 and below 1"
    if version.algorithm != "lightgbm":
        yield f"it is of algorithm {version.algorithm}; only versions of lightgbm have trees to spare"
    elif SLIMMING in version.metrics:
        yield f"it was made from {version.pipeline}@{version.metrics[SLIMMING]['of']} already; slim that one"
    elif version.family is None or version.family != family_of(workspace.settings, pipeline):
        yield "it is of another recipe than today's spec, SQL and packages, which its folds are fitted by again"
    entries = workspace.lake.store.read_directory(version.snapshot_md5)
    if TRAINING_SET_FILE not in entries:
        yield f"it has no {TRAINING_SET_FILE} in its snapshot"


def _open(workspace: Workspace, version: ModelVersion) -> Source:
    store, capsule = workspace.lake.store, open_capsule(workspace, version)
    entries = store.read_directory(version.snapshot_md5)
    features = {
        date.fromisoformat(Path(name).stem): store.verified_path(md5)
        for name, md5 in entries.items()
        if Path(name).parent == Path("features")
    }
    training_set = store.verified_path(entries[TRAINING_SET_FILE])
    return Source(version.version, version.manifest_sha256, capsule, training_set, features)


def _recipe(version: ModelVersion, max_loss: float) -> str:
    parts = [SLIMMING, version.manifest_sha256, max_loss.hex()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _register(
    workspace: Workspace, pipeline: Pipeline, full: ModelVersion, max_loss: float, recipe: str, purpose: str,
    actor: str, run_id: str,
) -> ModelVersion:  # fmt: skip
    trained = make_slimmed(pipeline, _open(workspace, full), max_loss)
    provenance = find_provenance(workspace.settings.root, pipeline.name)
    draft = Draft(
        recipe, _snapshot(workspace, full), full.algorithm, full.as_of, purpose, actor, run_id,
        facts_of_derived([full], provenance), full.family,
    )  # fmt: skip
    version = insert_draft(workspace, pipeline, trained, draft, _context(workspace, full, max_loss), provenance)
    keep_commit_of(workspace, version)
    return version


def _context(workspace: Workspace, full: ModelVersion, max_loss: float) -> dict[str, Any]:
    """What is the full version's: what it learnt from, and what was left out; and what the slimming was."""
    entries = workspace.lake.store.read_directory(full.capsule_md5)
    own = json.loads(workspace.lake.store.verified_path(entries["context.json"]).read_text(encoding="utf-8"))
    slimming = {"of": full.version, "manifest_sha256": full.manifest_sha256, "max_loss": max_loss}
    kept = {name: own[name] for name in ("training_set_md5", "training_set_content", "left_out") if name in own}
    return kept | {SLIMMING: slimming}


def _snapshot(workspace: Workspace, full: ModelVersion) -> str:
    """Pin what the full version learnt from, and its capsule; nothing is copied."""
    store = workspace.lake.store
    capsule = store.read_directory(full.capsule_md5)
    entries = store.read_directory(full.snapshot_md5)
    return store.put_directory({**entries, **{f"{FULL_FOLDER}/{name}": md5 for name, md5 in capsule.items()}}).md5
