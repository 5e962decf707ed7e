"""Fingerprints: a hash of everything that determines a partition, so unchanged work is recognised and not repeated.

Added here: another ingredient that every step shares. Not here: the content hash of data.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def fingerprint(step: str, **ingredients: object) -> str:
    """SHA-256 over the step's name, its ingredients and the engine's code."""
    content = {"step": step, "code": code_hash(), **ingredients}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache
def code_hash() -> str:
    """SHA-256 over the engine's sources, by relative path."""
    root = Path(__file__).resolve().parent.parent
    return hash_files(root, root.rglob("*.py"))


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over the relative names and contents of `paths`, independent of their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
