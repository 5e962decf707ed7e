"""Fingerprints: a hash of everything that determines a partition, so unchanged work is recognised and not repeated.

Added here: another ingredient that every step shares. Not here: the content hash of data.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ENGINE = Path(__file__).resolve().parent.parent
SOURCES = (".py", ".c", ".h")
BUILT = frozenset({".so", ".tmp"})


def fingerprint(step: str, **ingredients: object) -> str:
    """SHA-256 over the step's name, its ingredients and the engine's code."""
    content = {"step": step, "code": code_hash(), **ingredients}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache
def engine_files() -> Mapping[str, bytes]:
    """The engine's files by relative path, as they were when this process first asked.

    A process that lives through a deployment runs what it has loaded, not what is on the disk by then.
    """
    found = (path for path in ENGINE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    paths = [path for path in found if path.suffix not in BUILT]
    return {path.relative_to(ENGINE).as_posix(): path.read_bytes() for path in sorted(paths)}


@cache
def code_hash() -> str:
    """SHA-256 over the engine's sources, by relative path."""
    return _hash_contents((name, content) for name, content in engine_files().items() if name.endswith(SOURCES))


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over the relative names and contents of `paths`, independent of their order."""
    return _hash_contents((path.relative_to(root).as_posix(), path.read_bytes()) for path in sorted(paths))


def _hash_contents(files: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
