"""What commands share of a deployment: Dagster's instance and where it keeps its state.

Imported inside commands, since it imports Dagster. Added here: another thing that commands share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from nightscore.catalog.connect import Database
from nightscore.settings import Settings

DAGSTER_YAML = """\
# Written by nightscore at each start; changes are lost.
storage:
  postgres:
    postgres_url: "{url}"
telemetry:
  enabled: false
nux:
  enabled: false
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  max_runtime_seconds: 21600
concurrency:
  runs:
    max_concurrent_runs: 2
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days: 30
"""

STATEMENT_TIMEOUT_MILLISECONDS = 60_000


def prepare_dagster_home(settings: Settings, database: Database) -> Path:
    """Write Dagster's instance configuration, with its storage on our server; returns its folder."""
    home = settings.home_path / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    path = home / "dagster.yaml"
    content = DAGSTER_YAML.format(url=database.dagster_url)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        descriptor = os.open(path.with_suffix(".part"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
        path.with_suffix(".part").replace(path)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return home


def open_instance(settings: Settings, database: Database) -> dg.DagsterInstance:
    """Dagster's instance; runs of commands appear in the UI because they are recorded here."""
    home = prepare_dagster_home(settings, database)
    with _prepared_database(database.dagster_url):
        instance = dg.DagsterInstance.from_config(str(home))
    # Keeps connections open between events, as the webserver does; a connection each costs most of a range's events.
    instance.optimize_for_webserver(STATEMENT_TIMEOUT_MILLISECONDS, pool_recycle=3600, max_overflow=20)
    return instance


@contextmanager
def _prepared_database(url: str) -> Iterator[None]:
    """Dagster's database, made when the server lacks it; commands that start together pass one after the other."""
    target = sa.make_url(url)
    server = sa.create_engine(
        target.set(drivername="postgresql+psycopg", database="postgres"),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,  # closing the connection is what gives the lock back, also after an error
    )
    with server.connect() as connection:
        connection.execute(sa.text("select pg_advisory_lock(hashtext(:name))"), {"name": target.database})
        exists = sa.text("select 1 from pg_database where datname = :name")
        if connection.scalar(exists, {"name": target.database}) is None:
            connection.execute(sa.text(f'create database "{target.database}"'))
        # Dagster keeps no state that matters, so its events need not wait for the disk one by one.
        connection.execute(sa.text(f'alter database "{target.database}" set synchronous_commit = off'))
        yield
