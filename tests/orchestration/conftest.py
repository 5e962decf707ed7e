"""A shop that has been scored once, with its Dagster instance on Postgres, shared by the tests of a module."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from orchestration.cli.launch import Launched, run_nights
from orchestration.cli.night_runs import Session, bootstrap, open_session
from orchestration.resources import Engine
from tests.shop import FIRST_NIGHT, make_shop

DAYS = 17


@contextmanager
def shop_session(server: Server, folder: Path) -> Iterator[Session]:
    """The shop as a deployment of its own: environment, databases, an opened session, no champion yet."""
    name = f"test_{os.urandom(6).hex()}"
    admin = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSCORE_ROOT", str(make_shop(folder / "shop", DAYS)))
        patch.setenv("NIGHTSCORE_HOME", str(folder / "home"))
        patch.setenv("NIGHTSCORE_DATABASE_URL", server.url(name))
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        session = open_session("visits")
        yield session
        session.instance.dispose()
        session.workspace.engine.dispose()
        Engine().workspace().engine.dispose()
    with admin.connect() as connection:
        for database in (name, f"{name}_dagster"):
            connection.exec_driver_sql(f"drop database {database} with (force)")


@pytest.fixture(scope="module")
def empty_session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with shop_session(server, tmp_path_factory.mktemp("empty")) as session:
        yield session


@pytest.fixture(scope="module")
def session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """With history and a champion, for the first night."""
    with shop_session(server, tmp_path_factory.mktemp("scored")) as opened:
        assert [one.message for one in bootstrap(opened, FIRST_NIGHT)] == ["", ""]
        yield opened


def run(session: Session, *nights: date) -> Launched:
    """The nightly job over `nights`, in one run."""
    (launched,) = run_nights(session.definitions, session.instance, "visits_nightly", nights)
    return launched


def materialisations(session: Session, run_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Metadata by (asset, partition) of one run; ordered as recorded."""
    records = session.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    found = [record.asset_materialization for record in records]
    return {
        (one.asset_key.path[-1], one.partition or ""): {name: value.value for name, value in one.metadata.items()}
        for one in found
        if one is not None
    }


def events(session: Session, run_id: str, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
    """The events of one kind of a run."""
    records = session.instance.get_records_for_run(run_id, of_type=kind).records
    return [record.event_log_entry.get_dagster_event() for record in records]


def checks(session: Session, run_id: str) -> dict[str, tuple[bool, dict[str, Any]]]:
    """Whether each asset's gate passed in a run, with its metadata."""
    found = [one.asset_check_evaluation_data for one in events(
        session, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)]  # fmt: skip
    return {
        one.asset_key.path[-1]: (one.passed, {name: value.value for name, value in one.metadata.items()})
        for one in found
    }
