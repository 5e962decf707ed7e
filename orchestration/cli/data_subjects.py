"""What `nightscore data` is asked about, as pins and files; and its results as tables.

Added here: another form of subject. Not here: the commands (`data.py`).
"""

import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.pins import Pin, pinned_objects, pins_of_version, standing_versions
from nightscore.errors import SettingsError, SpecError
from nightscore.lake.garbage import Garbage
from nightscore.lake.remotes import Remote, open_remote
from nightscore.lake.transfer import Transfer
from nightscore.lake.upkeep import Inspection, follow
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.registry.versions import require_version
from nightscore.settings import Settings
from orchestration.cli.output import print_json, print_table
from orchestration.cli.specs import require_pipeline_name

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def open_deployment() -> Workspace:
    """The deployment that the environment names."""
    return open_workspace(Settings())


def find_remote(settings: Settings, url: str | None) -> Remote:
    """The remote at `url`, or the deployment's own; SettingsError when there is neither."""
    named = url or settings.remote
    if named is None:
        found = "neither --remote nor NIGHTSCORE_REMOTE is given"
        raise SettingsError("Finding the remote", found, "name a folder or an fsspec URL such as s3://bucket/prefix")
    return open_remote(named)


def find_pins(workspace: Workspace, subject: str | None) -> list[Pin]:
    """The objects of a subject; everything that the catalog names when there is none."""
    if subject is not None and MD5.fullmatch(subject):
        return [Pin(subject, "asked for by its hash")]
    if subject is not None and "@" in subject:
        return pins_of_version(_find_version(workspace, subject))
    if subject is not None:
        require_pipeline_name(workspace.settings, subject)
    with workspace.engine.connect() as connection:
        return pinned_objects(connection, subject)


def find_files(workspace: Workspace, subject: str) -> dict[str, str]:
    """The files of a subject, relative path to MD5: capsule/ and snapshot/ of a version, or a folder a dataset."""
    read = workspace.lake.store.read_directory
    if MD5.fullmatch(subject):
        return dict(read(subject)) if subject.endswith(".dir") else {subject: subject}
    if "@" in subject:
        version = _find_version(workspace, subject)
        parts = {"capsule": version.capsule_md5, "snapshot": version.snapshot_md5}
        return {f"{part}/{path}": md5 for part, folder in parts.items() for path, md5 in read(folder).items()}
    require_pipeline_name(workspace.settings, subject)
    with workspace.engine.connect() as connection:
        versions = standing_versions(connection, subject)
    return {f"{one.dataset}/{one.score_date}.parquet": one.md5 for one in versions if one.current}


def _find_version(workspace: Workspace, subject: str) -> ModelVersion:
    name, _, number = subject.partition("@")
    if not number.isdigit():
        raise SpecError("Reading the version", f"found {subject!r}", "write it as pipeline@number: flight_delay@1")
    return require_version(workspace, name, int(number))


def list_partition_versions(workspace: Workspace, name: str, night: date | None) -> list[dict[str, Any]]:
    """Every version of a dataset's or pipeline's partitions, with who needs its object."""
    with workspace.engine.connect() as connection:
        found = standing_versions(connection, name, night)
        pins = pinned_objects(connection)
    if not found and "." not in name:
        require_pipeline_name(workspace.settings, name)
    owners = follow(pins, workspace.lake.store.read_directory).owners
    return [vars(one) | {"pinned_by": list(owners.get(one.md5, ()))} for one in found]


def print_transfer(done: str, place: str, transfer: Transfer, as_json: bool) -> None:
    """Print what a push or pull moved."""
    if as_json:
        print_json({"remote": place} | vars(transfer))
        return
    moved = f"{done} {transfer.objects:,} objects, {transfer.bytes:,} bytes"
    sys.stdout.write(f"{moved}; {transfer.already:,} were there already ({place})\n")


def print_inspection(found: Inspection, as_json: bool) -> None:
    """Print what a verification found."""
    if as_json:
        print_json(vars(found) | {"damage": [vars(one) for one in found.damage]})
        return
    loose = f"{found.unreferenced:,} objects ({found.unreferenced_bytes:,} bytes) that nothing names"
    sys.stdout.write(
        f"hashed {found.checked:,} objects, {found.bytes:,} bytes; {len(found.damage):,} damaged; {loose}\n"
    )
    if found.damage:
        rows = [(one.problem, one.md5, "; ".join(one.owners)) for one in found.damage]
        print_table("Damage", ("problem", "object", "needed by"), rows)


def print_garbage(found: Garbage, as_json: bool) -> None:
    """Print what nothing names, and whether it was removed."""
    if as_json:
        print_json(vars(found))
        return
    did = "removed" if found.removed else "would remove (nothing was removed; use --apply)"
    kept = f"kept {found.kept:,} that something names and {found.young:,} that are too young"
    sys.stdout.write(f"{did}: {len(found.objects):,} objects, {found.bytes:,} bytes; {kept}\n")


def print_versions(name: str, found: list[dict[str, Any]], as_json: bool) -> None:
    """Print partition versions."""
    if as_json:
        print_json(found)
        return
    rows = [
        (one["dataset"], str(one["score_date"]), one["version_id"], one["md5"], (one["content_sha256"] or "")[:12],
         one["rows"], one["bytes"], f"{one['created_at']:%Y-%m-%d %H:%M}Z", "current" if one["current"] else "",
         "; ".join(one["pinned_by"]))
        for one in found
    ]  # fmt: skip
    columns = ("dataset", "date", "version", "md5", "content", "rows", "bytes", "made at", "", "pinned by")
    print_table(f"Versions of {name}", columns, rows)


def print_restored(subject: str, folder: Path, files: int, written: int, as_json: bool) -> None:
    """Print what was laid out."""
    if as_json:
        print_json({"subject": subject, "folder": str(folder), "files": files, "bytes": written})
        return
    sys.stdout.write(f"laid out {files:,} files, {written:,} bytes of {subject} in {folder}, all verified\n")
