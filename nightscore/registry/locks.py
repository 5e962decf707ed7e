"""A lock file: which packages, at which versions and hashes, a version was made with, and how far this holds here.

A lock is a requirements.txt in which every line is one version with SHA-256 hashes; markers make it universal.
Added here: a question about the text of a lock. Not here: uv, or making an environment (`reproduction/environments`).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import cast

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, canonicalize_version

from nightscore.errors import LockMissing, LockStale

OWN_NAME = "nightscore"
CONTINUATION = re.compile(r"\\\r?\n")
COMMENT = re.compile(r"(^|\s+)#.*$")
OPTION = re.compile(r"\s--\w")
HASH = re.compile(r"\s--hash[= ]sha256:[0-9a-f]{64}(?=\s|$)")
INDEX_OPTION = re.compile(r"(-i|-f|--(index-url|extra-index-url|find-links|no-binary|only-binary|no-index))\b")
"""Lines that say where packages come from; what is installed does not hang on them, since hashes are required."""

ATTEMPTED = "Reading the lock file"
REMEDY = "compile the lock anew with `make lock`, install it with `make install` and register the version again"


@dataclass(frozen=True)
class Pin:
    """One line of a lock: a normalised package name at one version, perhaps for some interpreters only."""

    name: str
    version: str
    marker: Marker | None
    hashed: bool

    def applies(self, environment: Mapping[str, str] | None) -> bool:
        """Whether the line counts for this interpreter, with the marker variables of `environment` over its own."""
        return self.marker is None or self.marker.evaluate(None if environment is None else dict(environment))


def lock_hash(lock: bytes) -> str:
    """The SHA-256 of the lock's bytes, in hex: the identity of the environment it describes."""
    return hashlib.sha256(lock).hexdigest()


def check_lock(lock: bytes) -> str:
    """The text of a lock that can be installed safely.

    Raises LockMissing when it names no package; LockStale naming every line that is no version with a SHA-256 hash,
    and one that names this project, whose sources are kept apart.
    """
    pins = read_pins(_as_text(lock))
    if not pins:
        raise LockMissing(ATTEMPTED, "it is empty", REMEDY)
    faults = [f"{pin.name} {pin.version} has no sha256 hash" for pin in pins if not pin.hashed]
    faults += [f"it names {OWN_NAME} itself" for pin in pins if pin.name == OWN_NAME]
    if faults:
        raise LockStale(ATTEMPTED, faults, REMEDY)
    return _as_text(lock)


def read_pins(lock: str) -> list[Pin]:
    """Every pin of the lock, for whatever interpreter. Raises LockStale naming every line that pins no version."""
    pins, faults = [], []
    for line in _logical_lines(lock):
        try:
            pins.append(_pin(line))
        except ValueError as error:
            faults.append(str(error).splitlines()[0])
    if faults:
        raise LockStale(ATTEMPTED, faults, REMEDY)
    return pins


def locked_versions(lock: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Normalised name → version of what the lock installs for this interpreter.

    `environment` overrides marker variables, such as `python_full_version`. Raises LockStale.
    """
    return {pin.name: pin.version for pin in read_pins(lock) if pin.applies(environment)}


def installed_versions() -> dict[str, str]:
    """Normalised name → version of the distributions that this process can import; the first on the path counts."""
    found: dict[str, str] = {}
    for distribution in distributions():
        metadata = cast("Mapping[str, str] | None", distribution.metadata)
        if metadata is not None and "Name" in metadata:  # a half-removed package leaves a folder without metadata
            found.setdefault(canonicalize_name(metadata["Name"]), distribution.version)
    return found


def lock_differences(
    lock: str, installed: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> list[str]:
    """One sentence for each package that is not installed as locked; packages beyond the lock do not matter.

    `installed` has normalised names; `environment` is that of `locked_versions`. Raises LockStale.
    """
    locked = sorted(locked_versions(lock, environment).items())
    return [sentence for name, version in locked if (sentence := _difference(name, version, installed.get(name)))]


def _difference(name: str, locked: str, installed: str | None) -> str | None:
    if installed is None:
        return f"{name} is locked but not installed"
    if canonicalize_version(installed) != canonicalize_version(locked):
        return f"{name} {installed} is installed, the lock says {locked}"
    return None


def _as_text(lock: bytes) -> str:
    try:
        return lock.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LockStale(ATTEMPTED, f"it is not text: {error}", REMEDY) from error


def _logical_lines(lock: str) -> Iterator[str]:
    for line in CONTINUATION.sub(" ", lock).splitlines():
        stripped = COMMENT.sub("", line).strip()
        if stripped and not INDEX_OPTION.match(stripped):
            yield stripped


def _pin(line: str) -> Pin:
    text = OPTION.split(line, maxsplit=1)[0]
    try:
        requirement = Requirement(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a requirement") from error
    versions = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
    if len(versions) != 1 or len(requirement.specifier) != 1:
        raise ValueError(f"{text!r} is not one version with ==")
    return Pin(canonicalize_name(requirement.name), versions[0], requirement.marker, bool(HASH.search(line)))
