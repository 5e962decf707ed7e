"""Source archives: what they hold, and what is refused when one is unpacked."""

import io
import tarfile
from pathlib import Path

import pytest

from nightscore.errors import CapsuleRejected
from nightscore.registry.sources import archive_sources, sources_hash, unpack_sources


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("dbt/models/x/a.sql", "dbt/target/compiled.sql", "pipelines/x.yaml", "pipelines/other.yaml"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "requirements.lock").write_text("lock")
    return root


def archive_of(*entries: tarfile.TarInfo) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return target.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return made


def test_an_archive_unpacks_to_the_engine_and_the_project_alone(project: Path, tmp_path: Path) -> None:
    unpack_sources(archive_sources(project, "x"), tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("nightscore/")} == {
        "dbt/models/x/a.sql", "pipelines/x.yaml", "requirements.lock",
    }  # fmt: skip
    assert "nightscore/reproduction/recompute.py" in found
    assert "nightscore/catalog/migrations/versions/0002_reproduction.sql" in found
    assert not [name for name in found if name.endswith(".pyc")]


def test_equal_sources_give_equal_archives_at_any_time_and_place(project: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    before = archive_sources(project, "x")
    project.rename(moved)
    (moved / "requirements.lock").touch()
    (moved / "requirements.lock").chmod(0o600)
    assert sources_hash(archive_sources(moved, "x")) == sources_hash(before)
    (moved / "dbt/models/x/a.sql").write_text("other")
    assert sources_hash(archive_sources(moved, "x")) != sources_hash(before)


@pytest.mark.parametrize(
    "bad",
    [
        entry("../outside"), entry("/absolute"), entry("a/../../outside"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"), entry("hard", tarfile.LNKTYPE, "../outside"),
        entry("device", tarfile.CHRTYPE),
    ],
    ids=["parent", "absolute", "detour", "symlink", "hardlink", "device"],
)  # fmt: skip
def test_entries_that_are_no_files_of_the_archive_are_refused(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    with pytest.raises(CapsuleRejected, match="Unpacking a source archive"):
        unpack_sources(archive_of(entry("good"), bad), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CapsuleRejected, match="ReadError"):
        unpack_sources(b"not an archive", tmp_path)
