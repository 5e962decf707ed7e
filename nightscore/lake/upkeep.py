"""Looking after what is stored: what the pins name in full, whether it is sound, and laying it out elsewhere.

Nothing here trusts a note of an earlier check: bytes are hashed again. Added here: a way to look at objects. Not here:
deleting them (`garbage.py`), or sending them elsewhere (`remotes.py`).
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from nightscore.catalog.pins import Pin
from nightscore.errors import ObjectCorrupt, ObjectMissing, SettingsError
from nightscore.lake.objects import ObjectStore, hash_file

OBJECT_NAME = re.compile(r"(?P<folder>[0-9a-f]{2})/(?P<rest>[0-9a-f]{30}(\.dir)?)")
OWNERS_NAMED = 3
HASH_THREADS = 2
Owners = dict[str, tuple[str, ...]]


class Shelf(Protocol):
    """A place that holds objects: the lake, or a remote."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def sizes(self) -> dict[str, int]:
        """Every object there and its size in bytes, in one listing."""
        ...

    def hash_of(self, md5: str) -> str | None:
        """The MD5 of the bytes that are there under `md5`, read anew; None when there are none."""
        ...

    def entries(self, md5: str) -> Mapping[str, str]:
        """What a directory object names, verified; ObjectMissing or ObjectCorrupt."""
        ...


@dataclass(frozen=True)
class LocalShelf:
    """The lake's object store."""

    store: ObjectStore
    name: str = "the lake"

    def sizes(self) -> dict[str, int]:
        """Every object there and its size in bytes; files with other names are not objects."""
        return {md5: path.stat().st_size for md5, path in stored_objects(self.store).items()}

    def hash_of(self, md5: str) -> str | None:
        """The MD5 of the object's bytes."""
        try:
            return hash_file(self.store.path(md5))[0]
        except FileNotFoundError:
            return None

    def entries(self, md5: str) -> Mapping[str, str]:
        """What a directory object names."""
        return self.store.read_directory(md5)


def stored_objects(store: ObjectStore) -> dict[str, Path]:
    """The file of every object in the store; files with other names are not objects, and are nobody's business."""
    root = store.root / "files" / "md5"
    named = ((OBJECT_NAME.fullmatch(path.relative_to(root).as_posix()), path) for path in root.glob("??/*"))
    return {found["folder"] + found["rest"]: path for found, path in named if found and path.is_file()}


