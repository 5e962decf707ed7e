"""The embedded PostgreSQL of a home: one server for all processes, kept running until it is stopped.

The server belongs to the home, not to the process that happened to start it; BI tools read from it all day.
Added here: another thing a caller can ask of the embedded server. Not here: how (`postgres_process`,
`postgres_install`, `postgres_roles`, `postgres_record`), nor servers that we do not run.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import structlog
from filelock import FileLock, Timeout

from nightscore.catalog import postgres_process, postgres_roles
from nightscore.catalog.postgres_install import choose_data_directory, choose_user, reachable_binaries
from nightscore.catalog.postgres_process import HOST, OWNER, PORTS, START_TIMEOUT_SECONDS, ServerProcess
from nightscore.catalog.postgres_record import ServerRecord, new_record, read_record, write_record
from nightscore.errors import DatabaseUnavailable, SettingsError


@dataclass(frozen=True)
class Server:
    """Connection facts of a running server."""

    host: str
    port: int
    owner: str
    owner_password: str = field(repr=False)
    reader_password: str = field(repr=False)

    def url(self, database: str = "nightscore", driver: str = "postgresql+psycopg") -> str:
        """The owner's URL, password quoted."""
        return f"{driver}://{self.owner}:{quote(self.owner_password, safe='')}@{self.host}:{self.port}/{database}"

    def reader_url(self, database: str = "nightscore", driver: str = "postgresql") -> str:
        """The URL of the role `bi_reader`, password quoted."""
        password = quote(self.reader_password, safe="")
        return f"{driver}://{postgres_roles.READER}:{password}@{self.host}:{self.port}/{database}"


def ensure_server(home: Path) -> Server:
    """The server of `home`, made and started when needed, once it answers.

    Safe to call from many processes at once. Raises DatabaseUnavailable with the end of the server's log,
    SettingsError when the home, its record or its data directory cannot be used.
    """
    home = home.resolve()
    folder = home / "postgres"
    record = read_record(folder)
    if record is not None and record.complete and postgres_process.postmaster_pid(folder / record.data_directory):
        return _answering(record, folder)
    with _sole_starter(folder):
        return _ensure(home, folder)


def stop_server(home: Path) -> bool:
    """Stop the server of `home`, ending its sessions; False when it was not running."""
    home = home.resolve()
    folder = home / "postgres"
    if read_record(folder) is None:
        return False
    with _sole_starter(folder):
        record = read_record(folder)
        if record is None or not postgres_process.postmaster_pid(folder / record.data_directory):
            return False
        postgres_process.stop(_process(home, folder, record))
        return True


def server_status(home: Path) -> str:
    """`running (pid N, port P)`, `stopped` or `not initialised`."""
    folder = home.resolve() / "postgres"
    record = read_record(folder)
    if record is None:
        return "not initialised"
    pid = postgres_process.postmaster_pid(folder / record.data_directory)
    return f"running (pid {pid}, port {record.port})" if pid else "stopped"


@contextmanager
def _sole_starter(folder: Path) -> Iterator[None]:
    attempted = f"Starting or stopping the embedded PostgreSQL in {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "start.lock", timeout=2 * START_TIMEOUT_SECONDS)
        lock.acquire()
    except Timeout as error:
        found = "another process has held start.lock for two minutes"
        raise DatabaseUnavailable(attempted, found, "end the process that hangs, then try again") from error
    except OSError as error:
        raise SettingsError(attempted, str(error), "give a home that this user may write to") from error
    try:
        yield
    finally:
        lock.release()


def _ensure(home: Path, folder: Path) -> Server:
    record = read_record(folder) or _begin(home, folder)
    process = _process(home, folder, record)
    if not record.complete and not process.data.exists():
        postgres_process.initialise(process, record.owner_password)
    postgres_process.check_data_directory(process)
    if not postgres_process.postmaster_pid(process.data):
        record = _start(process, folder, record)
    server = _answering(record, folder)
    if not record.complete:
        postgres_roles.prepare_databases_and_roles(
            server.host, server.port, server.owner, server.owner_password, server.reader_password
        )
        write_record(folder, replace(record, complete=True))
    return server


def _begin(home: Path, folder: Path) -> ServerRecord:
    """Settle passwords, port and place before anything is made, so that a crash later can be resumed."""
    folder.chmod(0o755)  # ours; the server's user passes through it
    directory = choose_data_directory(home, folder, choose_user(home, folder / "data"))
    if (folder / directory).exists():
        raise SettingsError(
            attempted=f"Making a database for {home}",
            found=f"{folder / directory} exists, but {folder / 'server.json'} with its passwords does not",
            remedy="restore server.json; or, to start empty, end the server that uses that folder and delete it",
        )
    record = new_record(postgres_process.free_port(_first_choice_of_port(home)), directory)
    write_record(folder, record)
    return record


def _first_choice_of_port(home: Path) -> int:
    """A port that differs between homes and stays when a home is made anew."""
    return PORTS[int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4]) % len(PORTS)]


def _process(home: Path, folder: Path, record: ServerRecord) -> ServerProcess:
    data = folder / record.data_directory
    user = choose_user(home, data)
    return ServerProcess(data, folder / "server.log", reachable_binaries(user), user)


def _start(process: ServerProcess, folder: Path, record: ServerRecord) -> ServerRecord:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        record = _with_free_port(folder, record)
        if postgres_process.start(process, record.port):
            return record
        if time.monotonic() > deadline:
            found = f"not started within {START_TIMEOUT_SECONDS} s"
            raise postgres_process.unavailable("Starting the embedded PostgreSQL", found, process.log)
        time.sleep(0.2)


def _with_free_port(folder: Path, record: ServerRecord) -> ServerRecord:
    port = postgres_process.free_port(record.port)
    if port == record.port:
        return record
    structlog.get_logger().warning("postgres_port_changed", kept_port=record.port, new_port=port, home=str(folder))
    moved = replace(record, port=port)
    write_record(folder, moved)
    return moved


def _answering(record: ServerRecord, folder: Path) -> Server:
    server = Server(HOST, record.port, OWNER, record.owner_password, record.reader_password)
    refusal = postgres_roles.wait_until_it_answers(
        server.host, server.port, server.owner, server.owner_password, START_TIMEOUT_SECONDS
    )
    if refusal is not None:
        raise postgres_process.unavailable("Connecting to the embedded PostgreSQL", refusal, folder / "server.log")
    return server
