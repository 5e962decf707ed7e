"""Real services for tests: one embedded PostgreSQL a session, one fresh database a workspace, a shop to score."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings

from nightscore.catalog.connect import Database, open_catalog
from nightscore.catalog.postgres import Server, ensure_server, stop_server
from nightscore.clock import FixedClock
from nightscore.lake.objects import ObjectStore
from nightscore.lake.partitions import Lake
from nightscore.lake.workspace import Workspace
from nightscore.settings import Settings
from tests.shop import make_shop

if TYPE_CHECKING:
    from tests.integration.night_chain import Begun

# A busy machine is no fault of the code; time is measured by benchmarks.
hypothesis_settings.register_profile("nightscore", deadline=None)
hypothesis_settings.load_profile("nightscore")
NOW = datetime(2013, 4, 1, 7, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="nightscore-tests-"))
    home.chmod(0o755)
    try:
        yield ensure_server(home)
    finally:
        stop_server(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def database_name(server: Server) -> Iterator[str]:
    name = f"test_{os.urandom(6).hex()}"
    admin = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    yield name
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database {name} with (force)")


@pytest.fixture
def postgres_url(server: Server, database_name: str) -> str:
    return server.url(database_name)


@pytest.fixture
def workspace(server: Server, database_name: str, tmp_path: Path) -> Iterator[Workspace]:
    """A deployment of its own: the project's specs and SQL, an empty catalog, an empty lake, a clock that stands."""
    database = Database(server.url(database_name), server.reader_url(database_name), "")
    engine = open_catalog(database)
    settings = Settings(home=tmp_path / "home")
    clock = FixedClock(NOW)
    yield Workspace(settings, clock, database, engine, Lake(ObjectStore(settings.lake_path), engine, clock))
    engine.dispose()


@pytest.fixture(scope="session")
def begun(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Begun"]:
    """The shop after its first night, made once; tests take copies."""
    from tests.integration.night_chain import begun_shop

    with begun_shop(server, tmp_path_factory.mktemp("begun")) as made:
        yield made


@pytest.fixture
def shop(server: Server, database_name: str, tmp_path: Path) -> Iterator[Workspace]:
    """The shop's project (tests/shop.py) with twelve days of visits, as a deployment of its own."""
    database = Database(server.url(database_name), server.reader_url(database_name), "")
    engine = open_catalog(database)
    settings = Settings(root=make_shop(tmp_path / "shop", days=12), home=tmp_path / "home")
    clock = FixedClock(datetime(2024, 3, 10, 2, 0, tzinfo=UTC))
    yield Workspace(settings, clock, database, engine, Lake(ObjectStore(settings.lake_path), engine, clock))
    engine.dispose()
