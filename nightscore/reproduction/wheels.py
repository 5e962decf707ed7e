"""The wheels of a version's lock file, kept in the lake, so that its environment can be made without an index.

Added here: nothing but storing them. Not here: downloading or installing (`environments.py`).
"""

import platform
from pathlib import Path
from tempfile import TemporaryDirectory

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.wheelhouses import find_wheelhouse, record_wheelhouse
from nightscore.errors import LockMissing
from nightscore.lake.workspace import Workspace
from nightscore.registry.locks import lock_hash
from nightscore.registry.provenance import LOCK_FILE
from nightscore.reproduction.environments import download_wheels


def platform_name() -> str:
    """Wheels are for one platform; those of another are stored beside them."""
    major, minor, _ = platform.python_version_tuple()
    return f"{platform.system()}-{platform.machine()}-{major}.{minor}"


def store_wheels(workspace: Workspace, version: ModelVersion) -> str:
    """The directory object with the wheels of the version's lock, downloaded unless they are in the lake.

    Raises LockMissing, LockStale, EnvironmentUnavailable.
    """
    lock = _lock_of(workspace, version)
    with workspace.engine.connect() as connection:
        known = find_wheelhouse(connection, lock_hash(lock), platform_name())
    if known is not None and workspace.lake.store.has(known):
        return known
    parent = workspace.lake.store.root / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as folder:
        wheels = download_wheels(lock, Path(folder))
        stored = {wheel.name: workspace.lake.store.put_file(wheel) for wheel in wheels}
    directory = workspace.lake.store.put_directory({name: one.md5 for name, one in stored.items()})
    with workspace.engine.begin() as connection:
        size, now = sum(one.bytes for one in stored.values()), workspace.clock.now()
        record_wheelhouse(connection, lock_hash(lock), platform_name(), directory.md5, size, now)
    return directory.md5


def _lock_of(workspace: Workspace, version: ModelVersion) -> bytes:
    entries = workspace.lake.store.read_directory(version.capsule_md5)
    if LOCK_FILE not in entries:
        raise LockMissing(
            f"Storing the wheels of {version.name}", f"its capsule has no {LOCK_FILE}",
            "keep a requirements.lock in the project (`make lock`) and train a new version",
        )  # fmt: skip
    return workspace.lake.store.verified_path(entries[LOCK_FILE]).read_bytes()
