"""The embedded PostgreSQL against real servers: first start, sharing, and everything that can go wrong between."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from nightscore.catalog import postgres_install
from nightscore.catalog.postgres import Server, ensure_server, server_status, stop_server
from nightscore.catalog.postgres_install import SYSTEM_FOLDER, choose_user
from nightscore.catalog.postgres_process import postmaster_pid
from nightscore.catalog.postgres_record import ServerRecord, read_record, write_record
from nightscore.errors import DatabaseUnavailable, SettingsError

PROJECT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
ENSURE = """
import dataclasses, json, sys
from pathlib import Path
from nightscore.catalog.postgres import ensure_server
print(json.dumps(dataclasses.asdict(ensure_server(Path(sys.argv[1])))))
"""


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder that every user can pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="nightscore-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(room: Path) -> Iterator[Path]:
    """A home not made yet, whose server ends with the test."""
    yield room / "home"
    _end(room / "home")


def _end(home: Path) -> None:
    _stop_hard(_data(home))
    if (data := _data(home)).is_relative_to(SYSTEM_FOLDER):
        shutil.rmtree(data.parent)


def _stop_hard(data: Path) -> None:
    """Stop without the code under test, for whatever state a test left."""
    if pid := postmaster_pid(data):
        os.kill(pid, signal.SIGQUIT)
        _wait_until(lambda: postmaster_pid(data) is None)


def _wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _record(home: Path) -> ServerRecord:
    record = read_record(home / "postgres")
    assert record is not None
    return record


def _data(home: Path) -> Path:
    try:
        given = json.loads((home / "postgres" / "server.json").read_text())["data_directory"]
    except (OSError, ValueError, TypeError, KeyError):
        given = "data"
    return (home / "postgres").resolve() / str(given)


def _pid(home: Path) -> int:
    pid = postmaster_pid(_data(home))
    assert pid is not None
    return pid


def _query(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def _as_owner(server: Server, query: str, database: str = "nightscore") -> list[Any]:
    return _query(server.url(database, driver="postgresql"), query)


def _kill(home: Path) -> None:
    pid = _pid(home)
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: postmaster_pid(_data(home)) is None)


def _ensure_elsewhere(home: Path, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | options.pop("environment", {})
    command = [sys.executable, "-c", ENSURE, str(home)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def _answer(process: subprocess.Popen[str]) -> Server:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return Server(**json.loads(out))


def test_a_fresh_home_gets_a_server_with_its_settings(home: Path) -> None:
    server = ensure_server(home)
    expected = {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "wal_level": "minimal",
        "max_connections": "100",
        "TimeZone": "UTC",
        "log_timezone": "UTC",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "logging_collector": "off",
        "password_encryption": "scram-sha-256",
    }
    shown = {name: _as_owner(server, f"SHOW {name}")[0][0] for name in expected}
    assert _as_owner(server, "SELECT current_setting('server_version_num')::int / 10000") == [(18,)]
    assert shown == expected


def test_a_fresh_home_gets_its_databases_and_roles(home: Path) -> None:
    server = ensure_server(home)
    databases = "SELECT datname, datlocprovider, datlocale FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    roles = "SELECT rolname, rolsuper, rolcanlogin, rolconfig FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
    reader_settings = [
        "default_transaction_read_only=on",
        "statement_timeout=5min",
        "idle_in_transaction_session_timeout=10min",
    ]
    assert (_as_owner(server, databases), _as_owner(server, roles)) == (
        [("dagster", "b", "C.UTF-8"), ("nightscore", "b", "C.UTF-8"), ("postgres", "b", "C.UTF-8")],
        [("bi_reader", False, True, reader_settings), ("nightscore", True, True, None)],
    )


def test_the_files_of_the_home_are_private_and_ours(home: Path) -> None:
    ensure_server(home)
    folder = home / "postgres"
    facts = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o077) for path in folder.iterdir()}
    user = choose_user(home, folder / "data")
    data_owner = os.geteuid() if user is None else user.uid
    assert facts.pop("start.lock")[0] == os.geteuid()
    assert facts == {"data": (data_owner, 0), "server.json": (os.geteuid(), 0), "server.log": (os.geteuid(), 0)}


@pytest.mark.parametrize("database", ["dagster", "postgres", "template1"])
def test_the_reader_enters_only_its_own_database(home: Path, database: str) -> None:
    server = ensure_server(home)
    assert _query(server.reader_url(), "SELECT current_user") == [("bi_reader",)]
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        _query(server.reader_url(database), "SELECT 1")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.t (a int)",
        "CREATE SCHEMA s",
        "CREATE TEMP TABLE t (a int)",
        "SELECT passwd FROM pg_shadow",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_the_reader_is_held_by_grants_even_when_it_lifts_read_only(home: Path, statement: str) -> None:
    with psycopg.connect(ensure_server(home).reader_url(), autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement.encode())


def test_nobody_enters_without_the_password(home: Path) -> None:
    server = ensure_server(home)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _query(replace(server, owner_password="wrong").url(driver="postgresql"), "SELECT 1")


def test_a_running_server_is_reused_at_once(home: Path) -> None:
    first, pid = ensure_server(home), _pid(home)
    durations = []
    for _ in range(5):
        before = time.perf_counter()
        assert ensure_server(home) == first
        durations.append(time.perf_counter() - before)
    assert (_pid(home), min(durations) < 0.05) == (pid, True)


def test_data_and_port_survive_a_stop(home: Path) -> None:
    first = ensure_server(home)
    _as_owner(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    stopped = (stop_server(home), server_status(home), stop_server(home))
    second = ensure_server(home)
    assert stopped == (True, "stopped", False)
    assert (second, _as_owner(second, "SELECT answer FROM kept")) == (first, [(42,)])


def test_the_status_tells_each_state(home: Path) -> None:
    before = (server_status(home), stop_server(home), home.exists())
    server = ensure_server(home)
    running = server_status(home)
    stop_server(home)
    assert before == ("not initialised", False, False)
    assert running == f"running (pid {_running_pid_of(running)}, port {server.port})"
    assert server_status(home) == "stopped"


def _running_pid_of(status: str) -> int:
    return int(status.removeprefix("running (pid ").split(",")[0])


def test_stopping_ends_open_sessions(home: Path) -> None:
    server = ensure_server(home)
    with psycopg.connect(server.reader_url()) as reader:
        reader.execute("SELECT 1")
        assert stop_server(home)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")


def test_a_killed_server_recovers_what_was_committed(home: Path) -> None:
    server = ensure_server(home)
    _as_owner(server, "CREATE TABLE kept AS SELECT g FROM generate_series(1, 100000) g")
    with psycopg.connect(server.url(driver="postgresql")) as busy:
        busy.execute("CREATE TABLE lost AS SELECT 1")
        _kill(home)
        assert server_status(home) == "stopped"
        again = ensure_server(home)
        with pytest.raises(psycopg.OperationalError):
            busy.execute("SELECT 1")
    found = _as_owner(again, "SELECT count(*), to_regclass('lost') FROM kept")
    assert (again, found) == (server, [(100000, None)])


def _start_busy_session(server: Server) -> subprocess.Popen[bytes]:
    """A session whose backend computes for two seconds, blind to the death of its server."""
    statement = "DO 'BEGIN PERFORM count(*) FROM generate_series(1, 1000000000); END'"
    code = f"""
