"""The embedded server's record, connection facts and port choice, without a server."""

import socket
from pathlib import Path

import pytest

from nightscore.catalog.postgres import Server
from nightscore.catalog.postgres_process import PORTS, free_port, postmaster_pid
from nightscore.catalog.postgres_record import ServerRecord, new_record, read_record, write_record
from nightscore.errors import SettingsError

RECORD = ServerRecord(15433, "owner-secret", "reader-secret", "data", complete=True)
SERVER = Server("127.0.0.1", 15433, "nightscore", "a/b@c:d", "e f%g")


def test_the_urls_quote_their_passwords() -> None:
    assert (SERVER.url(), SERVER.url("dagster", "postgresql+psycopg2"), SERVER.reader_url()) == (
        "postgresql+psycopg://nightscore:a%2Fb%40c%3Ad@127.0.0.1:15433/nightscore",
        "postgresql+psycopg2://nightscore:a%2Fb%40c%3Ad@127.0.0.1:15433/dagster",
        "postgresql://bi_reader:e%20f%25g@127.0.0.1:15433/nightscore",
    )


@pytest.mark.parametrize("value", [SERVER, RECORD])
def test_no_password_is_shown_when_printed(value: object) -> None:
    assert not any(secret in repr(value) for secret in ("a/b@c:d", "e f%g", "owner-secret", "reader-secret"))


def test_a_record_is_read_as_it_was_written_and_is_private(tmp_path: Path) -> None:
    write_record(tmp_path, new_record(1, "elsewhere"))
    write_record(tmp_path, RECORD)
    mode = (tmp_path / "server.json").stat().st_mode & 0o777
    names = [path.name for path in tmp_path.iterdir()]
    assert (read_record(tmp_path), mode, names) == (RECORD, 0o600, ["server.json"])


def test_passwords_differ_between_records() -> None:
    records = [new_record(1, "data") for _ in range(3)]
    assert len({password for one in records for password in (one.owner_password, one.reader_password)}) == 6


def test_a_folder_without_record_has_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"port": 1}',
        '{"port": "1", "owner_password": "", "reader_password": "", "data_directory": "", "complete": true}',
        '{"port": 1, "owner_password": "", "reader_password": "", "data_directory": null, "complete": true}',
        '{"port": 1, "owner_password": "", "reader_password": "", "data_directory": "", "surplus": 1}',
    ],
)
def test_a_damaged_record_is_a_settings_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(SettingsError, match=r"server\.json"):
        read_record(tmp_path)


@pytest.mark.parametrize("preferred", [PORTS[0], PORTS[-1], 40123])
def test_a_free_preferred_port_is_kept_and_a_taken_one_left(preferred: int) -> None:
    kept = free_port(preferred)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", kept))
        listener.listen()
        other = free_port(kept)
    assert (free_port(kept), other == kept, other in PORTS) == (kept, False, True)


@pytest.mark.parametrize("content", ["", "word", "-1", "0", "1\n", "4194304\n/x\n"])
def test_a_pid_file_of_no_server_names_no_server(tmp_path: Path, content: str) -> None:
    (tmp_path / "postmaster.pid").write_text(content)
    assert postmaster_pid(tmp_path) is None
