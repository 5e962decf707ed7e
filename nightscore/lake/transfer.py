"""Moving objects between the lake and a remote: verified on the way, never a directory object before its files.

Added here: a direction. Not here: how a remote is spoken to (`remotes.py`), or which objects matter.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import stamina

from nightscore.catalog.pins import Pin
from nightscore.errors import ObjectCorrupt, ObjectMissing, RemoteUnavailable
from nightscore.lake.objects import ObjectStore, hash_file
from nightscore.lake.remotes import Remote, fsync
from nightscore.lake.upkeep import Owners, Pinned, follow, name_with_owners

THREADS = 8
Damaged = ObjectMissing | ObjectCorrupt
_patiently = stamina.RetryingCaller(attempts=3, wait_initial=0.2, wait_max=2.0).on(RemoteUnavailable)


@dataclass(frozen=True)
class Transfer:
    """What was moved, and how many of the objects were there already."""

    objects: int
    bytes: int
    already: int


def push(store: ObjectStore, remote: Remote, pins: Iterable[Pin]) -> Transfer:
    """Send what the remote lacks of `pins` and of all that their directory objects name; every object is hashed first.

    Directory objects go when all their files are there, so an interrupted push is merely resumed. Raises ObjectMissing
    and sends nothing when something is neither in the lake nor on the remote; ObjectCorrupt, after all that is sound
    was sent, naming every corrupt object of the lake; RemoteUnavailable.
    """
    sizes = _patiently(remote.sizes)
    pinned = follow(pins, partial(_entries_somewhere, store, remote, sizes))
    _require_somewhere(store, pinned, sizes, remote)
    lacking = [md5 for md5 in pinned.owners if _is_lacking(store, md5, sizes)]
    send = partial(_send, store, remote)
    sent, failed = _move_all(send, [md5 for md5 in lacking if not md5.endswith(".dir")])
    whole = [md5 for md5 in lacking if md5.endswith(".dir") and not failed.keys() & pinned.directories[md5].values()]
    sent_directories, failed_directories = _move_all(send, whole)
    _raise_failed(f"Pushing to {remote.name}", failed | failed_directories, pinned.owners)
    return _summed(sent | sent_directories, len(pinned.owners))


def pull(store: ObjectStore, remote: Remote, pins: Iterable[Pin]) -> Transfer:
    """Fetch what the lake lacks, or has damaged, of `pins` and of all that their directory objects name.

    Bytes are hashed before they get their name, and everything that can be had is kept. Raises ObjectCorrupt or
    ObjectMissing naming every object that could not be had from the remote; RemoteUnavailable.
    """
    wanted = list(pins)
    sizes = _patiently(remote.sizes)
    fetch = partial(_fetch, store, remote, sizes)
    directories, failed = _move_all(fetch, sorted({pin.md5 for pin in wanted if pin.md5.endswith(".dir")}))
    pinned = follow(wanted, store.read_directory)
    files, failed_files = _move_all(fetch, [md5 for md5 in pinned.owners if not md5.endswith(".dir")])
    _raise_failed(f"Pulling from {remote.name}", failed | failed_files, pinned.owners)
    return _summed(directories | files, len(pinned.owners))


def send_objects(store: ObjectStore, remote: Remote, md5s: Iterable[str]) -> None:
    """Send what the remote lacks of a few objects, and of what their directory objects name, without a listing."""
    for md5 in md5s:
        if not _patiently(remote.has, md5):
            named = store.read_directory(md5).values() if md5.endswith(".dir") else ()
            send_objects(store, remote, named)
            _send(store, remote, md5)


def fetch_object(store: ObjectStore, remote: Remote, md5: str) -> Path:
    """The verified path of one object, fetched where the store lacks it or has it damaged.

    Raises ObjectCorrupt, ObjectMissing, RemoteUnavailable.
    """
    try:
        return store.verified_path(md5)
    except (ObjectMissing, ObjectCorrupt):
        with store.scratch() as temporary:
            _patiently(remote.download, md5, temporary)
            _accept(store, remote, md5, temporary)
    return store.verified_path(md5)


def _move_all(
    move: Callable[[str], int | None], md5s: Iterable[str]
) -> tuple[dict[str, int], dict[str, Damaged]]:  # fmt: skip
    """Move objects in a few threads: bytes by object moved, errors by object damaged. Any other error ends it all."""
    moved: dict[str, int] = {}
    failed: dict[str, Damaged] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {pool.submit(move, md5): md5 for md5 in md5s}
        try:
            for future in as_completed(futures):
                _note(futures[future], future.result, moved, failed)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return moved, failed


def _note(md5: str, result: Callable[[], int | None], moved: dict[str, int], failed: dict[str, Damaged]) -> None:
    try:
        size = result()
    except (ObjectMissing, ObjectCorrupt) as error:
        failed[md5] = error
    else:
        if size is not None:
            moved[md5] = size


def _summed(moved: Mapping[str, int], wanted: int) -> Transfer:
    return Transfer(len(moved), sum(moved.values()), wanted - len(moved))


def _raise_failed(attempted: str, failed: Mapping[str, Damaged], owners: Owners) -> None:
    if not failed:
        return
    found = [f"{name_with_owners(md5, owners)}: {error.found[0]}" for md5, error in sorted(failed.items())]
    corrupt = any(isinstance(error, ObjectCorrupt) for error in failed.values())
    remedy = "get sound copies of these from another lake, remote or backup; all others were moved"
    raise (ObjectCorrupt if corrupt else ObjectMissing)(attempted, found, remedy)


def _entries_somewhere(store: ObjectStore, remote: Remote, sizes: Mapping[str, int], md5: str) -> Mapping[str, str]:
    try:
        return store.read_directory(md5)
    except (ObjectMissing, ObjectCorrupt):
        if md5 not in sizes:
            raise
        return _patiently(remote.entries, md5)


def _require_somewhere(store: ObjectStore, pinned: Pinned, sizes: Mapping[str, int], remote: Remote) -> None:
    missing = [md5 for md5 in pinned.owners if md5 not in sizes and not store.has(md5)]
    broken = [md5 for md5 in pinned.unreadable if md5 not in missing]
    if missing or broken:
        found = [
            *(f"{name_with_owners(md5, pinned.owners)}: neither in the lake nor on the remote" for md5 in missing),
            *(f"{name_with_owners(md5, pinned.owners)}: {pinned.unreadable[md5].found[0]}" for md5 in broken),
        ]
        error = ObjectMissing if missing else ObjectCorrupt
        raise error(f"Pushing to {remote.name}", found, "restore them from a backup of the lake; nothing was sent")


def _is_lacking(store: ObjectStore, md5: str, sizes: Mapping[str, int]) -> bool:
    """Whether the remote has no such object, or one of another size than the lake's, which a listing tells for free."""
    if md5 not in sizes:
        return True
    return store.has(md5) and store.path(md5).stat().st_size != sizes[md5]


