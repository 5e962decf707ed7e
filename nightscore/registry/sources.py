"""The sources that made something, as one archive: engine, SQL and spec as they were, committed or not.

Equal sources give equal bytes: entries are sorted and carry no time, owner or mode of the machine.
Added here: a kind of file that can change a result. Not here: packages (`locks.py`), data.
"""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightscore.errors import CapsuleRejected
from nightscore.lake.fingerprints import ENGINE, engine_files

BESIDE = ("pyproject.toml", "requirements.lock")
IGNORED = frozenset({"__pycache__", "target", "logs", "dbt_packages"})
MAX_ARCHIVE_BYTES = 1 << 28


@dataclass(frozen=True)
class Commit:
    """Where a checkout stood, and whether the archived files differed from it."""

    sha: str
    dirty: bool


def archive_sources(root: Path, pipeline: str) -> bytes:
    """A tar of the engine, the project's dbt folder, the pipeline's spec, and the lock file."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(_contents(root, pipeline)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _contents(root: Path, pipeline: str) -> Iterator[tuple[str, bytes]]:
    yield from ((f"nightscore/{name}", content) for name, content in engine_files().items())
    for path in (root / "dbt").rglob("*"):
        if path.is_file() and not IGNORED & set(path.relative_to(root).parts):
            yield path.relative_to(root).as_posix(), path.read_bytes()
    beside = [root / "pipelines" / f"{pipeline}.yaml", *(root / name for name in BESIDE)]
    yield from ((path.relative_to(root).as_posix(), path.read_bytes()) for path in beside if path.is_file())


def unpack_sources(archive: bytes, folder: Path) -> None:
    """Lay the archive out under `folder`; CapsuleRejected for one that is damaged or names anything else than files
    inside of it.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            for entry in opened:
                _unpack(opened, entry, folder)
    except (tarfile.TarError, OSError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        remedy = "fetch the capsule again from the lake or a remote"
        raise CapsuleRejected("Unpacking a source archive", found, remedy) from error


def _unpack(opened: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    if entry.isdir():
        return
    path, content = Path(entry.name), opened.extractfile(entry) if entry.isfile() else None
    # Early releases of Python 3.11 know no extraction filters.
    if content is None or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{entry.name} is no plain file inside the archive")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content.read())


def find_commit(root: Path) -> Commit | None:
    """The commit of the checkout at `root`, dirty when a file of the archive differs; None outside of one."""
    sha = _git(root, "rev-parse", "HEAD")
    if sha is None:
        return None
    paths = ["dbt", "pipelines", *BESIDE]
    if ENGINE.is_relative_to(root.resolve()):
        paths.append(ENGINE.relative_to(root.resolve()).as_posix())
    return Commit(sha, bool(_git(root, "status", "--porcelain", "--untracked-files=all", "--", *paths)))


def keep_commit(root: Path, pipeline: str, version: int, sha: str) -> str | None:
    """Point `refs/models/<pipeline>/<version>` at the commit, so that no clean-up of branches can lose it.

    Returns the ref; None where there is no such commit or no repository, in which case the archive has to do.
    """
    ref = f"refs/models/{pipeline}/{version}"
    return None if _git(root, "update-ref", ref, sha) is None else ref


def archive_commit(root: Path, sha: str, pipeline: str) -> bytes | None:
    """The sources as git has them, for a version that has no archive; None when the commit is not there."""
    paths = ["nightscore", "dbt", f"pipelines/{pipeline}.yaml"]
    said = _run(root, "archive", "--format=tar", sha, "--", *paths)
    return said.stdout if said is not None and said.returncode == 0 else None


def sources_hash(archive: bytes) -> str:
    """SHA-256 of an archive."""
    return hashlib.sha256(archive).hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    said = _run(root, *arguments)
    return said.stdout.decode(errors="replace").strip() if said is not None and said.returncode == 0 else None


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
