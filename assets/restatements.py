"""Restatements: after each night, what becomes of published nights whose inputs were corrected since."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import mapped_failures
from orchestration.partitions import POLICY
from orchestration.resources import Engine

if TYPE_CHECKING:
    from nightscore.publishing.restatement import Outcome


def build_restatements(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset that ignores, restates or asks; a night without corrections does nothing."""
    spec = daily_spec(
        pipeline, "restatements", "Published nights whose inputs were corrected: ignored, restated, or asked about",
        deps=[key_of(pipeline, "published")], kinds={"postgres"},
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__restatements", specs=[spec], backfill_policy=POLICY)
    def restatements_asset(context: dg.AssetExecutionContext, engine: Engine) -> dg.MaterializeResult:
        from nightscore.publishing.restatement import restate

        workspace = engine.workspace()
        with mapped_failures(context, workspace, pipeline.name, []):
            outcome = restate(workspace, pipeline, context.run.run_id, "nightly")
        return dg.MaterializeResult(asset_key=spec.key, metadata=_facts(outcome))

    return restatements_asset


def _facts(outcome: "Outcome") -> dict[str, Any]:
    facts = {"verdict": outcome.verdict, "affected": len(outcome.nights), "reason": outcome.reason}
    nights = dg.MetadataValue.json([str(night) for night in outcome.nights])
    changeset = {} if outcome.changeset_id is None else {"changeset": outcome.changeset_id}
    return {**facts, "nights": nights, **changeset}
