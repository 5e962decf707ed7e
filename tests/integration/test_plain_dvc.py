"""The lake as plain `dvc` sees it: a cache that it checks out, pushes, pulls and adds to, with no code of ours."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nightscore.catalog.pins import Pin
from nightscore.lake.objects import ObjectStore
from nightscore.lake.remotes import open_remote
from nightscore.lake.transfer import push
from nightscore.lake.upkeep import expand, inspect, verify

pytestmark = pytest.mark.timeout(240)

DVC = str(Path(sys.executable).parent / "dvc")
FILES = {
    "shop.features/2024-03-09.parquet": b"features", "shop.features/2024-03-10.parquet": b"more features",
    "shop.clean.visits/2024-03-09.parquet": b"features", "training_set/2024-03-09.parquet": b"rows" * 1000,
    "Zürich/ä ö.parquet": b"umlauts", "B.parquet": b"upper", "a.parquet": b"lower", "a/b.parquet": b"below",
}  # fmt: skip
CONFIG = """[core]
    no_scm = true
    analytics = false
[cache]
    dir = {lake}
['remote "away"']
    url = {remote}
"""
POINTER = "outs:\n- md5: {md5}\n  hash: md5\n  path: snapshot\n"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "lake")


@pytest.fixture
def snapshot(store: ObjectStore) -> str:
    return store.put_directory({name: store.put_bytes(content).md5 for name, content in FILES.items()}).md5


@pytest.fixture
def project(store: ObjectStore, snapshot: str, tmp_path: Path) -> Path:
    """A folder where `dvc` works on the lake, with one pointer written by hand."""
    folder = tmp_path / "project"
    folder.mkdir()
    dvc(folder, "init", "--no-scm")
    (folder / ".dvc" / "config").write_text(CONFIG.format(lake=store.root, remote=tmp_path / "remote"))
    (folder / "snapshot.dvc").write_text(POINTER.format(md5=snapshot))
    return folder


def dvc(folder: Path, *arguments: str) -> None:
    own = {"HOME": str(folder), "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
    done = subprocess.run(
        [DVC, *arguments], cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_plain_dvc_checks_out_pushes_pulls_and_adds_what_the_lake_holds(
    project: Path, store: ObjectStore, snapshot: str, tmp_path: Path
) -> None:  # fmt: skip
    pins = [Pin(snapshot, "a snapshot")]
    wanted = expand(store, pins).keys()
    dvc(project, "checkout")
    assert contents(project / "snapshot") == FILES

    dvc(project, "push", "--remote", "away")
    theirs, ours = open_remote(str(tmp_path / "remote")), open_remote(str(tmp_path / "ours"))
    assert push(store, ours, pins).objects == len(wanted)
    assert contents(tmp_path / "remote") == contents(tmp_path / "ours")
    assert inspect(theirs, pins, everything=True).damage == ()
    assert push(store, theirs, pins).objects == 0

    # What `dvc` fetches has to have come from us, and the lake it fills has to be sound by our measure.
    shutil.rmtree(tmp_path / "remote")
    shutil.move(tmp_path / "ours", tmp_path / "remote")
    shutil.rmtree(store.root)
    shutil.rmtree(project / "snapshot")
    dvc(project, "pull", "--remote", "away")
    assert contents(project / "snapshot") == FILES
    assert verify(store, pins, everything=True).damage == ()

    shutil.copytree(project / "snapshot", project / "again")
    dvc(project, "add", "again")
    assert f"md5: {snapshot}\n" in (project / "again.dvc").read_text()
