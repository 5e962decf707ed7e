"""Removing objects that nobody names any more: the one place that deletes from the lake.

Added here: a reason to keep an object. Not here: who names one (`nightscore/catalog/pins.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from nightscore.catalog.pins import Pin
from nightscore.errors import ObjectMissing
from nightscore.lake.objects import ObjectStore
from nightscore.lake.upkeep import Owners, expand, name_with_owners, stored_objects

GRACE = timedelta(hours=24)


@dataclass(frozen=True)
class Garbage:
    """What nobody names: `objects` that are old enough to go (and went, when `removed`), and how many are too young."""

    objects: tuple[str, ...]
    bytes: int
    young: int
    kept: int
    removed: bool


def gc(
    store: ObjectStore, pins: Iterable[Pin], older_than: timedelta, now: datetime, apply: bool = False
) -> Garbage:  # fmt: skip
    """Find, and with `apply` remove, the objects that no pin names and that were stored longer ago than `older_than`.

    A run stores objects before it commits them, so young ones stay. Raises ObjectMissing, and removes nothing, when a
    pinned object is missing or a pinned directory object cannot be read: the pins would not be the whole truth.
    """
    owners = expand(store, pins)
    there = stored_objects(store)
    _require_all(owners, there)
    loose = {md5: path for md5, path in there.items() if md5 not in owners}
    deadline = (now - older_than).timestamp()
    # Directories first: one that is left must never name a file that is gone.
    order = sorted(loose, key=lambda md5: (not md5.endswith(".dir"), md5))
    sizes = {md5: _drop(loose[md5], deadline, apply) for md5 in order}
    old = {md5: size for md5, size in sizes.items() if size is not None}
    return Garbage(tuple(sorted(old)), sum(old.values()), len(loose) - len(old), len(there) - len(loose), apply)


def _require_all(owners: Owners, there: dict[str, Path]) -> None:
    missing = [f"missing: {name_with_owners(md5, owners)}" for md5 in owners if md5 not in there]
    if missing:
        raise ObjectMissing(
            "Collecting garbage", missing, "fetch them first (`nightscore data pull`); nothing was removed"
        )


def _drop(path: Path, deadline: float, apply: bool) -> int | None:
    """Remove an old object; its size, or None when it is too young. Its age is read at the last moment."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if status.st_mtime > deadline:
        return None
    if apply:
        path.unlink(missing_ok=True)
    return status.st_size
