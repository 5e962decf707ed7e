"""The object store: immutable files named by the MD5 of their bytes, laid out as a DVC cache.

`files/md5/ab/cdef…`, so plain `dvc` commands can read, push and verify it. An object is complete or absent: bytes are
written and fsynced beside the store, then moved into place. Deleting is not done here.
"""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nightscore.errors import ObjectCorrupt, ObjectMissing, OutOfSpace

READ_BYTES = 1 << 20
OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class StoredObject:
    """An object in the store: the MD5 of its bytes and their number, and of a table the hash of what it means."""

    md5: str
    bytes: int
    content_sha256: str | None = None


class ObjectStore:
    """Content-addressed files under one folder; safe for any number of writers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[tuple[str, int, int, int]] = set()

    def path(self, md5: str) -> Path:
        """Where the object `md5` is, or would be."""
        return self.root / "files" / "md5" / md5[:2] / md5[2:]

    def has(self, md5: str) -> bool:
        """Whether the object is there; says nothing of its bytes."""
        return self.path(md5).is_file()

    def touch(self, md5: str) -> bool:
        """Whether the object is there; if so, garbage collection takes it for new from now on."""
        try:
            os.utime(self.path(md5))
        except FileNotFoundError:
            return False
        return True

    def put_file(self, source: Path) -> StoredObject:
        """Take the finished file `source` into the store; it is moved, so it must be on the same file system."""
        md5, size = hash_file(source)
        with _naming_full_disks(f"Storing object {md5}"):
            _fsync(source)
            source.chmod(0o444)
            self._move_into_place(source, md5)
        return StoredObject(md5, size)

    def put_bytes(self, content: bytes) -> StoredObject:
        """Store `content`."""
        with self.scratch() as path:
            with _naming_full_disks("Storing bytes"):
                path.write_bytes(content)
            return self.put_file(path)

    def put_directory(self, entries: Mapping[str, str]) -> StoredObject:
        """Store a DVC directory object that names objects: relative path to MD5. Nothing is copied."""
        absent = sorted((path, md5) for path, md5 in entries.items() if not self.has(md5))
        missing = [f"{path}: object {md5} is not in the lake" for path, md5 in absent]
        if missing:
            raise ObjectMissing("Storing a directory object", missing, "store the files first, or restore them")
        content = directory_bytes(entries)
        stored = self.put_bytes(content)
        target = self.path(stored.md5).with_name(self.path(stored.md5).name + ".dir")
        self._link_into_place(self.path(stored.md5), target)
        return StoredObject(f"{stored.md5}.dir", stored.bytes)

    def read_directory(self, md5: str) -> dict[str, str]:
        """The entries of a directory object, verified."""
        path = self.path(md5)
        if not path.is_file():
            raise _missing(md5)
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            raise _corrupt(md5)
        return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}

    def verified_path(self, md5: str) -> Path:
        """The object's path, after its bytes were hashed; once a process for an untouched file."""
        path = self.path(md5)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise _missing(md5) from None
        seen = (md5, status.st_ino, status.st_size, status.st_mtime_ns)
        if seen not in self._verified:
            if hash_file(path)[0] != md5:
                raise _corrupt(md5)
            self._verified.add(seen)
        return path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A file name on the store's file system, removed afterwards when it was not stored."""
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _move_into_place(self, source: Path, md5: str) -> None:
        target = self.path(md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        # An object that is there was complete when it arrived, but a damaged one must not win over good bytes.
        if target.is_file() and hash_file(target)[0] == md5:
            self.touch(md5)
            return
        os.replace(source, target)
        _fsync(target.parent)

    def _link_into_place(self, source: Path, target: Path) -> None:
        if target.is_file() and target.read_bytes() == source.read_bytes():
            return
        with self.scratch() as temporary:
            temporary.write_bytes(source.read_bytes())
            _fsync(temporary)
            os.replace(temporary, target)
            _fsync(target.parent)


def directory_bytes(entries: Mapping[str, str]) -> bytes:
    """DVC's serialisation of a directory: entries sorted by path, each its MD5 and path."""
    listed = [{"md5": md5, "relpath": path} for path, md5 in sorted(entries.items())]
    return json.dumps(listed, sort_keys=True).encode()


def hash_file(path: Path) -> tuple[str, int]:
    """The MD5 of a file and its size in bytes, read in bounded memory."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming_full_disks(attempted: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in OUT_OF_SPACE:
            raise OutOfSpace(attempted, str(error), "free disk space; the night resumes where it stopped") from error
        raise


def _missing(md5: str) -> ObjectMissing:
    return ObjectMissing(
        f"Reading object {md5}", "the lake has no such object", "restore it from a remote or a backup of the lake"
    )


def _corrupt(md5: str) -> ObjectCorrupt:
    return ObjectCorrupt(
        f"Reading object {md5}",
        "its bytes have another hash than its name",
        "restore it from a remote or a backup of the lake; nothing was read from it",
    )
