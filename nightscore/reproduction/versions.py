"""Reproduce a model version: its capsule, environment, sources and snapshot are had again, and it is trained again.

Added here: steps of reproducing a version. Not here: nights (`nights.py`), or what equal means (`compare.py`).
"""

import json
from pathlib import Path
from typing import Any

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.reproductions import Reproduction
from nightscore.errors import ObjectMissing, SourcesMissing
from nightscore.lake.workspace import Workspace
from nightscore.registry.provenance import LOCK_FILE, SOURCES_FILE
from nightscore.registry.register import TRAINING_SET_FILE
from nightscore.registry.sources import archive_commit, unpack_sources
from nightscore.registry.verify import verify_capsule
from nightscore.reproduction.attempts import Attempt, attempted
from nightscore.reproduction.compare import Comparison, compare_models
from nightscore.reproduction.ensembles import compare_derived, members_apart, plan_derived
from nightscore.reproduction.sandbox import choose_interpreter, copy_out, lay_out, open_sandbox, recompute


def reproduce_version(workspace: Workspace, version: ModelVersion, asked_by: str, run_id: str = "") -> Reproduction:
    """Train `version` again as it was trained, compare, and keep the outcome in the catalog.

    An ensemble, or a slimmed version, is made again from the capsules of the versions it was made of; the report says
    how each of these is reproduced.
    Raises CannotReproduce, also kept, when something that it was made of cannot be had any more.
    """
    attempt = Attempt(version.pipeline, "model", version.version, None, None, asked_by, run_id)
    with attempted(workspace, attempt), open_sandbox(workspace) as folder:
        attempt.comparison = _compare(workspace, version, folder, attempt.facts)
    return attempt.recorded()


def _compare(workspace: Workspace, version: ModelVersion, folder: Path, facts: dict[str, Any]) -> Comparison:
    store, capsule = workspace.lake.store, folder / "original"
    copy_out(store, version.capsule_md5, capsule)
    verify_capsule(capsule, version.manifest_sha256)
    unpack_sources(_sources(workspace, version, capsule), folder / "sources")
    lay_out(store, version.snapshot_md5, folder / "inputs", f"the snapshot of {version.name}")
    derived = plan_derived(capsule)
    if derived.get("kind") != "ensemble" and not (folder / "inputs" / TRAINING_SET_FILE).exists():
        raise ObjectMissing(
            f"Restoring the snapshot of {version.name}", f"it names no {TRAINING_SET_FILE}", "train the version anew"
        )
    lock = (capsule / LOCK_FILE).read_bytes() if (capsule / LOCK_FILE).is_file() else None
    interpreter = choose_interpreter(workspace, lock, version.provenance or {}, folder, version.name)
    plan = {
        "contract": 1, "kind": "model", "pipeline": version.pipeline, "sources": folder / "sources",
        "inputs": folder / "inputs", **derived,
    }  # fmt: skip
    threads = json.loads((capsule / "environment.json").read_text(encoding="utf-8"))["threads"]
    report = recompute(interpreter, folder, plan, threads)
    if derived:
        facts |= members_apart(version, plan)
        comparison = compare_derived(capsule, folder / "capsule", report)
    else:
        comparison = compare_models(capsule, folder / "capsule", report, folder / "inputs" / TRAINING_SET_FILE)
    facts |= {
        "manifest_sha256": version.manifest_sha256, "snapshot_md5": version.snapshot_md5,
        "provenance": dict(version.provenance or {}), "interpreter": str(interpreter),
        "function_sha256": report["results"]["function_sha256"], "child_seconds": report["seconds"],
        "environment": report["environment"],
    }  # fmt: skip
    return comparison


def _sources(workspace: Workspace, version: ModelVersion, capsule: Path) -> bytes:
    """The capsule's archive, or what git has of the commit."""
    if (capsule / SOURCES_FILE).is_file():
        return (capsule / SOURCES_FILE).read_bytes()
    commit = json.loads((capsule / "context.json").read_text(encoding="utf-8")).get("commit")
    archive = archive_commit(workspace.settings.root, commit, version.pipeline) if commit else None
    if archive is None:
        gone = f"commit {commit} is not in this repository" if commit else "it names no commit"
        raise SourcesMissing(
            f"Finding the sources of {version.name}", ["its capsule has no source archive", gone],
            "fetch the commit (`git fetch origin 'refs/models/*:refs/models/*'`), or train the version anew",
        )  # fmt: skip
    return archive