def parse_directory(md5: str, content: bytes) -> dict[str, str]:
    """The entries of a directory object whose bytes were verified: relative path to MD5."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


@dataclass(frozen=True)
class Pinned:
    """Every object that the pins name and by whom, what is in directory objects, and which could not be read."""

    owners: Owners
    directories: dict[str, Mapping[str, str]]
    unreadable: dict[str, ObjectMissing | ObjectCorrupt]


def follow(pins: Iterable[Pin], entries: Callable[[str], Mapping[str, str]]) -> Pinned:
    """The pins with what their directory objects name; each directory is read once, by `entries`."""
    direct: dict[str, list[str]] = {}
    for pin in pins:
        direct.setdefault(pin.md5, []).append(pin.owner)
    directories: dict[str, Mapping[str, str]] = {}
    unreadable: dict[str, ObjectMissing | ObjectCorrupt] = {}
    for directory in (md5 for md5 in direct if md5.endswith(".dir")):
        try:
            directories[directory] = entries(directory)
        except (ObjectMissing, ObjectCorrupt) as error:
            unreadable[directory] = error
    return Pinned(_owners(direct, directories), directories, unreadable)


def _owners(direct: Mapping[str, Sequence[str]], directories: Mapping[str, Mapping[str, str]]) -> Owners:
    owners = {md5: set(named) for md5, named in direct.items()}
    for directory, inside in directories.items():
        for md5 in inside.values():
            owners.setdefault(md5, set()).update(direct[directory])
    return {md5: tuple(sorted(named)) for md5, named in sorted(owners.items())}


def expand(store: ObjectStore, pins: Iterable[Pin]) -> Owners:
    """Every pinned object, directories followed, and its owners; ObjectMissing names unreadable directory objects."""
    pinned = follow(pins, store.read_directory)
    if pinned.unreadable:
        found = [f"{name_with_owners(md5, pinned.owners)}: {e.found[0]}" for md5, e in pinned.unreadable.items()]
        raise ObjectMissing("Following the pinned directory objects", found, "fetch them: `nightscore data pull`")
    return pinned.owners


def name_with_owners(md5: str, owners: Mapping[str, Sequence[str]]) -> str:
    """An object as messages call it: its hash, and who needs it."""
    named = owners.get(md5, ())
    more = f" and {len(named) - OWNERS_NAMED} more" if len(named) > OWNERS_NAMED else ""
    return f"{md5} ({', '.join(named[:OWNERS_NAMED])}{more})" if named else md5


@dataclass(frozen=True)
class Damage:
    """One object that is not there, or has other bytes than its name says."""

    md5: str
    problem: Literal["missing", "corrupt"]
    owners: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """What a verification found; `unreferenced` objects are pinned by nobody."""

    checked: int
    bytes: int
    damage: tuple[Damage, ...]
    unreferenced: int
    unreferenced_bytes: int

    def require_sound(self, place: str) -> None:
        """Nothing when all is well; else ObjectCorrupt, or ObjectMissing when nothing is corrupt, naming every one."""
        if not self.damage:
            return
        owners = {one.md5: one.owners for one in self.damage}
        found = [f"{one.problem}: {name_with_owners(one.md5, owners)}" for one in self.damage]
        corrupt = any(one.problem == "corrupt" for one in self.damage)
        error = ObjectCorrupt if corrupt else ObjectMissing
        remedy = "fetch sound ones: `nightscore data pull`, or restore them from a backup"
        raise error(f"Verifying {place}", found, remedy)


def verify(store: ObjectStore, pins: Iterable[Pin], everything: bool) -> Inspection:
    """Hash every pinned object in the lake again, and with `everything` also those that nobody pins."""
    return inspect(LocalShelf(store), pins, everything)


def inspect(shelf: Shelf, pins: Iterable[Pin], everything: bool) -> Inspection:
    """Hash what is on `shelf` again; raises nothing for damage, which the inspection lists."""
    sizes = shelf.sizes()
    pinned = follow(pins, shelf.entries)
    loose = {md5: size for md5, size in sizes.items() if md5 not in pinned.owners}
    asked = sorted(sizes) if everything else [md5 for md5 in pinned.owners if md5 in sizes]
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        hashes = dict(zip(asked, pool.map(shelf.hash_of, asked), strict=True))
    read = sum(sizes[md5] for md5, found in hashes.items() if found is not None)
    return Inspection(len(asked), read, _damage(pinned.owners, hashes), len(loose), sum(loose.values()))


def _damage(owners: Owners, hashes: Mapping[str, str | None]) -> tuple[Damage, ...]:
    """Corrupt objects, and pinned ones that are missing; one that vanished unpinned meanwhile is no damage."""
    corrupt = [md5 for md5, found in hashes.items() if found not in {None, md5.removesuffix(".dir")}]
    missing = [md5 for md5 in owners if hashes.get(md5) is None]
    return (
        *(Damage(md5, "corrupt", owners.get(md5, ())) for md5 in corrupt),
        *(Damage(md5, "missing", owners[md5]) for md5 in missing),
    )


def restore(store: ObjectStore, files: Mapping[str, str], folder: Path) -> int:
    """Copy objects (relative path to MD5) into `folder`, every copy hashed; all of them or none. Returns their bytes.

    Raises SettingsError when the folder is not empty, ObjectMissing or ObjectCorrupt naming every file that is so.
    """
    _require_room(folder)
    _require_inside(files)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        written = _lay_out(store, files, partial)
        # An empty folder of that name gives way; one that was filled meanwhile does not.
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _lay_out(store: ObjectStore, files: Mapping[str, str], folder: Path) -> int:
    folder.mkdir(parents=True)
    absent = [f"{name}: object {md5} is not in the lake" for name, md5 in files.items() if not store.has(md5)]
    if absent:
        raise ObjectMissing("Restoring", absent, "fetch them first: `nightscore data pull`")
    hashed = {name: _copy(store.path(md5), folder / name) for name, md5 in files.items()}
    corrupt = [f"{name}: object {md5} has other bytes" for name, md5 in files.items() if hashed[name][0] != md5]
    if corrupt:
        raise ObjectCorrupt("Restoring", corrupt, "fetch sound ones: `nightscore data pull`; nothing was restored")
    return sum(size for _, size in hashed.values())


def _copy(source: Path, target: Path) -> tuple[str, int]:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return hash_file(target)


def _require_room(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "it is there, and not an empty folder"
        raise SettingsError(f"Restoring to {folder}", found, "name a new folder: nothing is ever restored over files")


def _require_inside(files: Mapping[str, str]) -> None:
    names = {name: PurePosixPath(name) for name in files}
    outside = [name for name, path in names.items() if path.is_absolute() or ".." in path.parts or not path.parts]
    if outside:
        found = [f"{name!r} leads out of the folder" for name in outside]
        raise ObjectCorrupt("Restoring", found, "the directory object is not one of ours; find out who wrote it")
