"""The manifest of a capsule: the SHA-256 and size of each file, and the identity that follows from them.

Added here: a fact the identity must cover. Not here: what the files mean (`capsule.py`).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nightscore.errors import CapsuleRejected

MANIFEST_FILE = "MANIFEST.json"
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MAX_MANIFEST_BYTES = 1_048_576


@dataclass(frozen=True)
class FileEntry:
    """One file: hash of its bytes, and their number."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The entry of a file that holds `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Manifest:
    """Every file of a capsule but the manifest itself, and the hash of the function its model computes."""

    files: Mapping[str, FileEntry]
    function_sha256: str

    @property
    def sha256(self) -> str:
        """The capsule's identity."""
        return hashlib.sha256(as_json_text(self._content()).encode()).hexdigest()

    def as_text(self) -> str:
        """The text of MANIFEST.json."""
        return as_json_text({**self._content(), "manifest_sha256": self.sha256})

    def _content(self) -> dict[str, Any]:
        files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()}
        return {"files": files, "function_sha256": self.function_sha256}


def as_json_text(value: object) -> str:
    """Canonical JSON: sorted keys, two spaces, dates as ISO text; raises ValueError for NaN."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the capsule in `folder`; raises CapsuleRejected where there is none or it is malformed."""
    try:
        path = folder / MANIFEST_FILE
        if path.is_symlink() or path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"{MANIFEST_FILE} is a link or larger than {MAX_MANIFEST_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileEntry(str(e["sha256"]), int(e["size"])) for name, e in content["files"].items()}
        manifest = Manifest(files, str(content["function_sha256"]))
        found = list(_contradictions(manifest, str(content["manifest_sha256"])))
    except FileNotFoundError:
        found = [f"{MANIFEST_FILE} is missing"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        found = [f"{MANIFEST_FILE} is unreadable: {type(error).__name__}: {error}"]
    if found:
        raise rejection(folder, found)
    return manifest


def _contradictions(manifest: Manifest, stated_sha256: str) -> Iterator[str]:
    if manifest.sha256 != stated_sha256:
        yield f"{MANIFEST_FILE} says it is {stated_sha256}, its content is {manifest.sha256}"
    for name in manifest.files:
        if not FILE_NAME.fullmatch(name):
            yield f"{MANIFEST_FILE} names {name!r}, which is not a plain file name"


def rejection(folder: Path, found: list[str]) -> CapsuleRejected:
    """The error for a capsule that is not as it was written."""
    return CapsuleRejected(
        f"verifying the model capsule in {folder}",
        found,
        "fetch the capsule again from the lake; if it still differs, roll back to another version",
    )
