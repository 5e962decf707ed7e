"""What follows a published night in Dagster: its figures, the review queue, alerts, and the night report.

Added here: what the UI shows of it. Not here: figures (`nightscore/monitoring`), pages and charts
(`nightscore/reports`).
"""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine


def build_night_report(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset behind `bi.performance` and `bi.review_queue`, and the pages that show a night and a quarter."""
    spec = daily_spec(
        pipeline, "night_report", "Realised performance, estimates, business metrics and cost; report and dashboard",
        deps=[key_of(pipeline, "published"), key_of(pipeline, "rollouts")], kinds={"postgres", "html"},
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__night_report", specs=[spec], backfill_policy=POLICY)
    def night_report_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from assets.report_pages import write_pages
        from nightscore.monitoring.follow_up import follow_up

        workspace, nights = engine.workspace(), nights_of(context)
        with mapped_failures(context, workspace, pipeline.name, []):
            done = follow_up(workspace, pipeline, nights, context.run.run_id)
            pages = write_pages(workspace, pipeline, nights) if pipeline.monitoring.pages == "nightly" else {}
        counts = {"figures": len(done.figures), "rows_to_review": done.queued, "alerts_sent": done.alerts.sent}
        yield dg.MaterializeResult(asset_key=spec.key, metadata=counts | pages)

    return night_report_asset
