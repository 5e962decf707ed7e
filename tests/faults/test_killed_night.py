"""A night killed with SIGKILL at any moment, and two runs of one night at once: the next run finishes, nothing is half.

Here the command line runs as it does for its users: processes of their own, on the embedded server of a home.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from nightscore.catalog.postgres import ensure_server, stop_server
from tests.shop import CUSTOMERS, FIRST_NIGHT, make_shop

pytestmark = pytest.mark.timeout(200)

NIGHTSCORE = str(Path(sys.executable).parent / "nightscore")


@dataclass(frozen=True)
class Home:
    """A shop with a home and an embedded server of its own."""

    root: Path
    home: Path

    def start(self, night: date) -> "subprocess.Popen[str]":
        """`nightscore run visits --date <night>`, in a process group that can be killed whole."""
        command = [NIGHTSCORE, "run", "visits", "--date", str(night)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSCORE_")}
        environment |= {"NIGHTSCORE_ROOT": str(self.root), "NIGHTSCORE_HOME": str(self.home)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def rows(self, query: str, database: str = "nightscore") -> list[tuple[object, ...]]:
        """The owner's view of the server."""
        url = ensure_server(self.home).url(database, driver="postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def reader_url(self) -> str:
        return ensure_server(self.home).reader_url()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A published first night; the folder is one that the server's own user may enter."""
    with tempfile.TemporaryDirectory(prefix="nightscore-killed-") as folder:
        Path(folder).chmod(0o755)
        made = Home(make_shop(Path(folder) / "shop", days=12), Path(folder) / "home")
        try:
            yield made
        finally:
            stop_server(made.home)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, said = process.communicate(timeout=90)
    return process.returncode, said


def kill(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not condition():
        time.sleep(0.02)


class Polling:
    """A reader that asks for the published nights all the time and keeps every answer."""

    def __init__(self, home: Home) -> None:
        self.seen: set[tuple[object, ...]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, args=(home.reader_url(),))

    def __enter__(self) -> "Polling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _poll(self, url: str) -> None:
        query = "select score_date, publication_id, count(*) from bi.visits_current group by 1, 2"
        with psycopg.connect(url, autocommit=True) as reader:
            while not self._over.is_set():
                self.seen |= set(reader.execute(query).fetchall())
                time.sleep(0.01)


def assert_published_once(home: Home, night: date, revisions: int = 1) -> None:
    where = f"pipeline = 'visits' and score_date = '{night}'"
    assert home.rows(f"select status, revision, rows from bi.partition_status where {where}") == [
        ("fresh" if revisions == 1 else "restated", revisions, CUSTOMERS)
    ]
    assert home.rows(f"select count(*) from nightscore.publication where {where}") == [(revisions,)]
    staging = (
        "select tablename from pg_tables where schemaname = 'mart' and tablename <> 'visits' and tablename not in "
        "(select pipeline || '_p' || publication_id from nightscore.publication)"
    )
    assert home.rows(staging) == []


def unfinished_runs(home: Home) -> list[tuple[object, ...]]:
    return home.rows("select run_id from runs where status not in ('SUCCESS', 'FAILURE')", "dagster")


def test_a_bootstrap_that_is_killed_before_its_champion_stands_is_finished_by_the_next_run(home: Home) -> None:
    ensure_server(home.home)
    process = home.start(FIRST_NIGHT)
    table = "select 1 from information_schema.tables where table_schema = 'nightscore' and table_name = 'model_version'"
    wait_for(lambda: home.rows(table) and home.rows("select 1 from nightscore.model_version"), process)
    kill(process)
    code, said = finish(home.start(FIRST_NIGHT))
    assert code == 0, said
    assert home.rows("select model_version from bi.dim_model where is_current") == [(1,)]
    assert_published_once(home, FIRST_NIGHT)
    assert unfinished_runs(home) == []


POINTER = "select 1 from nightscore.partition_current where dataset = 'visits.{}' and score_date = '{}'"
KILLED_WHEN = {
    "it has begun": POINTER.format("source.visits", "{}"),
    "its features are there": POINTER.format("features", "{}"),
    "it is published": "select 1 from nightscore.publication_current where score_date = '{}'",
}


@pytest.mark.parametrize("moment", KILLED_WHEN)
def test_a_killed_night_is_finished_by_the_next_run(home: Home, moment: str) -> None:
    night = FIRST_NIGHT + timedelta(days=1)
    forget(home, night)
    with Polling(home) as polling:
        process = home.start(night)
        wait_for(lambda: home.rows(KILLED_WHEN[moment].format(night)), process)
        kill(process)
        dead = unfinished_runs(home)
        code, said = finish(home.start(night))
    assert code == 0, said
    assert all(str(run_id) in said for (run_id,) in dead)
    assert unfinished_runs(home) == []
    assert {rows for _, _, rows in polling.seen} == {CUSTOMERS}
    assert_published_once(home, night)


def forget(home: Home, night: date) -> None:
    """Take the night out of the catalog's pointers and publications, so that it is made anew."""
    of_night = f"score_date >= '{night}'"
    for table in ("partition_current", "publication_current", "publication_event", "publication", "night_event"):
        home.rows(
            f"with gone as (delete from nightscore.{table} where {of_night} returning 1) select count(*) from gone"
        )
    leftover = "select tablename from pg_tables where schemaname = 'mart' and tablename like 'visits_p%'"
    kept = {f"visits_p{one}" for (one,) in home.rows("select publication_id from nightscore.publication")}
    url = ensure_server(home.home).url(driver="postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        for (name,) in home.rows(leftover):
            if name not in kept:
                connection.execute(f"drop table mart.{name}".encode())


def test_two_runs_of_one_night_at_once_lose_nothing(home: Home) -> None:
    night = FIRST_NIGHT + timedelta(days=2)
    with Polling(home) as polling:
        both = [home.start(night), home.start(night)]
        ended = [finish(process) for process in both]
    assert 0 in {code for code, _ in ended}, ended
    assert {code for code, _ in ended} <= {0, 4}, ended
    assert {rows for _, _, rows in polling.seen} == {CUSTOMERS}
    assert_published_once(home, night)
    assert unfinished_runs(home) == []
    assert finish(home.start(night))[0] == 0
    assert_published_once(home, night)
