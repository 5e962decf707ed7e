"""Say in `partition_status` what became of nights whose run died without a word: killed, or out of memory."""

from datetime import date

import dagster as dg

from nightscore.catalog.nights import record_unexplained_failure
from orchestration.resources import Engine

PIPELINE_TAG = "nightscore/pipeline"


@dg.run_failure_sensor(
    name="unexplained_failures", default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks the nights of a run that died as failed, unless the run said why itself",
)  # fmt: skip
def unexplained_failures(context: dg.RunFailureSensorContext) -> None:
    """Record the failure for each night of the run."""
    run = context.dagster_run
    pipeline, first = run.tags.get(PIPELINE_TAG), run.tags.get("dagster/asset_partition_range_start")
    single = run.tags.get("dagster/partition")
    if pipeline is None or not (first or single):
        return
    last = run.tags.get("dagster/asset_partition_range_end")
    workspace = Engine().workspace()
    nights = (date.fromisoformat(first or single or ""), date.fromisoformat(last or single or ""))
    record_unexplained_failure(workspace.engine, pipeline, nights, run.run_id, context.failure_event.message or "",
                               workspace.clock.now())  # fmt: skip
