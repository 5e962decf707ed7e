"""Say in `partition_status` what became of nights whose run died without a word: killed, or out of memory."""

import dagster as dg

from nightscore.catalog.nights import record_unexplained_failure
from orchestration.resources import Engine
from orchestration.run_tags import PIPELINE_TAG, nights_of_run


@dg.run_failure_sensor(
    name="unexplained_failures", default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks the nights of a run that died as failed, unless the run said why itself",
)  # fmt: skip
def unexplained_failures(context: dg.RunFailureSensorContext) -> None:
    """Record the failure for each night of the run."""
    run = context.dagster_run
    pipeline, nights = run.tags.get(PIPELINE_TAG), nights_of_run(run.tags)
    if pipeline is None or nights is None:
        return
    workspace = Engine().workspace()
    record_unexplained_failure(workspace.engine, pipeline, nights, run.run_id, context.failure_event.message or "",
                               workspace.clock.now())  # fmt: skip
