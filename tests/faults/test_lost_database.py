"""A publication whose connection is lost: nothing or everything is published, and a second call publishes."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from nightscore.errors import DatabaseUnavailable
from nightscore.lake.parquet import read_batches
from nightscore.lake.workspace import Workspace
from nightscore.publishing.publish import publish_nights
from nightscore.scoring.night import score_nights
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import Begun, copied_shop, night_after, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

NIGHT = night_after(FIRST_NIGHT)


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One shop, a first night published and the next one scored."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("lost")) as opened:
        pipeline = visits_of_shop(opened)
        prepare(opened, pipeline, [NIGHT], "night")
        score_nights(opened, pipeline, [NIGHT], "night")
        yield opened


@pytest.fixture(scope="module")
def pipeline(workspace: Workspace) -> Pipeline:
    return visits_of_shop(workspace)


def readers_see(workspace: Workspace) -> list[tuple[object, ...]]:
    with psycopg.connect(workspace.database.reader_url) as reader:
        return reader.execute("select score_date, count(*) from bi.visits_current group by 1 order by 1").fetchall()


def staging_tables(workspace: Workspace) -> int:
    """Tables in the mart that no publication names."""
    query = (
        "select count(*) from pg_tables where schemaname = 'mart' and tablename ~ '_p[0-9]+$' and tablename not in "
        "(select pipeline || '_p' || publication_id from nightscore.publication)"
    )
    with workspace.engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


@contextmanager
def killing(server: Server, workspace: Workspace, statement: str) -> Iterator[None]:
    """While the block runs, end the connection of the workspace's database that waits for a lock at `statement`.

    A table is locked meanwhile, so that the publication stands still at the statement that needs it.
    """
    ended = threading.Event()
    query = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = %s and query ilike %s and wait_event_type = 'Lock'"
    )

    def kill() -> None:
        with psycopg.connect(server.url("postgres", driver="postgresql"), autocommit=True) as admin:
            while not ended.is_set():
                if admin.execute(query, (workspace.engine.url.database, f"%{statement}%")).fetchall():
                    ended.set()
                time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()


@contextmanager
def holding(workspace: Workspace, lock: str) -> Iterator[None]:
    """Hold a lock on the catalog or the mart, so that a publication waits there until it is killed."""
    with workspace.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(lock)
        yield


@pytest.mark.parametrize(
    ("lock", "statement"),
    [
        ("lock table nightscore.publication in exclusive mode", "insert into nightscore.publication"),
        ("lock table mart.visits in access exclusive mode", "create table"),
        ("lock table mart.visits in share update exclusive mode", "attach partition"),
        ("lock table nightscore.publication_current in share row exclusive mode", "publication_current"),
        ("lock table nightscore.night_event in exclusive mode", "night_event"),
    ],
)
def test_a_connection_lost_at_any_statement_publishes_nothing_and_leaves_nothing(
    server: Server, workspace: Workspace, pipeline: Pipeline, lock: str, statement: str
) -> None:
    before = readers_see(workspace) if "access exclusive" not in lock else [(FIRST_NIGHT, CUSTOMERS)]
    with (
        killing(server, workspace, statement),
        holding(workspace, lock),
        pytest.raises(DatabaseUnavailable, match="Publishing visits 2024-03-10 failed"),
    ):
        publish_nights(workspace, pipeline, [NIGHT], "killed", "test")
    assert readers_see(workspace) == before == [(FIRST_NIGHT, CUSTOMERS)]
    assert staging_tables(workspace) == 0


def test_a_connection_lost_in_the_middle_of_the_rows_publishes_nothing(
    server: Server, workspace: Workspace, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(path: Path, rows: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        whole = pl.concat(read_batches(path, rows, columns))
        yield whole.head(30)
        with psycopg.connect(server.url("postgres", driver="postgresql"), autocommit=True) as admin:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and query like 'copy%%'"
            assert admin.execute(query, (workspace.engine.url.database,)).fetchall() == [(True,)]
        yield whole.tail(-30)

    monkeypatch.setattr("nightscore.publishing.publish.read_batches", broken_off)
    with pytest.raises(DatabaseUnavailable, match="Publishing visits 2024-03-10 failed"):
        publish_nights(workspace, pipeline, [NIGHT], "broken off", "test")
    assert readers_see(workspace) == [(FIRST_NIGHT, CUSTOMERS)]
    assert staging_tables(workspace) == 0


def test_a_database_that_refuses_everyone_is_named_and_changes_nothing(
    server: Server, workspace: Workspace, pipeline: Pipeline
) -> None:
    name = workspace.engine.url.database
    with psycopg.connect(server.url("postgres", driver="postgresql"), autocommit=True) as admin:
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        try:
            with pytest.raises(DatabaseUnavailable, match="not currently accepting connections"):
                publish_nights(workspace, pipeline, [NIGHT], "refused", "test")
        finally:
            admin.execute(f"alter database {name} allow_connections true".encode())
    assert readers_see(workspace) == [(FIRST_NIGHT, CUSTOMERS)]


def test_afterwards_the_same_call_publishes_once(workspace: Workspace, pipeline: Pipeline) -> None:
    (first,) = publish_nights(workspace, pipeline, [NIGHT], "second", "test")
    (again,) = publish_nights(workspace, pipeline, [NIGHT], "third", "test")
    assert (first.result, first.facts["revision"], first.rows) == ("made", 1, CUSTOMERS)
    assert (again.result, again.facts) == ("reused", first.facts)
    assert readers_see(workspace) == [(FIRST_NIGHT, CUSTOMERS), (NIGHT, CUSTOMERS)]


def test_two_publishers_of_one_night_make_one_publication(workspace: Workspace, pipeline: Pipeline) -> None:
    night = night_after(NIGHT)
    prepare(workspace, pipeline, [night], "night")
    score_nights(workspace, pipeline, [night], "night")
    made: list[tuple[str, object]] = []

    def publish(run_id: str) -> None:
        (one,) = publish_nights(workspace, pipeline, [night], run_id, "test")
        made.append((one.result, one.facts["revision"]))

    threads = [threading.Thread(target=publish, args=(f"publisher {number}",)) for number in range(4)]
    with holding(workspace, "lock table nightscore.publication in exclusive mode"):
        for thread in threads:
            thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    assert sorted(made) == [("made", 1), *[("reused", 1)] * 3]
