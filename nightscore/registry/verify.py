"""The only safe way to load a capsule: hashes first, then once a machine a trial in a child process.

A damaged LightGBM file does not raise, it ends the process; a valid manifest around one does not help. So a capsule
is first loaded where a crash costs nothing. Added here: a check before loading. Not here: checks of data.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nightscore.registry.capsule import Capsule, read_capsule
from nightscore.registry.environment import describe_environment
from nightscore.registry.manifest import MANIFEST_FILE, FileEntry, Manifest, read_manifest, rejection

PROBE_TIMEOUT_S = 120.0
PROBE_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
"""All that the child sees of this process's environment: no settings, no secrets."""


def verify_capsule(folder: Path, manifest_sha256: str) -> Manifest:
    """The manifest of `folder`, if it and every file are as when written.

    Raises CapsuleRejected naming every missing, unexpected or different file.
    """
    manifest = read_manifest(folder)
    found = list(_differences(folder, manifest, manifest_sha256))
    if found:
        raise rejection(folder, found)
    return manifest


def load_capsule(
    folder: Path, manifest_sha256: str, trust_marker: Path | None, timeout_s: float = PROBE_TIMEOUT_S
) -> Capsule:
    """The capsule in `folder`, verified, and tried in a child process unless `trust_marker` says it was.

    The marker holds for one capsule, Python and set of packages; it is written after a trial that went well. None
    tries every time. Raises CapsuleRejected where a hash differs or the trial crashes, hangs or scores differently.
    """
    manifest = verify_capsule(folder, manifest_sha256)
    trust = json.dumps([manifest.sha256, describe_environment()], sort_keys=True)
    if trust_marker is None or not _holds(trust_marker, trust):
        _probe(folder, timeout_s)
        if trust_marker is not None:
            _write_marker(trust_marker, trust)
    return read_capsule(folder)


def _differences(folder: Path, manifest: Manifest, manifest_sha256: str) -> Iterator[str]:
    if manifest.sha256 != manifest_sha256:
        yield f"the manifest is {manifest.sha256}, expected {manifest_sha256}"
    present = {path.name for path in folder.iterdir()} - {MANIFEST_FILE}
    yield from (f"{name} is not in the manifest" for name in sorted(present - set(manifest.files)))
    for name, expected in sorted(manifest.files.items()):
        yield from _difference(folder / name, expected)


def _difference(path: Path, expected: FileEntry) -> Iterator[str]:
    if path.is_symlink() or not path.is_file():
        yield f"{path.name} is missing" if not path.exists() else f"{path.name} is not a regular file"
        return
    if (size := path.stat().st_size) != expected.size:
        yield f"{path.name} has {size} bytes, expected {expected.size}"
    elif (found := FileEntry.of(path.read_bytes())) != expected:
        yield f"{path.name} has SHA-256 {found.sha256}, expected {expected.sha256}"


def _probe(folder: Path, timeout_s: float) -> None:
    command = [sys.executable, "-P", "-m", "nightscore.registry.load_probe", str(folder.resolve())]
    try:
        child = subprocess.run(
            command, env=_probe_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise rejection(folder, [f"loading it in a child process took longer than {timeout_s:g} s"]) from None
    if child.returncode:
        raise rejection(folder, [_reason(child)])


def _probe_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in PROBE_VARIABLES if name in os.environ}
    engine = Path(__file__).resolve().parents[2]
    return {**kept, "PYTHONPATH": str(engine), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def _reason(child: subprocess.CompletedProcess[str]) -> str:
    if child.returncode < 0:
        return f"loading it ended the child process with {signal.Signals(-child.returncode).name}"
    said = (child.stdout.strip() or child.stderr.strip().rpartition("\n")[2]).strip()
    return said or f"loading it ended the child process with exit code {child.returncode}"


def _holds(marker: Path, trust: str) -> bool:
    return marker.is_file() and marker.read_text(encoding="utf-8") == trust


def _write_marker(marker: Path, trust: str) -> None:
    marker.parent.mkdir(parents=True, exist_ok=True)
    part = marker.with_name(f"{marker.name}.{os.getpid()}.part")
    part.write_text(trust, encoding="utf-8")
    part.replace(marker)
