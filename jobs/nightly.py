"""The nightly job of a pipeline, from sources to published, and its schedule in the pipeline's time zone."""

from collections.abc import Iterator, Sequence
from datetime import date
from zoneinfo import ZoneInfo

import dagster as dg

from nightscore.clock import replay_date
from nightscore.spec.pipeline import Pipeline
from orchestration.partitions import partitions_of
from orchestration.run_tags import PIPELINE_TAG


def build_nightly_job(pipeline: Pipeline, assets: Sequence[dg.AssetsDefinition]) -> dg.Definitions:
    """Sources, clean, features, predictions and published of one night or a range, with the schedule of that."""
    job = dg.define_asset_job(
        f"{pipeline.name}_nightly", selection=dg.AssetSelection.assets(*assets),
        description=f"Score and publish a night: {pipeline.description}", executor_def=dg.in_process_executor,
        tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job], schedules=[_build_schedule(pipeline, job.name)])


def build_history_job(pipeline: Pipeline, assets: Sequence[dg.AssetsDefinition]) -> dg.Definitions:
    """Sources, clean and features only: what training needs of past nights."""
    job = dg.define_asset_job(
        f"{pipeline.name}_history", selection=dg.AssetSelection.assets(*assets),
        description="Sources, clean data, features and labels of past nights, without scoring them",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])


def build_backfill_job(pipeline: Pipeline, assets: Sequence[dg.AssetsDefinition]) -> dg.Definitions:
    """Predictions and published of past nights; with the tag of a changeset they are staged for review."""
    job = dg.define_asset_job(
        f"{pipeline.name}_backfill", selection=dg.AssetSelection.assets(*assets),
        description="Score past nights into a changeset (tag nightscore/changeset), from the features that are there",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])


def _build_schedule(pipeline: Pipeline, job_name: str) -> dg.ScheduleDefinition:
    timezone = pipeline.score_dates.timezone

    @dg.schedule(
        name=f"{pipeline.name}_schedule", job_name=job_name, cron_schedule=pipeline.schedule.cron,
        execution_timezone=timezone, default_status=dg.DefaultScheduleStatus.RUNNING,
        description=_describe_schedule(pipeline),
    )  # fmt: skip
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        wall = context.scheduled_execution_time.astimezone(ZoneInfo(timezone)).date()
        night = night_for(pipeline, wall)
        if partitions_of(pipeline).has_partition_key(night.isoformat()):
            yield dg.RunRequest(run_key=f"{pipeline.name}:{wall}", partition_key=night.isoformat())
        else:
            yield dg.SkipReason(f"{night} is not one of the score dates of {pipeline.name}")

    return schedule


def _describe_schedule(pipeline: Pipeline) -> str:
    if pipeline.replay is None:
        return "Scores and publishes the night that begins"
    return f"Replays past nights: {pipeline.replay.wall} stands for {pipeline.replay.business}"


def night_for(pipeline: Pipeline, wall: date) -> date:
    """The score date that a wall date's schedule is for."""
    replay = pipeline.replay
    return wall if replay is None else replay_date(wall, replay.wall, replay.business, pipeline.score_dates.end)