def _send(store: ObjectStore, remote: Remote, md5: str) -> int:
    try:
        found, size = hash_file(store.path(md5))
    except FileNotFoundError:
        raise ObjectMissing(f"Sending {md5}", "it vanished from the lake meanwhile", "run the push again") from None
    if not _is_named(found, md5):
        raise ObjectCorrupt(f"Sending {md5}", "the lake's copy has another hash than its name", "fetch a sound one")
    _patiently(remote.upload, store.path(md5), md5)
    return size


def _fetch(store: ObjectStore, remote: Remote, sizes: Mapping[str, int], md5: str) -> int | None:
    """Fetch one object; its size, or None when the lake has it, sound."""
    target = store.path(md5)
    if target.is_file() and _is_named(hash_file(target)[0], md5):
        return None
    if md5 not in sizes:
        raise ObjectMissing(f"Fetching {md5}", f"not on the remote {remote.name}", "push it from a lake that has it")
    with store.scratch() as temporary:
        _patiently(_download, remote, md5, temporary, sizes[md5])
        _accept(store, remote, md5, temporary)
    return sizes[md5]


def _accept(store: ObjectStore, remote: Remote, md5: str, arrived: Path) -> None:
    if not _is_named(hash_file(arrived)[0], md5):
        found = f"the copy on {remote.name} has another hash than its name"
        raise ObjectCorrupt(f"Fetching {md5}", found, "push a sound one from a lake that has it")
    _place(arrived, store.path(md5))


def _download(remote: Remote, md5: str, target: Path, size: int) -> None:
    remote.download(md5, target)
    if target.stat().st_size != size:
        found = f"{target.stat().st_size} bytes arrived of {size}"
        raise RemoteUnavailable(f"Fetching {md5} from {remote.name}", found, "run it again; what was moved stays")


def _place(source: Path, target: Path) -> None:
    """Give verified bytes their name, also over a damaged object; complete or absent, as everything in the store."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.chmod(0o444)
    fsync(source)
    os.replace(source, target)
    fsync(target.parent)


def _is_named(found: str, md5: str) -> bool:
    return found == md5.removesuffix(".dir")
