"""Tell people of a night that readers should see by now and do not: it never ran, failed, or is held back.

Added here: another promise to readers that a clock can break. Not here: what becomes of a night (`catalog/nights.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import sqlalchemy as sa
from dagster._utils.schedules import get_latest_completed_cron_tick

from jobs.nightly import night_for
from nightscore.catalog.nights import NightStatus, first_recorded_at, night_status
from nightscore.catalog.publications import current_publications, latest_publication
from nightscore.catalog.watch import open_faults
from nightscore.spec.pipeline import Pipeline
from orchestration.partitions import partitions_of
from orchestration.resources import Engine

GRACE = timedelta(hours=2)
"""How long after its schedule's time a night may be on its way."""
OCCASION = "late"


@dataclass(frozen=True)
class Due:
    """A night that readers should see, and when its schedule was to start it."""

    night: date
    at: datetime


def build_freshness_sensor(pipelines: Sequence[Pipeline]) -> dg.SensorDefinition:
    """One sensor over all pipelines; it starts no run."""

    @dg.sensor(
        name="publication_freshness", minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of a night that is not published when it should be",
    )  # fmt: skip
    def publication_freshness(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        workspace = Engine().workspace()
        now = workspace.clock.now()
        with workspace.engine.begin() as connection:
            return dg.SkipReason("; ".join(tell_if_late(connection, one, now) for one in pipelines))

    return publication_freshness


def due_night(pipeline: Pipeline, now: datetime) -> Due:
    """The newest night whose schedule's time, and the grace after it, have passed."""
    timezone = pipeline.score_dates.timezone
    tick = get_latest_completed_cron_tick(pipeline.schedule.cron, now - GRACE, timezone)
    at = tick.astimezone(ZoneInfo(timezone))
    return Due(night_for(pipeline, at.date()), at)


def tell_if_late(connection: sa.Connection, pipeline: Pipeline, now: datetime) -> str:
    """Put one alert a night into the outbox when it is late; returns how the pipeline stands, in words.

    Nothing is expected of a pipeline before its first night was recorded, and people who were told of the incident
    that holds a night back are not told again.
    """
    from nightscore.monitoring.alerts import enqueue_alert

    due = due_night(pipeline, now)
    reason = _why_not_late(connection, pipeline, due)
    if reason:
        return f"{pipeline.name}: {reason}"
    title = f"Nightscore: {pipeline.name} {due.night} is late"
    told = describe_lateness(connection, pipeline, due)
    body = f"{told}\nnightscore run {pipeline.name} --date {due.night}"
    new = enqueue_alert(connection, pipeline.name, str(due.night), OCCASION, title, body, now)
    return f"{pipeline.name}: {due.night} is late, {'people are told' if new else 'which people were told'}: {told}"


def describe_lateness(connection: sa.Connection, pipeline: Pipeline, due: Due) -> str:
    """What became of the night, and what readers see instead."""
    status = night_status(connection, pipeline.name, due.night)
    became = f"{status.status}: {status.reason}" if status is not None else "nothing was recorded of it"
    seen = latest_publication(connection, pipeline.name)
    shown = f"the newest night that readers see is {seen.score_date}" if seen is not None else "readers see no night"
    return f"due since {due.at:%Y-%m-%d %H:%M %Z}; {became}; {shown}"


def _why_not_late(connection: sa.Connection, pipeline: Pipeline, due: Due) -> str:
    """Why nobody need be told of a night, or "" when it is late."""
    if not partitions_of(pipeline).has_partition_key(due.night.isoformat()):
        return f"{due.night} is no score date"
    begun = first_recorded_at(connection, pipeline.name)
    if begun is None or begun >= due.at:
        return "it had not begun when its schedule was last due"
    if due.night in current_publications(connection, pipeline.name, due.night, due.night):
        return f"{due.night} is published"
    return _held_back(connection, pipeline, night_status(connection, pipeline.name, due.night))


def _held_back(connection: sa.Connection, pipeline: Pipeline, status: NightStatus | None) -> str:
    if status is None or status.status != "gated":
        return ""
    names = ", ".join(open_faults(connection, pipeline.name, status.score_date))
    return f"{status.score_date} is held back by {names}, which people were told of" if names else ""
