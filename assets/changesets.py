"""Changesets in Dagster: a decision on one is a materialisation, with who, why and what it changes.

Added here: another decision that is offered in the UI. Not here: staging, which the assets of a night do under the run
tag `nightscore/changeset`; or the decisions themselves (`nightscore/publishing/changesets.py`).
"""

from typing import Any

import dagster as dg

from assets.naming import key_of
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import mapped_failures
from orchestration.resources import Engine
from orchestration.run_tags import USER_TAG


class DecisionConfig(dg.Config):
    """Which changeset, what is decided (approve, undo or discard), and why."""

    changeset: int
    decision: str
    reason: str


def build_changesets(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset whose materialisations are the decisions on a pipeline's changesets."""
    spec = dg.AssetSpec(
        key_of(pipeline, "changesets"), group_name=pipeline.name, owners=[pipeline.owner], kinds={"postgres"},
        description="Decisions on staged history: what readers see changes here, all of it at once",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__changesets", specs=[spec])
    def changesets_asset(
        context: dg.AssetExecutionContext, config: DecisionConfig, engine: Engine
    ) -> dg.MaterializeResult:
        from nightscore.publishing.changesets import decide

        workspace, actor = engine.workspace(), context.run.tags.get(USER_TAG, "dagster")
        with mapped_failures(context, workspace, pipeline.name, []):
            decide(workspace, pipeline.name, config.changeset, config.decision, actor, config.reason)
        return dg.MaterializeResult(asset_key=spec.key, metadata=_facts(workspace, config))

    return changesets_asset


def _facts(workspace: Workspace, config: DecisionConfig) -> dict[str, Any]:
    from nightscore.reports.changeset import render_text
    from nightscore.reports.review import read_review

    review = read_review(workspace, config.changeset)
    text = dg.MetadataValue.md(f"```\n{render_text(review.facts, review.difference)}\n```")
    return {
        "changeset": config.changeset, "decision": config.decision, "reason": config.reason, "difference": text,
        "command": f"nightscore changes show {config.changeset}",
    }  # fmt: skip
