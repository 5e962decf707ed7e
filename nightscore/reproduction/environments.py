"""Environments made from lock files: one a lock and Python, made once, inspected before every use.

Files are copied out of uv's cache, never linked: whoever edits an environment must not edit the cache with it, or
the environment made anew would hold the same edit. Added here: another way to get the packages of a lock.
Not here: what a lock says (`registry/locks`), or what is run in an environment.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from packaging.utils import canonicalize_name

from nightscore.errors import EnvironmentUnavailable, LockStale, NightscoreError
from nightscore.registry.locks import REMEDY as NEW_LOCK
from nightscore.registry.locks import check_lock, lock_differences, lock_hash, locked_versions

MARKER_FILE = "nightscore-environment.json"
LOCK_FILE = "requirements.lock"
INTERPRETER = Path("bin/python")
UV_TIMEOUT_S = 3600.0
QUOTED_LINES = 8
REMEDY = "make the wheels available again, or register versions with --store-wheels"

INSPECTION = """
import importlib.metadata, json, platform
there = [one for one in importlib.metadata.distributions() if one.metadata is not None]
found = [(one.metadata["Name"], one.version) for one in there if "Name" in one.metadata]
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""

KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "TMPDIR", "NETRC", "LD_LIBRARY_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
)
KEPT_PREFIXES = ("UV_", "PIP_", "SSL_", "XDG_")
KEPT_SUFFIX = "_PROXY"
DROPPED_VARIABLES = frozenset(
    {"UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_PYTHON", "UV_PROJECT", "UV_WORKING_DIR", "UV_ENV_FILE",
     "PIP_CONSTRAINT", "PIP_REQUIREMENT"}
)  # fmt: skip
"""These would change what is installed, not where it comes from."""

PIP_SOURCES = {
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "PIP_EXTRA_INDEX_URL": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS",),
}
INDEX_NAME = re.compile(r"(?:^|(?<=[\s,]))[\w.-]+=(?=\w+://)")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
FIRST_WORD = re.compile(r"\s*(error|×)", re.IGNORECASE)
LOCK_REFUSED = re.compile(r"parse requirement|`--require-hashes` mode|Unsupported (hash|requirement)|Invalid hash")
NO_WHEEL = re.compile(r"No matching distribution found for ([\w.-]+)==")


@dataclass(frozen=True)
class Contents:
    """What an environment's own interpreter says of it: full Python version, normalised name → version."""

    python: str
    versions: dict[str, str]


def ensure_environment(home: Path, lock: bytes, python: str, wheelhouse: Path | None = None) -> Path:
    """The interpreter of the environment that holds the packages of `lock` and nothing else.

    Made once a lock and minor Python version under `home`, by one process while others wait; used again when its
    packages are still those of the lock, else made anew. `python` is a full version such as 3.11.7, of which the
    first two numbers count. With a `wheelhouse` neither an index nor the network is asked.

    Raises LockMissing, LockStale, EnvironmentUnavailable (quoting uv).
    """
    check_lock(lock)
    minor = _minor_version(python)
    folder = home.absolute() / "environments" / f"{lock_hash(lock)[:16]}-{minor}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not _is_as_made(folder, lock):
            _make(folder, lock, minor, wheelhouse)
    return folder / INTERPRETER


def download_wheels(lock: bytes, target: Path) -> list[Path]:
    """Every file that `lock` installs for this interpreter and platform, checked by hash, placed in `target`.

    A package that has no wheel comes as its source archive. Raises LockMissing, LockStale, EnvironmentUnavailable;
    `target` then holds nothing new.
    """
    check_lock(lock)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target) as scratch:
        lockfile, files = Path(scratch) / LOCK_FILE, Path(scratch) / "files"
        lockfile.write_bytes(lock)
        files.mkdir()
        _download(lockfile, files)
        return sorted(path.replace(target / path.name) for path in files.iterdir())


def _minor_version(python: str) -> str:
    match = re.match(r"\d+\.\d+(?=\.|$)", python)
    if match is None:
        raise EnvironmentUnavailable("Choosing a Python", f"{python!r} is not a version", "name one such as 3.11.7")
    return match.group()


