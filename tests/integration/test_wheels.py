"""The packages of a version's lock kept in the lake, and an environment made from them without an index."""

import platform
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from nightscore.catalog.models import ModelVersion
from nightscore.errors import EnvironmentUnavailable, LockMissing
from nightscore.lake.workspace import Workspace
from nightscore.reproduction.sandbox import choose_interpreter, open_sandbox
from nightscore.reproduction.wheels import store_wheels

FACTS = {"lock_differences": [], "python": platform.python_version()}


@pytest.fixture
def lock(tmp_path: Path) -> bytes:
    """A lock of one small package, of a release that no environment of this project has."""
    (tmp_path / "in.txt").write_text("toolz==0.12.0")
    command = [find_uv_bin(), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", str(tmp_path / "in.txt")]
    return subprocess.run(command, check=True, capture_output=True).stdout


def version_with(workspace: Workspace, **files: bytes) -> ModelVersion:
    stored = {name.replace("_", "."): workspace.lake.store.put_bytes(content).md5 for name, content in files.items()}
    capsule = workspace.lake.store.put_directory(stored).md5
    return ModelVersion(
        "small", 1, capsule, "m", "f", "r", "s", "constant", "regression", workspace.clock.now().date(), None,
        "registered", {}, "test", "test", "run", workspace.clock.now(),
    )  # fmt: skip


def forbid_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")


def test_stored_wheels_make_the_environment_without_an_index(
    workspace: Workspace, lock: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = store_wheels(workspace, version_with(workspace, requirements_lock=lock))
    assert [name for name in workspace.lake.store.read_directory(directory) if name.startswith("toolz-0.12.0")]
    forbid_the_network(monkeypatch, tmp_path)
    with open_sandbox(workspace) as folder:
        interpreter = choose_interpreter(workspace, lock, FACTS, folder, "small@1")
    said = subprocess.run([interpreter, "-c", "import toolz; print(toolz.__version__)"], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert said.stdout == "0.12.0\n"


def test_without_wheels_or_index_the_environment_is_named_as_missing(
    workspace: Workspace, lock: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_the_network(monkeypatch, tmp_path)
    with open_sandbox(workspace) as folder, pytest.raises(EnvironmentUnavailable, match="--store-wheels"):
        choose_interpreter(workspace, lock, FACTS, folder, "small@1")


def test_wheels_are_stored_once_and_again_when_they_were_lost(workspace: Workspace, lock: bytes) -> None:
    version, store = version_with(workspace, requirements_lock=lock), workspace.lake.store
    directory = store_wheels(workspace, version)
    before = store.path(directory).stat().st_mtime_ns
    assert (store_wheels(workspace, version), store.path(directory).stat().st_mtime_ns) == (directory, before)
    store.path(directory).unlink()
    assert store_wheels(workspace, version) == directory
    assert store.has(directory)


def test_a_version_without_a_lock_has_no_wheels(workspace: Workspace) -> None:
    with pytest.raises(LockMissing, match=r"its capsule has no requirements\.lock"):
        store_wheels(workspace, version_with(workspace, spec_yaml=b"name: small"))
