"""Where a model version or a night comes from: sources, lock file, commit and environment, told in one shape.

Added here: another thing that both a capsule and a receipt must say. Not here: data, which snapshots name.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nightscore.errors import LockStale
from nightscore.registry.environment import describe_environment
from nightscore.registry.locks import installed_versions, lock_differences, lock_hash
from nightscore.registry.sources import Commit, archive_sources, find_commit, sources_hash

LOCK_FILE = "requirements.lock"
SOURCES_FILE = "source.tar"


@dataclass(frozen=True)
class Provenance:
    """The sources as an archive, the lock file if there is one and where it differs from what is installed."""

    sources: bytes
    commit: Commit | None
    lock: bytes | None
    lock_differences: tuple[str, ...]
    environment: dict[str, Any]

    @property
    def files(self) -> dict[str, bytes]:
        """The files that a capsule or a snapshot keeps."""
        return {SOURCES_FILE: self.sources} | ({} if self.lock is None else {LOCK_FILE: self.lock})

    @property
    def facts(self) -> dict[str, Any]:
        """What the catalog keeps, as JSON."""
        return {
            "commit": self.commit.sha if self.commit else None,
            "dirty": self.commit.dirty if self.commit else None,
            "sources_sha256": sources_hash(self.sources),
            "lock_sha256": lock_hash(self.lock) if self.lock is not None else None,
            "lock_differences": list(self.lock_differences),
            "python": self.environment["python"],
        }


def find_provenance(root: Path, pipeline: str) -> Provenance:
    """The provenance of what this process computes for `pipeline` of the project at `root`."""
    path = root / LOCK_FILE
    lock = path.read_bytes() if path.is_file() else None
    return Provenance(
        archive_sources(root, pipeline), find_commit(root), lock, _lock_differences(lock), describe_environment()
    )


@cache
def _lock_differences(lock: bytes | None) -> tuple[str, ...]:
    """A lock file that cannot be read describes nothing; a night is scored all the same, and its receipt says so."""
    if lock is None:
        return ()
    try:
        return tuple(lock_differences(lock.decode("utf-8", "replace"), installed_versions()))
    except LockStale as error:
        return error.found
