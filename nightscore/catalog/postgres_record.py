"""What the embedded server needs to know about itself between processes: `<home>/postgres/server.json`.

Added here: another fact that must outlive the process that chose it.
Not here: what can be asked of the system each time (is it running, which binaries, which user).
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nightscore.errors import SettingsError

RECORD_NAME = "server.json"


@dataclass(frozen=True)
class ServerRecord:
    """Port, generated passwords, data directory (relative to the record's folder when inside it), progress."""

    port: int
    owner_password: str = field(repr=False)
    reader_password: str = field(repr=False)
    data_directory: str
    complete: bool = False


def new_record(port: int, data_directory: str) -> ServerRecord:
    """A record with fresh passwords, for a server that does not exist yet."""
    return ServerRecord(port, secrets.token_urlsafe(24), secrets.token_urlsafe(24), data_directory)


def read_record(folder: Path) -> ServerRecord | None:
    """The record kept in `folder`, None when there is none; SettingsError when it cannot be read or used."""
    path = folder / RECORD_NAME
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            attempted=f"Reading {path}",
            found=f"{type(error).__name__}: {error}",
            remedy="run as the user that created it, or restore the file: it holds the passwords of the database",
        ) from error


def write_record(folder: Path, record: ServerRecord) -> None:
    """Replace the record in `folder` in one step, readable by its owner only."""
    partial = folder / f".{RECORD_NAME}.{secrets.token_hex(4)}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(record), indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, folder / RECORD_NAME)


def _parse(text: str) -> ServerRecord:
    record = ServerRecord(**json.loads(text))
    expected = {"port": int, "owner_password": str, "reader_password": str, "data_directory": str, "complete": bool}
    wrong = [name for name, kind in expected.items() if type(getattr(record, name)) is not kind]
    if wrong:
        raise ValueError(f"wrong type in {', '.join(wrong)}")
    return record
