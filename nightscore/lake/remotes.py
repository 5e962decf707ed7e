"""The lake's remote: a folder or an object store with the same DVC layout, so that `dvc` itself can use it.

`push` and `pull` are in `transfer.py`. Added here: what a remote can do, and how its failures are called. Not here:
which objects to send.
"""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightscore.errors import (
    NightscoreError,
    ObjectCorrupt,
    ObjectMissing,
    OutOfSpace,
    RemoteUnavailable,
    SettingsError,
)
from nightscore.lake.objects import OUT_OF_SPACE, READ_BYTES
from nightscore.lake.upkeep import OBJECT_NAME, parse_directory

# What these hold under a name is the whole upload or nothing; anywhere else a temporary name is needed.
WHOLE_OR_NOTHING = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
# botocore waits 60 s for a connection and tries five times; the retries that people see are ours.
S3_LIMITS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}
INCOMING = "incoming"
DRIVERS = {"aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "s3fs", "urllib3"}
MISSET = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidEndpointDiscovery"}


@dataclass(frozen=True)
class Remote:
    """A folder of an fsspec file system, laid out as a DVC remote."""

    filesystem: Any
    root: str
    name: str

    def sizes(self) -> dict[str, int]:
        """Every object there and its size in bytes, in one listing; files with other names are not objects."""
        try:
            with self.answering(f"Listing {self.name}"):
                self.filesystem.invalidate_cache()
                found = self.filesystem.find(f"{self.root}/files/md5", detail=True)
        except ObjectMissing as error:
            raise SettingsError(error.attempted, error.found, "make the bucket, or correct the remote's URL") from None
        named = ((OBJECT_NAME.fullmatch("/".join(path.split("/")[-2:])), entry) for path, entry in found.items())
        return {match["folder"] + match["rest"]: int(entry["size"]) for match, entry in named if match}

    def hash_of(self, md5: str) -> str | None:
        """The MD5 of the bytes under `md5`, read anew in bounded memory; None when there are none."""
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with (
                self.answering(f"Reading {md5} from {self.name}"),
                self.filesystem.open(self.path(md5), "rb") as stream,
            ):
                while block := stream.read(READ_BYTES):
                    digest.update(block)
        except ObjectMissing:
            return None
        return digest.hexdigest()

    def entries(self, md5: str) -> Mapping[str, str]:
        """What a directory object there names, verified; ObjectMissing or ObjectCorrupt."""
        with self.answering(f"Reading {md5} from {self.name}"):
            content = self.filesystem.cat_file(self.path(md5))
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
            found = f"{md5}: its bytes have another hash than its name"
            raise ObjectCorrupt(f"Reading from {self.name}", found, "push a sound one: `nightscore data push`")
        return parse_directory(md5, content)

    def has(self, md5: str) -> bool:
        """Whether the object is there now; says nothing of its bytes."""
        with self.answering(f"Looking for {md5} on {self.name}"):
            self.filesystem.invalidate_cache()
            return bool(self.filesystem.exists(self.path(md5)))

    def upload(self, source: Path, md5: str) -> None:
        """Put a file under `md5`: whole, or not at all."""
        target = self.path(md5)
        with self.answering(f"Sending {md5} to {self.name}"):
            if WHOLE_OR_NOTHING & _protocols(self.filesystem):
                self.filesystem.put_file(str(source), target)
                return
            self._upload_beside(source, target)

    def download(self, md5: str, target: Path) -> None:
        """Write the bytes under `md5` to the file `target`, whatever they are; ObjectMissing when there are none."""
        with self.answering(f"Fetching {md5} from {self.name}"):
            self.filesystem.get_file(self.path(md5), str(target))

    def remove(self, md5: str) -> None:
        """Take the object away; nothing where there is none."""
        with suppress(ObjectMissing), self.answering(f"Removing {md5} from {self.name}"):
            self.filesystem.rm_file(self.path(md5))

    def path(self, md5: str) -> str:
        """Where the object `md5` is, or would be."""
        return f"{self.root}/files/md5/{md5[:2]}/{md5[2:]}"

    def _upload_beside(self, source: Path, target: str) -> None:
        temporary = f"{self.root}/{INCOMING}/{os.getpid()}-{secrets.token_hex(8)}"
        for folder in (f"{self.root}/{INCOMING}", target.rpartition("/")[0]):
            self.filesystem.makedirs(folder, exist_ok=True)
        try:
            self.filesystem.put_file(str(source), temporary)
            if "file" in _protocols(self.filesystem):
                fsync(temporary)
            self.filesystem.mv(temporary, target)
        except BaseException:
            if self.filesystem.exists(temporary):
                self.filesystem.rm_file(temporary)
            raise

    @contextmanager
    def answering(self, attempted: str) -> Iterator[None]:
        """Call what a driver raises by our names: missing, out of space, settings, or not answering."""
        try:
            yield
        except NightscoreError:
            raise
        except Exception as error:
            named = _named(attempted, error)
            if named is None:
                raise
            raise named from error


def open_remote(url: str) -> Remote:
    """The remote at a folder or fsspec URL; nothing is asked of it yet.

    S3 takes its keys, region and endpoint from the usual `AWS_*` variables. Raises SettingsError for an unknown URL.
    """
    from fsspec.core import url_to_fs

    # fsspec would hand out the file system of an earlier call, with the variables of that time.
    options: dict[str, Any] = {"skip_instance_cache": True}
    if url.startswith(("s3://", "s3a://")):
        options["config_kwargs"] = S3_LIMITS
    local = "://" not in url
    try:
        filesystem, root = url_to_fs(str(Path(url).expanduser().absolute()) if local else url, **options)
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"Opening the remote {_mask(url)}", f"{type(error).__name__}: {_mask(str(error))}",
            "name a folder or an fsspec URL such as s3://bucket/prefix, and install its driver",
        ) from None  # fmt: skip
    return Remote(filesystem, str(root).rstrip("/"), _mask(url))


def _protocols(filesystem: Any) -> set[str]:
    protocol = filesystem.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def _named(attempted: str, error: Exception) -> NightscoreError | None:
    said = f"{type(error).__name__}: {_mask(str(error))}".rstrip(": ")
    if isinstance(error, FileNotFoundError):
        return ObjectMissing(attempted, said, "push it again from a lake that has it, or correct the remote's URL")
    if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
        return OutOfSpace(attempted, said, "free disk space, then run it again; what was moved stays")
    if type(error).__name__ in MISSET or _is_refusal(error):
        return SettingsError(attempted, said, "check the remote's URL, its credentials and what they may do")
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in DRIVERS:
        return RemoteUnavailable(attempted, said, "run it again when the remote answers; what was moved stays")
    return None


def _is_refusal(error: Exception) -> bool:
    refused = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL}
    return isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in refused)


def _mask(text: str) -> str:
    return re.sub(r"://[^/@\s]*@", "://***@", text)


def fsync(path: str | Path) -> None:
    """Wait until a local file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
