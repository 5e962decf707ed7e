"""Rollouts in Dagster: after each night the shadow scores it too, and what runs is judged and goes on, or back.

Added here: what the UI shows of a rollout. Not here: what follows from what (`nightscore/monitoring/rollouts.py`).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.lake.outcomes import NightOutcome
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine

if TYPE_CHECKING:
    from nightscore.monitoring.rollouts import Review


def build_rollouts(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset that scores the shadow and reviews the rollout or the new champion; without either it does nothing."""
    spec = daily_spec(
        pipeline, "rollouts", "What a challenger or a new champion has shown, and what follows: go on, grow, take back",
        deps=[key_of(pipeline, "published")], kinds={"postgres"},
    )  # fmt: skip
    gate = dg.AssetCheckSpec(
        "shadow_gate", asset=spec.key, blocking=False,
        description="The scores that no reader sees pass the gates of predictions; they hold nothing back",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__rollouts", specs=[spec], check_specs=[gate], backfill_policy=POLICY)
    def rollouts_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.monitoring.rollouts import review_rollout
        from nightscore.scoring.shadow import score_shadows

        workspace, nights, run_id = engine.workspace(), nights_of(context), context.run.run_id
        with mapped_failures(context, workspace, pipeline.name, []):
            shadows = score_shadows(workspace, pipeline, nights, run_id)
            review = review_rollout(workspace, pipeline, max(nights), run_id)
        yield dg.MaterializeResult(asset_key=spec.key, metadata=_facts(review, shadows))
        yield _judged(spec.key, shadows)

    return rollouts_asset


def _facts(review: "Review", shadows: Sequence[NightOutcome]) -> dict[str, Any]:
    scored = ", ".join(f"{one.night}: {one.result}" for one in shadows)
    shown = {"action": review.action, "reason": review.reason, "subject": review.subject, "shadow": scored or "none"}
    return shown | {"evidence": dg.MetadataValue.json(dict(review.evidence))}


def _judged(key: dg.AssetKey, shadows: Sequence[NightOutcome]) -> dg.AssetCheckResult:
    blocked = [f"- {one.night}: {reason}" for one in shadows if one.result == "blocked" for reason in one.reasons]
    reasons = {"reasons": dg.MetadataValue.md("\n".join(blocked))} if blocked else {}
    return dg.AssetCheckResult(
        asset_key=key, check_name="shadow_gate", passed=not blocked, severity=dg.AssetCheckSeverity.WARN,
        metadata={"nights": len(shadows), **reasons},
    )  # fmt: skip
