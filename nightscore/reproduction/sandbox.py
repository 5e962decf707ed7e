"""The ground on which a piece of the past is done again: pinned files laid out, the interpreter of the time, a child.

Every object is hashed again when it is laid out; nothing is trusted because it was there before.
Added here: what every reproduction needs before it computes. Not here: what is computed (`recompute.py`).
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightscore.catalog.wheelhouses import find_wheelhouse
from nightscore.errors import CannotReproduce, LockMissing, LockStale, NightscoreError, ObjectCorrupt, ObjectMissing
from nightscore.lake.objects import ObjectStore, hash_file
from nightscore.lake.workspace import Workspace
from nightscore.registry.environment import THREAD_VARIABLES
from nightscore.registry.locks import installed_versions, lock_differences, lock_hash
from nightscore.reproduction.environments import ensure_environment
from nightscore.reproduction.recompute import FAILED
from nightscore.reproduction.wheels import platform_name

INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""All that the child sees of this process's environment: no module path, no virtual environment, no settings."""
TIMEOUT_S = 3600.0


@contextmanager
def open_sandbox(workspace: Workspace) -> Iterator[Path]:
    """An empty folder that is gone afterwards, also when this process is killed and another one starts."""
    parent = workspace.settings.home_path / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-") as folder:
        yield Path(folder)


def lay_out(store: ObjectStore, directory_md5: str, folder: Path, what: str) -> None:
    """The files of a directory object under `folder`, as links to objects whose bytes were hashed now.

    Raises ObjectMissing or ObjectCorrupt naming every file that cannot be had.
    """
    entries = store.read_directory(directory_md5)
    missing = [f"{name}: object {md5} is missing" for name, md5 in entries.items() if not store.has(md5)]
    corrupt = [
        f"{name}: object {md5} has bytes of another hash"
        for name, md5 in entries.items()
        if store.has(md5) and hash_file(store.path(md5))[0] != md5
    ]
    if missing or corrupt:
        kind = ObjectMissing if missing else ObjectCorrupt
        raise kind(f"Restoring {what}", [*missing, *corrupt], "fetch it from a remote: `nightscore data pull`")
    for name, md5 in entries.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(store.path(md5), path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # DuckDB follows symbolic links before it asks what may be read
    except OSError:
        shutil.copyfile(source, target)


def copy_out(store: ObjectStore, directory_md5: str, folder: Path) -> None:
    """The files of a directory object as copies, which is what the verification of a capsule asks for."""
    folder.mkdir(parents=True)
    for name, md5 in store.read_directory(directory_md5).items():
        (folder / name).write_bytes(store.path(md5).read_bytes() if store.has(md5) else _absent(name, md5))


def _absent(name: str, md5: str) -> bytes:
    raise ObjectMissing(
        f"Restoring {name}", f"object {md5} is missing", "fetch it from a remote: `nightscore data pull`"
    )


def choose_interpreter(
    workspace: Workspace, lock: bytes | None, facts: Mapping[str, Any], folder: Path, what: str
) -> Path:
    """This interpreter where it is what `lock` says, else one of an environment made from the lock.

    Raises LockMissing, LockStale (the lock never described what was installed) or EnvironmentUnavailable.
    """
    if lock is None:
        raise LockMissing(
            f"Rebuilding the environment of {what}",
            "no requirements.lock was there when it was made",
            "keep a requirements.lock in the project (`make lock`) and make a new version",
        )
    if facts["lock_differences"]:
        remedy = "install what the lock says (`make install`) and make a new version"
        raise LockStale(f"Rebuilding the environment of {what}", facts["lock_differences"], remedy)
    if facts["python"] == platform.python_version() and not lock_differences(lock.decode(), installed_versions()):
        return Path(sys.executable)
    return ensure_environment(
        workspace.settings.home_path, lock, facts["python"], _wheelhouse(workspace, lock, folder)
    )  # fmt: skip


def _wheelhouse(workspace: Workspace, lock: bytes, folder: Path) -> Path | None:
    with workspace.engine.connect() as connection:
        stored = find_wheelhouse(connection, lock_hash(lock), platform_name())
    if stored is None:
        return None
    lay_out(workspace.lake.store, stored, folder / "wheels", "the stored wheels")
    return folder / "wheels"


def recompute(interpreter: Path, folder: Path, plan: Mapping[str, Any], threads: Mapping[str, str | None]) -> Any:
    """Carry out `plan` in a child process that sees only the unpacked sources; returns its report.

    `threads` are the thread variables of the time. Raises CannotReproduce when the child fails or dies.
    """
    (folder / "plan.json").write_text(json.dumps(plan, default=str), encoding="utf-8")
    command = [str(interpreter), "-P", "-s", "-m", "nightscore.reproduction.recompute", str(folder / "plan.json")]
    try:
        child = subprocess.run(
            command, env=_environment(Path(plan["sources"]), folder, threads), cwd=folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _broken_off([f"it took longer than {TIMEOUT_S:g} s"]) from None
    report = folder / "report.json"
    if child.returncode not in {0, FAILED} or not report.is_file():
        raise _broken_off(list(_last_words(child)))
    return _checked(json.loads(report.read_text(encoding="utf-8")))


def _environment(sources: Path, folder: Path, threads: Mapping[str, str | None]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    set_then = {name: value for name, value in threads.items() if name in THREAD_VARIABLES and value is not None}
    fixed = {"HOME": str(folder), "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **set_then, **fixed, "PYTHONPATH": str(sources), "DO_NOT_TRACK": "1"}


def _checked(report: Any) -> Any:
    if error := report.get("error"):
        raise CannotReproduce(error["attempted"], error["found"], error["remedy"])
    if report["foreign_modules"]:
        raise _broken_off([f"other code than the unpacked sources ran: {one}" for one in report["foreign_modules"]])
    return report


def _last_words(child: subprocess.CompletedProcess[str]) -> Iterator[str]:
    if child.returncode < 0:
        yield f"the child process ended with {signal.Signals(-child.returncode).name}"
        return
    yield f"the child process ended with exit code {child.returncode}"
    yield from (line for line in child.stderr.strip().splitlines()[-3:] if line.strip())


def _broken_off(found: Iterable[str]) -> NightscoreError:
    remedy = "see what it says; the sources, inputs and lock of that time are in the lake"
    return CannotReproduce("Computing again with the code of the time", found, remedy)
