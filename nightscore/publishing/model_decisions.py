"""A person's decisions on model versions: approved, rejected, promoted, or the champion rolled back.

Added here: another decision that is offered. Not here: what each of them moves (`registry/promotion.py`, `retreat.py`).
"""

from nightscore.catalog.models import ModelVersion
from nightscore.errors import PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.publishing.retreat import retreat
from nightscore.registry.promotion import approve, promote, reject
from nightscore.registry.rollout import begin_rollout, newest_night
from nightscore.registry.versions import require_version
from nightscore.spec.pipeline import Pipeline

DECISIONS = ("approve", "reject", "promote", "rollback")


def decide_model(
    workspace: Workspace, pipeline: Pipeline, decision: str, version: int | None, actor: str, reason: str,
    despite_gate: bool = False, run_id: str = "",
) -> str:  # fmt: skip
    """Do what was decided and say what was done; PromotionRefused names all that is wrong with the request."""
    _require_sense(decision, version, reason)
    if decision == "rollback":
        done = retreat(workspace, pipeline, actor, reason, run_id)
        return f"{done.champion.name} is the champion again"
    found = require_version(workspace, pipeline.name, version or 0)
    if decision == "reject":
        reject(workspace, pipeline, found, actor, reason)
        return f"{found.name} is rejected"
    if decision == "promote":
        night = newest_night(workspace, pipeline)
        promote(workspace, pipeline, found, actor, reason, despite_gate, as_of=night)
        return f"{found.name} is the champion"

    def start_rollout(approved: ModelVersion) -> None:
        begin_rollout(workspace, pipeline, approved, actor, reason)

    action = approve(workspace, pipeline, found, actor, reason, start_rollout)
    return f"{found.name} is approved: {action}"


def _require_sense(decision: str, version: int | None, reason: str) -> None:
    found = [] if decision in DECISIONS else [f"{decision!r} is none of {', '.join(DECISIONS)}"]
    if version is None and decision != "rollback":
        found.append("it names no version")
    if not reason.strip():
        found.append("it has no reason, which is kept in the history")
    if found:
        raise PromotionRefused("Reading the decision", found, "correct the request; nothing moved")
