"""The published table: what BI tools read, moved on by one atomic pointer a night."""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine
from orchestration.run_tags import changeset_of


def build_published(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset behind `bi.<pipeline>_current` and `bi.<pipeline>_latest`."""
    key = key_of(pipeline, "published")
    spec = daily_spec(
        pipeline, "published", f"bi.{pipeline.name}_current: {pipeline.publish.description or pipeline.description}",
        deps=[key_of(pipeline, "predictions"), key_of(pipeline, "watch")], kinds={"postgres", "view"},
        metadata={"dagster/table_name": f"bi.{pipeline.name}_current"},
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__published", specs=[spec], backfill_policy=POLICY)
    def published_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.publishing.publish import publish_nights
        from nightscore.publishing.staging import stage_of_run, stage_publications

        workspace, nights, run_id = engine.workspace(), nights_of(context), context.run.run_id
        changeset = changeset_of(context.run.tags)
        with mapped_failures(context, workspace, pipeline.name, [] if changeset else nights):
            if changeset:
                outcomes = stage_publications(workspace, pipeline, changeset, nights, run_id)
            else:
                outcomes = publish_nights(workspace, pipeline, nights, run_id, actor="nightly")
                stage_of_run(workspace, pipeline, run_id)
        for mart in outcomes[0].facts.get("marts_built", []):
            context.log_event(dg.AssetMaterialization(["bi", mart], description="built by the first publication"))
        yield from report(context, key, outcomes)

    return published_asset