def _is_as_made(folder: Path, lock: bytes) -> bool:
    """Whether the environment is there, complete, and holds the locked packages alone."""
    try:
        contents = _inspect(folder)
        marker = (folder / MARKER_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return marker == _marker(lock, contents.python) and not _differences(lock, contents)


def _marker(lock: bytes, python: str) -> str:
    return json.dumps({"lock_sha256": lock_hash(lock), "python": python})


def _inspect(folder: Path) -> Contents:
    """Raises OSError, ValueError or SubprocessError when its interpreter is missing or does not answer."""
    command = [str(folder / INTERPRETER), "-I", "-c", INSPECTION]
    answer = json.loads(subprocess.check_output(command, env=_child_variables(), stdin=subprocess.DEVNULL, timeout=120))
    return Contents(answer["python"], {canonicalize_name(name): version for name, version in answer["packages"]})


def _differences(lock: bytes, contents: Contents) -> list[str]:
    text = lock.decode("utf-8")
    python = {"python_version": _minor_version(contents.python), "python_full_version": contents.python}
    foreign = sorted(contents.versions.keys() - locked_versions(text, python).keys())
    return [*lock_differences(text, contents.versions, python), *(f"{one} is not in the lock" for one in foreign)]


def _make(folder: Path, lock: bytes, minor: str, wheelhouse: Path | None) -> None:
    """Fill a folder of this process's own and move it into place: a killed process's uv may live on for a while."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        partial = Path(scratch) / "environment"
        _create(partial, minor)
        _install(partial, lock, wheelhouse)
        _mark(partial, lock)
        _remove(folder)
        partial.rename(folder)


def _create(folder: Path, minor: str) -> None:
    failure = _uv("venv", "--relocatable", "--no-project", "--no-python-downloads", "--python", _base(minor), folder)
    if failure:
        raise EnvironmentUnavailable(f"Finding Python {minor}", failure, f"install Python {minor} where uv finds it")


def _base(minor: str) -> str:
    """The Python that the running one was made from where that fits, else the version, for uv to find."""
    running = Path(sys.base_prefix) / "bin" / f"python{minor}"
    fits = minor == f"{sys.version_info.major}.{sys.version_info.minor}" and running.exists()
    return str(running) if fits else minor


def _install(folder: Path, lock: bytes, wheelhouse: Path | None) -> None:
    lockfile = folder / LOCK_FILE
    lockfile.write_bytes(lock)
    command = ("pip", "sync", "--require-hashes", "--allow-empty-requirements", "--compile-bytecode",
               "--link-mode", "copy", "--python", folder / INTERPRETER, lockfile)  # fmt: skip
    if wheelhouse is not None:
        failure = _uv(*command, "--offline", "--no-index", "--find-links", wheelhouse.absolute())
    else:
        failure = _uv(*command)
    # Without a network, or with a wheel withdrawn, uv's cache may still have what the hashes ask for.
    if failure and (wheelhouse is not None or _uv(*command, "--offline")):
        raise _refusal(f"Installing the packages of lock {lock_hash(lock)[:16]}", failure)


def _mark(folder: Path, lock: bytes) -> None:
    attempted = "Comparing a new environment with its lock"
    try:
        contents = _inspect(folder)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EnvironmentUnavailable(attempted, f"its Python does not run: {error}", REMEDY) from error
    differences = _differences(lock, contents)
    if differences:
        raise EnvironmentUnavailable(attempted, differences, REMEDY)
    (folder / MARKER_FILE).write_text(_marker(lock, contents.python), encoding="utf-8")


def _remove(folder: Path) -> None:
    """The marker first, so that a removal that is killed leaves no environment that looks whole."""
    (folder / MARKER_FILE).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _download(lockfile: Path, files: Path) -> None:
    command = ("tool", "run", "--isolated", "--python", sys.executable, "--from", "pip",
               "pip", "download", "--quiet", "--no-input", "--no-deps", "--require-hashes", "--only-binary", ":all:",
               "--dest", files, "--requirement", lockfile)  # fmt: skip
    without_wheel: set[str] = set()
    while failure := _uv(*command, *(f"--no-binary={name}" for name in sorted(without_wheel))):
        newly_found = set(NO_WHEEL.findall("\n".join(failure))) - without_wheel
        if not newly_found:
            raise _refusal("Downloading the wheels of the lock", failure)
        without_wheel |= newly_found


def _refusal(attempted: str, failure: tuple[str, ...]) -> NightscoreError:
    if any(LOCK_REFUSED.search(line) for line in failure):
        return LockStale(attempted, failure, NEW_LOCK)
    return EnvironmentUnavailable(attempted, failure, REMEDY)


def _uv(*arguments: str | Path) -> tuple[str, ...]:
    """Run uv; what it says about its failure, at most a few lines, or nothing when it succeeded."""
    from uv import find_uv_bin

    try:
        command = [find_uv_bin(), "--color", "never", "--no-progress", *map(str, arguments)]
        done = subprocess.run(
            command, env=_child_variables(), stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=UV_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return (f"uv did not run: {error}",)
    if done.returncode == 0:
        return ()
    return _quote(done.stderr.decode("utf-8", "replace")) or (f"uv ended with code {done.returncode}",)


def _quote(stderr: str) -> tuple[str, ...]:
    """The lines from the first that speaks of an error on, without colours and passwords."""
    lines = [CREDENTIALS.sub("", ANSI.sub("", line)).rstrip() for line in stderr.splitlines()]
    lines = [line for line in lines if line]
    first = next((place for place, line in enumerate(lines) if FIRST_WORD.match(line)), 0)
    return tuple(lines[first : first + QUOTED_LINES])


def _child_variables() -> dict[str, str]:
    """All that uv, pip and the interpreters see of this process's environment: the way to the packages."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    return _pip_sources(kept) | kept


def _is_kept(name: str) -> bool:
    ways = name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES) or name.upper().endswith(KEPT_SUFFIX)
    return ways and name not in DROPPED_VARIABLES


def _pip_sources(variables: Mapping[str, str]) -> dict[str, str]:
    """The index settings of uv under the names that pip reads, since only pip can download."""
    return {
        name: INDEX_NAME.sub("", found).replace(",", " ")
        for name, candidates in PIP_SOURCES.items()
        if (found := _first(variables.get(one) for one in candidates))
    }


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
