"""A shop trained once, with its Dagster instance on Postgres, of which modules have copies; and its commands."""

import gc
import io
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import structlog

from assets.watch import LEVELS
from nightscore.catalog.facts import write_fact
from nightscore.catalog.postgres import Server
from nightscore.publishing.marts import build_marts, marts_hash
from orchestration.cli.app import main
from orchestration.cli.launch import Launched, run_nights
from orchestration.cli.night_runs import Session, bootstrap, open_session
from orchestration.resources import Engine
from tests.integration.night_chain import Begun, administration, copy_database, fresh_database
from tests.shop import FIRST_NIGHT, make_shop

DAYS = 17


@contextmanager
def opened_session(server: Server, name: str, folder: Path) -> Iterator[Session]:
    """The shop as a deployment in `folder` on database `name`: environment and an opened session."""
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


@contextmanager
def shop_session(server: Server, folder: Path, begun: Begun | None = None) -> Iterator[Session]:
    """The shop as a deployment of its own: without a champion, or a copy of `begun`, Dagster's records included."""
    if begun is None:
        with fresh_database(server) as name, opened_session(server, name, folder) as session:
            yield session
        return
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name:
        copy_database(server, f"{begun.database}_dagster", f"{name}_dagster")
        with opened_session(server, name, folder) as session:
            yield session


@pytest.fixture(scope="session")
def trained(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """History and a champion for the first night, made through Dagster, and the marts; for copies."""
    folder = tmp_path_factory.mktemp("trained")
    with fresh_database(server) as name:
        with opened_session(server, name, folder) as session:
            assert [one.message for one in bootstrap(session, FIRST_NIGHT)] == ["", ""]
            build_marts_once(session)
        with administration(server) as connection:
            # Dagster leaves connections open, and with them a database cannot be copied.
            ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %(name)s"
            connection.exec_driver_sql(ended, {"name": f"{name}_dagster"})
        yield Begun(name, folder)


def build_marts_once(session: Session) -> None:
    """The views over all pipelines, as the first publication would make them."""
    workspace = session.workspace
    build_marts(workspace)
    with workspace.engine.begin() as connection:
        write_fact(connection, "marts", marts_hash(workspace), workspace.clock.now())


@pytest.fixture(scope="module")
def empty_session(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with shop_session(server, tmp_path_factory.mktemp("empty")) as session:
        yield session


@pytest.fixture(scope="module")
def session(server: Server, trained: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """With history and a champion, for the first night."""
    with shop_session(server, tmp_path_factory.mktemp("scored"), trained) as opened:
        yield opened


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def call_here(*arguments: str) -> Done:
    """`nightscore` in this process, in the environment of the open deployment, with nobody at its terminal.

    What only a process of its own shows (signals, imports, a terminal) is for tests that start one.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, own_logging(), warnings.catch_warnings():
        # A command leaves its connections to the end of its process; here that end is now.
        warnings.simplefilter("ignore", ResourceWarning)
        patch.setattr(sys, "argv", ["nightscore", *arguments])
        patch.delenv("PYTHONPATH", raising=False)  # for its sake a command would put another in this process's place
        for name, stream in {"stdin": io.StringIO(), "stdout": out, "stderr": err}.items():
            patch.setattr(sys, name, stream)
        code = exit_code_of_main()
        gc.collect()
    return Done(code, out.getvalue(), err.getvalue())


def exit_code_of_main() -> int:
    """Run the command line; what it left open is held by nobody afterwards, which a kept exception would do."""
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@contextmanager
def own_logging() -> Iterator[None]:
    """A command sets up logging for its process; here it is taken back."""
    root = logging.getLogger()
    handlers, level, structured = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**structured)


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
    """Whether each asset's gate passed in a run, and each level of the watch, with its metadata."""
    found = [one.asset_check_evaluation_data for one in events(
        session, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)]  # fmt: skip
    return {
        one.asset_key.path[-1] if one.check_name not in LEVELS else one.check_name: (
            one.passed,
            {name: value.value for name, value in one.metadata.items()},
        )
        for one in found
    }
