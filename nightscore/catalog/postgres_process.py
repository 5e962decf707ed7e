"""The embedded server as a process: initialise a data directory, start, stop, and tell whether it runs.

Added here: anything done to a PostgreSQL process or its data directory.
Not here: SQL (`postgres_roles`), what is kept between processes (`postgres_record`), who may call when (`postgres`).
"""

import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nightscore.catalog.postgres_install import MAJOR_VERSION, OTHER_DATABASE, SystemUser, can_reach, run_as
from nightscore.errors import DatabaseUnavailable, SettingsError

HOST = "127.0.0.1"
OWNER = "nightscore"
START_TIMEOUT_SECONDS = 60
LOG_TAIL_LINES = 20
LOG_KEPT_BYTES = 16 * 2**20
# Below the ephemeral ranges, so that no outgoing connection takes the kept port while the server is down.
PORTS = range(15432, 25432)
INITIAL_SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # Nobody replicates this server, so a table that is filled where it is made needs no log: it is synced instead.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# A killed server's last backends, and a port lost between choosing and binding it: both pass by themselves.
PASSING_FAILURES = ("pre-existing shared memory block", "Address already in use")


@dataclass(frozen=True)
class ServerProcess:
    """One data directory with the binaries, the user and the log of its server."""

    data: Path
    log: Path
    binaries: Path
    user: SystemUser | None


def free_port(preferred: int) -> int:
    """`preferred` when nobody listens on it, else the next free port of `PORTS`."""
    first = preferred if preferred in PORTS else PORTS.start
    candidates: list[int] = [preferred, *range(first, PORTS.stop), *range(PORTS.start, first)]
    for port in candidates:
        if _can_bind(port):
            return port
    raise DatabaseUnavailable("Finding a free port", f"all ports of {PORTS} are taken", "stop what listens there")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def postmaster_pid(data: Path) -> int | None:
    """The pid of the live server of `data`; None when its pid file is absent, stale, or names another process."""
    pid = _recorded_pid(data)
    return pid if pid is not None and _serves(pid, data) else None


def _recorded_pid(data: Path) -> int | None:
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 0 else None


def _clear_pid_file(data: Path) -> None:
    """Remove a stale pid file that would keep PostgreSQL from starting: a zombie's, a foreign process's, a torn one.

    That of a dead process stays: PostgreSQL learns from it whether the dead server's last backends still work.
    """
    pid = _recorded_pid(data)
    if pid is None or _is_alive(pid):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    process = Path("/proc") / str(pid)
    if not Path("/proc/self").exists():
        return _is_alive(pid)
    try:
        # A zombie has an empty command line. The working directory follows a renamed home, but needs more rights.
        command_line = (process / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        is_postgres = (process / "comm").read_text().strip() == "postgres"
    except OSError:
        return False
    return is_postgres and (str(data) in command_line or _working_directory(process) == data)


def _working_directory(process: Path) -> Path | None:
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def initialise(server: ServerProcess, owner_password: str) -> None:
    """Make the data directory, or leave nothing under its name: it is renamed into place when whole."""
    parent = server.data.parent
    for leftover in parent.glob("data.new.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    workspace = Path(tempfile.mkdtemp(prefix="data.new.", dir=parent))
    password = workspace / "password"
    try:
        password.write_text(owner_password + "\n")
        _hand_over(workspace, server.user)
        _run_initdb(server, workspace / "data", password)
        password.unlink()
        (workspace / "data").rename(server.data)
    finally:
        shutil.rmtree(workspace)


def _run_initdb(server: ServerProcess, data: Path, password: Path) -> None:
    options = [f"--pgdata={data}", f"--username={OWNER}", f"--pwfile={password}", "--auth=scram-sha-256"]
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    settings = [f"--set={name}={value}" for name, value in INITIAL_SETTINGS.items()]
    command = [str(server.binaries / "initdb"), "--data-checksums", *options, *locale, *settings]
    with open_log(server.log) as log:
        code = run_as(server.user, command, log)
    if code != 0:
        raise unavailable("Initialising the embedded PostgreSQL", f"initdb ended with code {code}", server.log)


def _hand_over(path: Path, user: SystemUser | None) -> None:
    if user is not None and path.stat().st_uid != user.uid:
        for each in (path, *path.rglob("*")):
            os.chown(each, user.uid, user.gid, follow_symlinks=False)


def check_data_directory(server: ServerProcess) -> None:
    """SettingsError unless the data directory is one that these binaries, run by this user, can serve."""
    attempted = f"Opening the data directory {server.data}"
    try:
        found = (server.data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise SettingsError(
            attempted, str(error), "restore it, or move it and server.json away to start empty"
        ) from error
    if found != str(MAJOR_VERSION):
        raise SettingsError(
            attempted,
            f"it was written by PostgreSQL {found}; these binaries are PostgreSQL {MAJOR_VERSION}",
            f"upgrade it with pg_upgrade or pg_dump of both versions, {OTHER_DATABASE}",
        )
    if not can_reach(server.user, server.data.parent):
        raise SettingsError(
            attempted,
            "PostgreSQL refuses to run as root, and the user it runs as cannot reach this folder",
            f"move the home to a folder that others can pass through, {OTHER_DATABASE}",
        )


def start(server: ServerProcess, port: int) -> bool:
    """Start the server detached from us; True when it serves, False when another try may succeed.

    Raises DatabaseUnavailable, with the end of the log, when it cannot start.
    """
    _clear_pid_file(server.data)
    _set_large_log_aside(server.log)
    _hand_over(server.data, server.user)
    network = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories="
    with open_log(server.log) as log:
        log_start = log.seek(0, os.SEEK_END)
        code = _pg_ctl(server, "start", ["-o", network], log)
    if code == 0:
        return True
    if any(failure in _log_text(server.log, log_start) for failure in PASSING_FAILURES):
        return False
    raise unavailable("Starting the embedded PostgreSQL", f"pg_ctl ended with code {code}", server.log)


def stop(server: ServerProcess) -> None:
    """Stop a running server, ending its sessions; DatabaseUnavailable when it has not stopped in time."""
    with open_log(server.log) as log:
        code = _pg_ctl(server, "stop", ["-m", "fast"], log)
    deadline = time.monotonic() + 1
    while code == 0 and postmaster_pid(server.data) and time.monotonic() < deadline:
        time.sleep(0.01)
    if code != 0:
        raise unavailable("Stopping the embedded PostgreSQL", f"pg_ctl ended with code {code}", server.log)


def _pg_ctl(server: ServerProcess, action: str, options: list[str], log: IO[bytes]) -> int:
    wait = ["--silent", "--wait", f"--timeout={START_TIMEOUT_SECONDS}"]
    command = [str(server.binaries / "pg_ctl"), action, f"--pgdata={server.data}", *wait, *options]
    return run_as(server.user, command, log)


def open_log(log: Path) -> IO[bytes]:
    """The server's log opened by us, so that the server's user need not reach it."""
    return open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _set_large_log_aside(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def _log_text(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(start)
        return stream.read().decode(errors="replace")


def unavailable(attempted: str, found: str, log: Path) -> DatabaseUnavailable:
    """The error for a server that does not do what it was asked, with the end of its log."""
    size = log.stat().st_size if log.exists() else 0
    text = _log_text(log, max(0, size - 8192)) if size else ""
    return DatabaseUnavailable(
        attempted, (found, *text.splitlines()[-LOG_TAIL_LINES:]), f"see {log}; repair the cause it names and try again"
    )
