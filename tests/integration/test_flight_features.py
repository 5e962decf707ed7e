"""The feature SQL of flight_delay: what it may know, and that it says the same however it is run."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.integration import dbt_harness as harness

NIGHT = date(2013, 3, 1)
NIGHTS = [NIGHT + timedelta(days=offset) for offset in range(3)]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NIGHTSCORE_SCRATCH", "NIGHTSCORE_DBT_THREADS", "NIGHTSCORE_DUCKDB_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(scope="module")
def sources() -> harness.Sources:
    return harness.sample_sources()


def test_every_test_of_the_models_passes(sources: harness.Sources, tmp_path: Path) -> None:
    built = harness.build(sources, tmp_path / "run", NIGHTS[0], NIGHTS[-1], commands=(harness.BUILD, harness.UNIT_TEST))
    assert built.success, built.statuses
    assert {"history_is_the_28_days_before_as_known_by_then", "label_is_fifteen_minutes_at_the_gate"} <= set(
        built.statuses
    )


def test_features_have_exactly_the_rows_of_the_schedule(sources: harness.Sources, tmp_path: Path) -> None:
    built = harness.build(sources, tmp_path / "run", NIGHTS[0], NIGHTS[-1])
    scheduled = sources["schedule"].filter(pl.col("score_date").is_in(NIGHTS))
    key = ["score_date", "carrier", "flight", "origin"]
    assert [row[:4] for row in built.features] == scheduled.select(key).sort(key).rows()


def test_labels_are_the_arrivals_of_the_day_before(sources: harness.Sources, tmp_path: Path) -> None:
    built = harness.build(sources, tmp_path / "run", NIGHT, NIGHT)
    arrived = sources["flights"].filter(pl.col("known_on") == NIGHT, pl.col("arr_delay").is_not_null())
    expected = arrived.select(
        "event_date", "carrier", "flight", "origin", "known_on", (pl.col("arr_delay") >= 15).cast(pl.Int64)
    )
    assert built.labels == expected.sort("event_date", "carrier", "flight", "origin").rows()


def test_a_range_of_nights_gives_what_each_night_gives_alone(sources: harness.Sources, tmp_path: Path) -> None:
    together = harness.build(sources, tmp_path / "range", NIGHTS[0], NIGHTS[-1])
    alone = [harness.build(sources, tmp_path / str(night), night, night) for night in NIGHTS]
    assert together.features == [row for night in alone for row in night.features]
    assert together.labels == [row for night in alone for row in night.labels]


def test_what_becomes_known_later_changes_no_feature(sources: harness.Sources, tmp_path: Path) -> None:
    """The later nights stay in reach of the build, so it is the SQL that must leave them out."""
    before = harness.build(sources, tmp_path / "before", NIGHTS[0], NIGHTS[-1])
    after = harness.build(_with_another_future(sources), tmp_path / "after", NIGHTS[0], NIGHTS[-1])
    assert _of_night(before) == _of_night(after)
    assert before.features != after.features


def test_a_flown_tail_number_is_no_feature_of_its_flight(sources: harness.Sources, tmp_path: Path) -> None:
    flown = pl.col("event_date") == NIGHT
    blind = sources["flights"].with_columns(tailnum=pl.when(~flown).then("tailnum"))
    before = harness.build(sources, tmp_path / "before", NIGHT, NIGHT)
    after = harness.build({**sources, "flights": blind}, tmp_path / "after", NIGHT, NIGHT)
    assert before.features == after.features


def test_threads_change_nothing(sources: harness.Sources, tmp_path: Path) -> None:
    threads = (1, 2, 2, 2, 2, 2)
    builds = [
        harness.build(sources, tmp_path / str(run), NIGHTS[0], NIGHTS[-1], threads=count)
        for run, count in enumerate(threads)
    ]
    assert all((run.features, run.labels) == (builds[0].features, builds[0].labels) for run in builds)


def test_row_order_changes_nothing(sources: harness.Sources, tmp_path: Path) -> None:
    reversed_sources = {name: frame.reverse() for name, frame in sources.items()}
    before = harness.build(sources, tmp_path / "before", NIGHT, NIGHT)
    after = harness.build(reversed_sources, tmp_path / "after", NIGHT, NIGHT)
    assert before.features == after.features


def test_a_duplicate_in_the_timetable_fails_the_build(sources: harness.Sources, tmp_path: Path) -> None:
    schedule = sources["schedule"]
    twice = pl.concat([schedule, schedule.filter(pl.col("score_date") == NIGHT).head(1)])
    built = harness.build({**sources, "schedule": twice}, tmp_path / "run", NIGHT, NIGHT)
    failed = {name for name, status in built.statuses.items() if status == "fail"}
    assert not built.success
    assert any(name.startswith("unique_combination_flight_delay_schedule") for name in failed)


def _of_night(built: harness.Build) -> harness.Rows:
    return [row for row in built.features if row[0] == NIGHT]


def _with_another_future(sources: harness.Sources) -> harness.Sources:
    """Rows known after the night: changed where they were, and added late for days long past."""
    later = pl.col("known_on") > NIGHT
    flights, weather, planes = sources["flights"], sources["weather"], sources["planes"]
    late = pl.lit(NIGHTS[1])
    changed = flights.with_columns(
        pl.when(later).then(999.0).otherwise(pl.col(c)).alias(c) for c in ("dep_delay", "arr_delay")
    )
    return {
        "schedule": sources["schedule"].filter(~later | (pl.col("flight") % 2 == 0)),
        "flights": pl.concat([changed, flights.filter(pl.col("known_on") == NIGHT).with_columns(known_on=late)]),
        "weather": pl.concat(
            [weather, weather.filter(pl.col("known_on") == NIGHT).with_columns(known_on=late, wind_speed=200.0)]
        ),
        "planes": planes.with_columns(year=pl.when(later).then(1950).otherwise("year")),
        "airports": sources["airports"].with_columns(alt=pl.when(later).then(9999).otherwise("alt")),
    }