import psycopg
with psycopg.connect({server.url(driver="postgresql")!r}, autocommit=True) as session:
    session.execute("SET statement_timeout = '2s'")
    session.execute({statement!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    _wait_until(lambda: _as_owner(server, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'DO %'"))
    return process


def test_a_killed_server_waits_for_its_last_working_backend(home: Path) -> None:
    server = ensure_server(home)
    busy = _start_busy_session(server)
    _kill(home)
    again = ensure_server(home)
    busy.wait(30)
    assert (again, _as_owner(again, "SELECT 1")) == (server, [(1,)])
    assert "pre-existing shared memory block" in (home / "postgres" / "server.log").read_text()


def _foreign_process(home: Path) -> subprocess.Popen[bytes]:
    """A process of the server's own user: its pid is the one that PostgreSQL itself would believe in."""
    user = choose_user(home, _data(home))
    options: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    return subprocess.Popen(["/bin/sleep", "300"], cwd="/", **options)


def test_a_pid_file_that_names_a_foreign_process_is_stale(home: Path) -> None:
    server = ensure_server(home)
    content = (_data(home) / "postmaster.pid").read_text()
    _kill(home)
    foreign = _foreign_process(home)
    try:
        (_data(home) / "postmaster.pid").write_text("\n".join([str(foreign.pid), *content.split("\n")[1:]]))
        assert (server_status(home), stop_server(home)) == ("stopped", False)
        assert (ensure_server(home), foreign.poll()) == (server, None)
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("content", ["", "no number", "4194304\n", "1\n"])
def test_a_torn_pid_file_is_stale(home: Path, content: str) -> None:
    server = ensure_server(home)
    stop_server(home)
    (_data(home) / "postmaster.pid").write_text(content)
    assert ensure_server(home) == server


def test_a_taken_port_is_left_and_the_new_one_kept(home: Path) -> None:
    first = ensure_server(home)
    stop_server(home)
    with socket.socket() as listener, capture_logs() as logs:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", first.port))
        listener.listen()
        second = ensure_server(home)
    assert second == replace(first, port=second.port) != first
    assert [(one["event"], one["kept_port"], one["new_port"]) for one in logs] == [
        ("postgres_port_changed", first.port, second.port)
    ]
    stop_server(home)
    assert ensure_server(home) == second


def test_processes_that_start_at_once_share_one_server(home: Path) -> None:
    servers = [_answer(process) for process in [_ensure_elsewhere(home) for _ in range(4)]]
    log = (home / "postgres" / "server.log").read_text()
    assert servers == [ensure_server(home)] * 4
    assert (log.count("ready to accept connections"), log.count("initdb") <= 1) == (1, True)


def test_the_server_outlives_a_captured_process_with_a_hostile_environment(home: Path) -> None:
    hostile = {"PGHOST": "nowhere.invalid", "PGPORT": "1", "PGOPTIONS": "-c nonsense=1", "PGSSLMODE": "require",
               "PGDATA": "/nowhere", "LC_ALL": "C.UTF-8"}  # fmt: skip
    server = _answer(_ensure_elsewhere(home, environment=hostile, umask=0o077, start_new_session=True))
    assert (_as_owner(server, "SELECT 1"), ensure_server(home)) == ([(1,)], server)


@pytest.mark.parametrize("delay_seconds", [0.3, 0.5, 0.7, 0.9, 1.1])
def test_a_first_start_killed_anywhere_is_resumed(home: Path, delay_seconds: float) -> None:
    process = _ensure_elsewhere(home)
    time.sleep(delay_seconds)
    process.kill()
    process.communicate()
    server = ensure_server(home)
    assert _as_owner(server, "SELECT count(*) FROM pg_database") == [(5,)]
    assert _query(server.reader_url(), "SHOW default_transaction_read_only") == [("on",)]
    assert not list(_data(home).parent.glob("data.new.*/*"))


def test_a_crash_between_start_and_roles_is_resumed(home: Path) -> None:
    server = ensure_server(home)
    _as_owner(server, "DROP DATABASE dagster", "postgres")
    _as_owner(server, "ALTER ROLE bi_reader NOLOGIN PASSWORD NULL", "postgres")
    write_record(home / "postgres", replace(_record(home), complete=False))
    assert ensure_server(home) == server
    assert _as_owner(server, "SELECT 1", "dagster") == _query(server.reader_url(), "SELECT 1") == [(1,)]


def test_a_path_with_spaces_and_other_letters_works(room: Path) -> None:
    home = room / "Nächte mit Leerzeichen" / ".nightscore"
    try:
        server = ensure_server(home)
        assert (_as_owner(server, "SELECT 1"), stop_server(home)) == ([(1,)], True)
    finally:
        _end(home)


def test_another_major_version_is_refused_with_the_remedy(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    version = _data(home) / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(SettingsError) as raised:
        ensure_server(home)
    assert raised.value.found == ("it was written by PostgreSQL 16; these binaries are PostgreSQL 18",)
    assert "pg_upgrade" in raised.value.remedy


def test_a_server_that_cannot_start_shows_the_end_of_its_log(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    with (_data(home) / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = nonsense\n")
    with pytest.raises(DatabaseUnavailable) as raised:
        ensure_server(home)
    assert raised.value.attempted == "Starting the embedded PostgreSQL"
    assert 'invalid value for parameter "shared_buffers": "nonsense"' in "\n".join(raised.value.found)


def test_a_lost_data_directory_is_not_replaced_by_an_empty_one(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    shutil.rmtree(_data(home))
    with pytest.raises(SettingsError, match="No such file"):
        ensure_server(home)
    assert not _data(home).exists()


def test_data_without_their_record_are_not_touched(home: Path) -> None:
    ensure_server(home)
    stop_server(home)
    (home / "postgres" / "server.json").rename(home / "kept.json")
    with pytest.raises(SettingsError, match="with its passwords does not"):
        ensure_server(home)
    (home / "kept.json").rename(home / "postgres" / "server.json")
    assert _as_owner(ensure_server(home), "SELECT 1") == [(1,)]


def test_a_wrong_kept_password_is_told_at_once(home: Path) -> None:
    ensure_server(home)
    write_record(home / "postgres", replace(_record(home), owner_password="wrong"))
    before = time.monotonic()
    with pytest.raises(SettingsError, match="password authentication failed"):
        ensure_server(home)
    assert time.monotonic() - before < 5


def test_a_home_that_is_a_file_is_a_settings_error(room: Path) -> None:
    (room / "file").write_text("")
    with pytest.raises(SettingsError, match="Not a directory"):
        ensure_server(room / "file")


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another user")
def test_root_places_the_data_of_a_closed_home_elsewhere_and_leaves_its_permissions(room: Path) -> None:
    closed = room / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    try:
        server = ensure_server(home)
        _as_owner(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        stop_server(home)
        again = ensure_server(home)
        assert (again, _as_owner(again, "SELECT answer FROM kept")) == (server, [(42,)])
        assert Path(_record(home).data_directory).is_relative_to(SYSTEM_FOLDER)
        assert (closed.stat().st_mode & 0o777, _data(home).stat().st_mode & 0o777) == (0o700, 0o700)
    finally:
        _end(home)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another user")
def test_root_copies_binaries_that_the_server_user_cannot_reach(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, system = room / "closed", room / "system"
    closed.mkdir(mode=0o700)
    package = postgres_install.reachable_binaries(None).parents[1]
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, closed / source.name, ignore=shutil.ignore_patterns("pginstall", "*.a"))
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(postgres_install, "SYSTEM_FOLDER", system)
    home = closed / "home"
    try:
        server = ensure_server(home)
        command = Path(f"/proc/{_pid(home)}/cmdline").read_text().split("\0")[0]
        assert Path(command).is_relative_to(system)
        assert (_data(home).is_relative_to(system), _as_owner(server, "SELECT 1")) == (True, [(1,)])
        assert [path.name[:12] for path in system.iterdir() if path.name.startswith((".", "pix"))] == ["pixeltable-p"]
    finally:
        _end(home)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another user")
def test_root_runs_the_server_as_the_owner_of_the_home(home: Path) -> None:
    owner = 1 if Path("/etc/passwd").read_text().count("daemon:x:1:1:") else 65534
    home.mkdir(mode=0o700)
    os.chown(home, owner, -1)
    ensure_server(home)
    facts = (Path(f"/proc/{_pid(home)}").stat().st_uid, _data(home).stat().st_uid, home.stat().st_mode & 0o777)
    assert facts == (owner, owner, 0o700)
