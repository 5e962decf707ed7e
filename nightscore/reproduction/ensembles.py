"""Reproduce a version made of versions, an ensemble or a slimmed one, from their capsules, which its snapshot pins.

Whether these come out the same again is asked of each on its own, by `nightscore reproduce pipeline@K`.
Added here: what such versions need beside others. Not here: the child's work (`recompute.py`).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightscore.catalog.models import ModelVersion
from nightscore.registry.capsule import HELD_OUT_FILE
from nightscore.registry.manifest import read_manifest
from nightscore.reproduction.compare import Comparison, Difference, compare_models


def plan_derived(capsule: Path) -> dict[str, Any]:
    """What the child must know of the versions that the verified `capsule` was made of; nothing for any other."""
    context = json.loads((capsule / "context.json").read_text(encoding="utf-8"))
    if "members" in context:
        return {"kind": "ensemble", "members": context["members"]}
    return {"kind": "slimmed", "slimming": context["slimming"]} if "slimming" in context else {}


def compare_derived(original: Path, again: Path, report: dict[str, Any]) -> Comparison:
    """As for any version, and the held-out rows too: they were computed, not drawn."""
    found = compare_models(original, again, report)
    then, now = (read_manifest(folder).files.get(HELD_OUT_FILE) for folder in (original, again))
    if then == now:
        return found
    difference = Difference("numerics", f"{HELD_OUT_FILE} has other bytes")
    return replace(found, level="equivalent" if found.level else None, differences=(*found.differences, difference))


def members_apart(version: ModelVersion, plan: dict[str, Any]) -> dict[str, Any]:
    """For the report: what was taken as given, and the command that reproduces each member on its own."""
    members = plan.get("members") or [{"version": plan["slimming"]["of"]}]
    names = [f"{version.pipeline}@{member['version']}" for member in members]
    return {"members": {name: f"nightscore reproduce {name}" for name in names}}
