"""A night in engine calls, and a shop that a whole test module may share.

Added here: what several modules do to a shop. Not here: tests, or the shop's data (`tests/shop.py`).
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from nightscore.catalog.connect import Database, open_catalog
from nightscore.catalog.postgres import Server
from nightscore.clock import FixedClock
from nightscore.features.build import build_features
from nightscore.lake.objects import ObjectStore
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.partitions import Lake
from nightscore.lake.workspace import Workspace
from nightscore.publishing.publish import publish_nights
from nightscore.quality.clean import clean_source
from nightscore.registry.register import Registration, train_version
from nightscore.scoring.night import score_nights
from nightscore.settings import Settings
from nightscore.sources.ingest import ingest_source
from nightscore.spec.loader import find_dbt_models, load_spec
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from tests.shop import FIRST, FIRST_NIGHT, make_shop

NOW = datetime(2024, 3, 10, 2, 0, tzinfo=UTC)


@contextmanager
def fresh_database(server: Server, template: str = "template1") -> Iterator[str]:
    """The name of a database that lives as long as the block, with Dagster's beside it when one is made.

    A copy of `template`, which nobody may be connected to.
    """
    name = f"test_{os.urandom(6).hex()}"
    copy_database(server, template, name)
    try:
        yield name
    finally:
        with administration(server) as connection:
            for one in (name, f"{name}_dagster"):
                connection.exec_driver_sql(f"drop database if exists {one} with (force)")


def copy_database(server: Server, template: str, name: str) -> None:
    """Make database `name` as a copy of `template`, which nobody may be connected to."""
    with administration(server) as connection:
        connection.exec_driver_sql(f"create database {name} template {template}")


def administration(server: Server) -> sa.Connection:
    """A connection that makes and drops databases."""
    return sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()


@contextmanager
def opened_shop(server: Server, name: str, folder: Path, days: int = 12) -> Iterator[Workspace]:
    """The shop as a deployment in `folder`, on database `name`."""
    database = Database(server.url(name), server.reader_url(name), "")
    engine = open_catalog(database)
    settings = Settings(root=make_shop(folder / "shop", days), home=folder / "home")
    clock = FixedClock(NOW)
    yield Workspace(settings, clock, database, engine, Lake(ObjectStore(settings.lake_path), engine, clock))
    engine.dispose()


@dataclass(frozen=True)
class Begun:
    """A shop after `bootstrap` that nobody has open: its database and its folder, to be copied."""

    database: str
    folder: Path


@contextmanager
def begun_shop(server: Server, folder: Path) -> Iterator[Begun]:
    """History, a first version and the first night published, made once for all that only begin there."""
    with fresh_database(server) as name:
        with opened_shop(server, name, folder) as workspace:
            bootstrap(workspace, visits_of_shop(workspace))
        yield Begun(name, folder)


@contextmanager
def copied_shop(server: Server, begun: Begun, folder: Path, days: int = 12) -> Iterator[Workspace]:
    """A copy of `begun` as a deployment of its own in `folder`, with data of `days` days."""
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name, opened_shop(server, name, folder, days) as workspace:
        yield workspace


def visits_of_shop(workspace: Workspace) -> Pipeline:
    """The shop's pipeline as its file says it now."""
    settings = workspace.settings
    return load_spec(settings.pipelines_path / "visits.yaml", find_dbt_models(settings.dbt_path, "visits"))


def prepare(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Sources, clean data, features and labels of `nights`."""
    return [
        *ingest_source(workspace, pipeline, "visits", nights, run_id),
        *clean_source(workspace, pipeline, "visits", nights, run_id),
        *build_features(workspace, pipeline, nights, run_id),
    ]


def finish(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Scores and publications of `nights`."""
    return [
        *score_nights(workspace, pipeline, nights, run_id),
        *publish_nights(workspace, pipeline, nights, run_id, "test"),
    ]


def run_night(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> list[NightOutcome]:
    """The whole chain of one night."""
    return [*prepare(workspace, pipeline, [night], run_id), *finish(workspace, pipeline, [night], run_id)]


def bootstrap(workspace: Workspace, pipeline: Pipeline, run_id: str = "bootstrap") -> Registration:
    """History, a first version, and the first night published."""
    prepare(workspace, pipeline, nights_between(FIRST, FIRST_NIGHT), run_id)
    registered = train_version(workspace, pipeline, FIRST_NIGHT, "first", run_id)
    finish(workspace, pipeline, [FIRST_NIGHT], run_id)
    return registered


def night_after(night: date, days: int = 1) -> date:
    """A later night."""
    return night + timedelta(days=days)
