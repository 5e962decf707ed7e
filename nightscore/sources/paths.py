"""Finding a file source's files: dates in the path, globs, fsspec URLs, files inside installed packages.

Added here: another form of path. Not here: what is in the files (`files`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from nightscore.errors import SettingsError, SourceMalformed, SourceMissing

_DATE = re.compile(r"\{date(?::([^}]*))?\}")
_ENTRIES_NAMED = 8


@dataclass(frozen=True)
class Location:
    """One file on an fsspec filesystem; `event_date` is the one put into its path, if the path has one."""

    filesystem: Any
    path: str
    label: str
    event_date: date | None


def find_files(pattern: str, dates: Sequence[date], base: Path) -> list[Location]:
    """The files that `pattern` names for the event dates, in order; relative paths start at `base`.

    Raises SourceMissing with every date (or pattern) for which there is no file.
    """
    asked: Sequence[date | None] = dates if _DATE.search(pattern) else (None,)
    found: list[Location] = []
    missing: list[str] = []
    for day in asked:
        name = pattern if day is None else put_date(pattern, day)
        filesystem, path = _open_filesystem(name, base)
        places = [Location(filesystem, each, mask(_full_name(name, each)), day) for each in _expand(filesystem, path)]
        found.extend(places)
        if not places:
            missing.append(_describe_missing(filesystem, path, mask(name), day))
    if missing:
        raise SourceMissing(f"finding {mask(pattern)}", missing, "put the file there, or repair path in the spec")
    return found


def put_date(pattern: str, day: date) -> str:
    """`pattern` with `{date}` as ISO date and `{date:%Y%m%d}` in that strftime format."""
    return _DATE.sub(lambda match: day.strftime(match[1]) if match[1] else day.isoformat(), pattern)


def mask(url: str) -> str:
    """`url` without the credentials that it may carry."""
    without_user = re.sub(r"://[^/@]*@", "://***@", url)
    return re.sub(r"^(https?://[^?]*)\?.*", r"\1?***", without_user)


def _open_filesystem(name: str, base: Path) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    local = "://" not in name and "::" not in name
    try:
        filesystem, path = url_to_fs(str(_local_path(name, base)) if local else name)
    except FileNotFoundError:
        raise SourceMissing(f"finding {mask(name)}", "there is no such file", "repair path in the spec") from None
    except BadZipFile as error:
        raise SourceMalformed(f"opening {mask(name)}", str(error), "repair the file at its origin") from None
    except (ImportError, ValueError) as error:
        reason = f"{type(error).__name__}: {mask(str(error))}"
        raise SettingsError(f"opening {mask(name)}", reason, "use a known fsspec URL; install its driver") from None
    return filesystem, str(path)


def _local_path(name: str, base: Path) -> Path:
    if not name.startswith("package:"):
        return base.absolute() / name
    package, _, inner = name.removeprefix("package:").partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SourceMissing(f"finding {name}", f"no package {package} is installed", f"install {package}")
    return Path(spec.submodule_search_locations[0]) / inner


def _full_name(name: str, path: str) -> str:
    """How messages and receipts call a file: local ones by their full path, others by their URL."""
    if "://" not in name or "*" not in name:
        return name if "://" in name else path
    own, chain, rest = name.partition("::")
    return f"{own.partition('://')[0]}://{path.lstrip('/')}{chain}{rest}"


def _expand(filesystem: Any, path: str) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    if not re.search(r"[*?\[]", path):
        return []
    return sorted(str(each) for each in filesystem.glob(path) if filesystem.isfile(each))


def _describe_missing(filesystem: Any, path: str, label: str, day: date | None) -> str:
    subject = f"no file for {day}: {label}" if day else f"no file {label}"
    for folder, inside in _folders_above(path):
        if filesystem.isdir(folder):
            names = sorted(str(each).rstrip("/").rsplit("/", 1)[-1] for each in filesystem.ls(folder, detail=False))
            close = get_close_matches(inside, names, n=_ENTRIES_NAMED, cutoff=0.3) or names[:_ENTRIES_NAMED]
            return f"{subject}; {folder} holds {', '.join(close) if close else 'nothing'}"
    return subject


def _folders_above(path: str) -> Iterator[tuple[str, str]]:
    """Each folder above `path` and the entry below it on the way, nearest first."""
    while "/" in path.rstrip("/"):
        path, _, inside = path.rstrip("/").rpartition("/")
        yield path or "/", inside
