"""Commands that start at the same moment, on a server that Dagster has never used."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from nightscore.catalog.connect import Database
from nightscore.catalog.postgres import Server
from nightscore.settings import Settings
from orchestration.cli.deployment import open_instance

STARTS = 6


@pytest.fixture
def database(server: Server) -> Database:
    name = f"test_{os.urandom(6).hex()}"
    return Database(server.url(name), server.reader_url(name), server.url(name, driver="postgresql+psycopg2"))


@pytest.fixture
def start(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")

    def start(number: int) -> int:
        instance = open_instance(Settings(home=tmp_path / str(number)), database)
        runs = instance.get_runs_count()
        instance.dispose()
        return runs

    return start


def test_commands_that_start_together_all_find_dagsters_storage_ready(
    start: Callable[[int], int], database: Database, server: Server
) -> None:
    with ThreadPoolExecutor(STARTS) as pool:
        assert list(pool.map(start, range(STARTS))) == [0] * STARTS
    admin = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from pg_locks where locktype = 'advisory'")) == 0
        connection.exec_driver_sql(f"drop database {sa.make_url(database.dagster_url).database} with (force)")
