"""The bytes of a source's file, fetched once and unpacked: in memory when they are few, in a scratch file when many.

Added here: a compression, or a way to fetch. Not here: finding files (`paths`), what the bytes mean (`files`).
"""

import gzip
import hashlib
import io
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from zipfile import BadZipFile, ZipFile

from nightscore.errors import OutOfSpace, SourceMalformed, SourceMissing, Transient
from nightscore.lake.objects import OUT_OF_SPACE, READ_BYTES, hash_file
from nightscore.sources.paths import Location
from nightscore.sources.spool import Scratch

_REMEDY = "repair the file at its origin, or the source's path, format or delimiter in the spec"
_DAMAGES = (BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Content:
    """Bytes in memory, or a scratch file that holds them."""

    held: bytes | Path

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.held.stat().st_size if isinstance(self.held, Path) else len(self.held)

    def open(self) -> BinaryIO:
        """All bytes as a file."""
        return self.held.open("rb") if isinstance(self.held, Path) else io.BytesIO(self.held)

    def blocks(self) -> Iterator[bytes]:
        """All bytes, some at a time."""
        with self.open() as stream:
            while block := stream.read(READ_BYTES):
                yield block

    def md5(self) -> str:
        """The MD5 of all bytes."""
        if isinstance(self.held, Path):
            return hash_file(self.held)[0]
        return hashlib.md5(self.held, usedforsecurity=False).hexdigest()

    def ending_a_line(self) -> "Content":
        """The same bytes with a line end behind them, if there was none."""
        if isinstance(self.held, bytes):
            return self if self.held.endswith(b"\n") else Content(self.held + b"\n")
        with self.held.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        return self

    def remove(self) -> None:
        """Delete the scratch file, if there is one."""
        if isinstance(self.held, Path):
            self.held.unlink(missing_ok=True)


def malformed(location: Location, *reasons: str) -> SourceMalformed:
    """The error that a file is not what the spec says."""
    return SourceMalformed(f"reading {location.label}", reasons, _REMEDY)


@contextmanager
def fetch(location: Location, scratch: Scratch) -> Iterator[Content]:
    """The file's bytes as they are, read once, so that what is hashed is what is parsed.

    Raises SourceMissing, SourceMalformed, OutOfSpace, or Transient when the storage fails.
    """
    content = Content(b"")
    try:
        with _naming_failures(location):
            content = _fetched(location, scratch)
        yield content
    finally:
        content.remove()


def _fetched(location: Location, scratch: Scratch) -> Content:
    filesystem, path = location.filesystem, location.path
    if scratch.folder is None or (filesystem.size(path) or 0) <= scratch.file_bytes:
        return Content(bytes(filesystem.cat_file(path)))
    with filesystem.open(path, "rb") as stream:
        return _copy(stream, scratch.folder)


@contextmanager
def _naming_failures(location: Location) -> Iterator[None]:
    attempted = f"reading {location.label}"
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise SourceMissing(attempted, error.strerror or type(error).__name__, "make the file readable") from None
    except (BadZipFile, EOFError, zlib.error) as error:
        raise malformed(location, f"{type(error).__name__}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in OUT_OF_SPACE:
            raise OutOfSpace(attempted, reason, "free disk space; the night resumes where it stopped") from None
        raise Transient(attempted, reason, "try again when the storage answers") from None


def _copy(stream: IO[bytes], folder: Path) -> Content:
    path = folder / secrets.token_hex(8)
    try:
        with path.open("wb") as target:
            shutil.copyfileobj(stream, target, READ_BYTES)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Content(path)


@contextmanager
def unpack(content: Content, suffix: str, location: Location, scratch: Scratch) -> Iterator[Content]:
    """The bytes inside a `.zip` of one file or a `.gz`; `content` itself of any other suffix."""
    if not suffix:
        yield content
        return
    plain = _unpacked(content, suffix, location, scratch)
    try:
        yield plain
    finally:
        plain.remove()


def _unpacked(content: Content, suffix: str, location: Location, scratch: Scratch) -> Content:
    with _naming_failures(location):
        try:
            with content.open() as packed, _open_packed(packed, suffix, location) as stream:
                if scratch.folder is None or isinstance(content.held, bytes):
                    return Content(stream.read())
                return _copy(stream, scratch.folder)
        except _DAMAGES as error:
            raise malformed(location, f"damaged {suffix} file: {error}") from None


def _open_packed(packed: BinaryIO, suffix: str, location: Location) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=packed))
    archive: Any = ZipFile(packed)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise malformed(location, f"the archive holds {len(names)} files where one is expected: {', '.join(names[:5])}")
    return cast(IO[bytes], archive.open(names[0]))
