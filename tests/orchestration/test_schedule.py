"""The schedule: three in the morning in the pipeline's zone, and a replayed business date for every wall date."""

from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from jobs.nightly import night_for
from nightscore.clock import replay_date
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.spec.pipeline import Pipeline
from orchestration.build import build_pipeline_definitions

FLIGHTS = load_spec(Settings().pipelines_path / "flight_delay.yaml")
VISITS = load_spec(Path(__file__).parents[1] / "projects" / "shop" / "pipelines" / "visits.yaml")


@pytest.mark.parametrize(
    ("wall", "business"),
    [
        (date(2026, 1, 1), date(2013, 4, 1)),
        (date(2026, 1, 2), date(2013, 4, 2)),
        (date(2026, 10, 2), date(2013, 12, 31)),
        (date(2026, 10, 3), date(2013, 4, 1)),
        (date(2025, 12, 31), date(2013, 12, 31)),
    ],
)
def test_a_replay_has_a_business_date_for_every_wall_date(wall: date, business: date) -> None:
    assert night_for(FLIGHTS, wall) == business


def test_a_replay_without_an_end_goes_on() -> None:
    assert replay_date(date(2030, 1, 1), date(2026, 1, 1), date(2013, 4, 1), None) == date(2017, 4, 1)


def test_a_pipeline_without_a_replay_scores_the_wall_date() -> None:
    assert night_for(VISITS, date(2026, 1, 1)) == date(2026, 1, 1)


def requested(pipeline: Pipeline, at: datetime) -> Any:
    definitions = build_pipeline_definitions(pipeline)
    schedule = definitions.resolve_schedule_def(f"{pipeline.name}_schedule")
    with dg.DagsterInstance.ephemeral() as instance:
        repository = definitions.get_repository_def()
        context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
        return schedule.evaluate_tick(context)


def test_a_tick_asks_for_the_business_date_once_a_wall_date() -> None:
    tick = requested(FLIGHTS, datetime(2026, 1, 2, 3, 0, tzinfo=ZoneInfo("America/New_York")))
    assert [(one.run_key, one.partition_key) for one in tick.run_requests or []] == [
        ("flight_delay:2026-01-02", "2013-04-02")
    ]


def test_a_tick_outside_the_score_dates_says_why_it_skips() -> None:
    tick = requested(VISITS, datetime(2024, 2, 1, 3, 0, tzinfo=ZoneInfo("Europe/Berlin")))
    assert (tick.run_requests, tick.skip_message) == ([], "2024-02-01 is not one of the score dates of visits")


@pytest.mark.parametrize("day", [date(2024, 3, 10), date(2024, 11, 3)])
def test_the_clock_change_moves_no_night(day: date) -> None:
    zone = ZoneInfo("America/New_York")
    schedule = build_pipeline_definitions(FLIGHTS).resolve_schedule_def("flight_delay_schedule")
    begin = datetime(day.year, day.month, day.day, tzinfo=zone)
    ticks = schedule_execution_time_iterator(
        begin.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone, ascending=True
    )
    local = [next(ticks).astimezone(zone) for _ in range(2)]
    assert [(one.date(), one.hour) for one in local] == [(day, 3), (date.fromordinal(day.toordinal() + 1), 3)]
