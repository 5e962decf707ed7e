"""The drill of a pipeline: the model's check `reproduces`, on a schedule of its own in the pipeline's time zone."""

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.run_tags import PIPELINE_TAG


def build_drill_job(pipeline: Pipeline, drill: dg.AssetChecksDefinition) -> dg.Definitions:
    """Reproduce one night and one version, chosen by lot, as often as `schedule.drill` of the spec says."""
    job = dg.define_asset_job(
        f"{pipeline.name}_drill", selection=dg.AssetSelection.checks(drill),
        description="Make an old night and an old model version again and compare them",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    schedule = dg.ScheduleDefinition(
        name=f"{pipeline.name}_drill_schedule", job_name=job.name, cron_schedule=pipeline.schedule.drill,
        execution_timezone=pipeline.score_dates.timezone, default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Drills the past: one published night and one model version",
    )  # fmt: skip
    return dg.Definitions(jobs=[job], schedules=[schedule])
