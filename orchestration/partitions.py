"""Nights and model versions as Dagster partitions, and the one backfill policy that all daily assets share.

Assets share a run only under the same policy and partitions, so both are made here and nowhere else.
"""

from datetime import date, timedelta

import dagster as dg

from nightscore.spec.pipeline import Pipeline

NIGHTS_PER_RUN = 31
POLICY = dg.BackfillPolicy.multi_run(NIGHTS_PER_RUN)


def partitions_of(pipeline: Pipeline) -> dg.DailyPartitionsDefinition:
    """The score dates of a pipeline, in its time zone; the running day is a partition, since we score ahead."""
    dates = pipeline.score_dates
    return dg.DailyPartitionsDefinition(
        start_date=dates.start.isoformat(),
        end_date=(dates.end + timedelta(days=1)).isoformat() if dates.end else None,
        timezone=dates.timezone,
        end_offset=0 if dates.end else 1,
    )


def versions_of(pipeline: Pipeline) -> dg.DynamicPartitionsDefinition:
    """The registered model versions of a pipeline: "1", "2", and so on."""
    return dg.DynamicPartitionsDefinition(name=f"{pipeline.name}_versions")


def history_mapping(pipeline: Pipeline) -> dg.TimeWindowPartitionMapping:
    """A night's features read the nights of their lookback, and the night itself."""
    lookback = max(pipeline.features.lookback_days, pipeline.label.horizon_days)
    return dg.TimeWindowPartitionMapping(start_offset=-lookback, end_offset=0)


def nights_of(context: dg.AssetExecutionContext) -> list[date]:
    """The score dates of this run, one or a range."""
    return [date.fromisoformat(key) for key in context.partition_keys]
