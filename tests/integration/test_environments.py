"""Environments from real locks with real uv: made once, whole, and the same whatever the caller's environment says."""

import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from nightscore.errors import EnvironmentUnavailable, LockMissing, LockStale
from nightscore.registry.locks import lock_hash
from nightscore.reproduction.environments import LOCK_FILE, MARKER_FILE, download_wheels, ensure_environment

ROOT = Path(__file__).parents[2]
PYTHON = platform.python_version()
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
NOT_FOR_US = f"not-for-us==1.0 ; sys_platform == 'nowhere' --hash=sha256:{'0' * 64}\n".encode()
WHEELS = ["editables-0.5-py3-none-any.whl", "toolz-1.0.0-py3-none-any.whl"]
PACKAGES = "[('editables', '0.5'), ('toolz', '1.0.0')]"
LIST = "import importlib.metadata as m; print(sorted((d.name, d.version) for d in m.distributions()))"
ENSURE = """
import sys
from pathlib import Path
from nightscore.reproduction.environments import ensure_environment
home, lock, python, wheelhouse = sys.argv[1:]
made = ensure_environment(Path(home), Path(lock).read_bytes(), python, Path(wheelhouse) if wheelhouse else None)
print(made, (made.parents[1] / "nightscore-environment.json").stat().st_ino)
"""


def compile_lock(folder: Path, requirements: str) -> bytes:
    (folder / "wanted.txt").write_text(requirements)
    command = [
        find_uv_bin(),
        "pip",
        "compile",
        "wanted.txt",
        "--generate-hashes",
        "--no-deps",
        "--universal",
        "--quiet",
    ]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_lock(tmp_path_factory.mktemp("lock"), "editables==0.5\ntoolz==1.0.0\n") + NOT_FOR_US


@pytest.fixture(scope="module")
def pip_lock(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_lock(tmp_path_factory.mktemp("lock"), "pip==25.3\n")


@pytest.fixture(scope="module")
def wheelhouse(lock: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheelhouse")
    download_wheels(lock, folder)
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network and nothing in uv's cache."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")


@pytest.fixture
def index(wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A package index of our own, the only one asked, with nothing of it in uv's cache."""
    site = tmp_path / "site"
    for wheel in wheelhouse.iterdir():
        page = site / "simple" / wheel.name.split("-")[0]
        page.mkdir(parents=True)
        shutil.copy(wheel, page)
        (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = partial(RecordingHandler, asked=[], directory=str(site))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask_only(f"http://127.0.0.1:{server.server_port}/simple", tmp_path / "cache", monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


class RecordingHandler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, asked: list[str], directory: str) -> None:
        self.asked = asked
        super().__init__(*arguments, directory=directory)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # so that a warm cache asks again
        super().end_headers()

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)


def ask_only(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", url)
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")


def environment_folder(home: Path, lock: bytes) -> Path:
    return home / "environments" / f"{lock_hash(lock)[:16]}-{MINOR}"


def packages_of(python: Path) -> str:
    return subprocess.check_output([python, "-I", "-c", LIST], text=True).strip()


@dataclass(frozen=True)
class Marker:
    """Which file it is and when it was written; to have read it changes neither."""

    inode: int
    written_ns: int


def marker_of(python: Path) -> Marker:
    found = (python.parents[1] / MARKER_FILE).stat()
    return Marker(found.st_ino, found.st_mtime_ns)


def site_packages(python: Path) -> Path:
    return python.parents[1] / "lib" / f"python{MINOR}" / "site-packages"


def left_behind(home: Path) -> list[str]:
    return [path.name for path in (home / "environments").iterdir() if path.name.startswith(".")]


def spawn(home: Path, lock: Path, wheelhouse: Path | str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENSURE, str(home), str(lock), PYTHON, str(wheelhouse)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.glob(condition)):
        assert time.monotonic() < deadline, f"{condition} never came to be in {folder}"
        time.sleep(0.01)


def test_an_environment_holds_the_locked_packages_and_nothing_else(lock: bytes, tmp_path: Path) -> None:
    made = ensure_environment(tmp_path, lock, PYTHON)
    marker = json.loads((made.parents[1] / MARKER_FILE).read_text())
    assert made == environment_folder(tmp_path, lock) / "bin" / "python"
    assert packages_of(made) == PACKAGES
    assert marker == {"lock_sha256": hashlib.sha256(lock).hexdigest(), "python": PYTHON}
    assert (made.parents[1] / LOCK_FILE).read_bytes() == lock
    assert list(site_packages(made).rglob("toolz/__pycache__/*.pyc"))
    assert left_behind(tmp_path) == []


def test_it_is_made_once_and_used_again(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    first = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    before = marker_of(first)
    again = ensure_environment(tmp_path, lock, f"{MINOR}.99", tmp_path / "no wheelhouse is looked at")
    assert (again, marker_of(again)) == (first, before)


def test_another_lock_is_another_environment(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    smaller = b"".join(lock.partition(b"toolz==")[1:])
    made = [ensure_environment(tmp_path, each, PYTHON, wheelhouse) for each in (lock, smaller)]
    assert [packages_of(python) for python in made] == [PACKAGES, "[('toolz', '1.0.0')]"]


def test_files_are_copies_so_that_an_edit_spares_the_cache(lock: bytes, tmp_path: Path) -> None:
    made = ensure_environment(tmp_path, lock, PYTHON)
    assert {path.stat().st_nlink for path in site_packages(made).rglob("*.py")} == {1}


def test_scripts_run_from_where_the_environment_was_moved_to(pip_lock: bytes, tmp_path: Path) -> None:
    made = ensure_environment(tmp_path / "a home", pip_lock, PYTHON)
    shown = subprocess.check_output([made.with_name("pip"), "--version"], text=True)
    assert str(site_packages(made)) in shown


@pytest.mark.parametrize("change", ["marker", "marker text", "metadata", "version", "extra", "interpreter", "all"])
def test_an_environment_that_is_not_as_made_is_made_anew(
    change: str, lock: bytes, wheelhouse: Path, tmp_path: Path
) -> None:
    made = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    before = marker_of(made)
    damage(made, change)
    again = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    assert (again, packages_of(again)) == (made, PACKAGES)
    assert (marker_of(again).written_ns > before.written_ns, left_behind(tmp_path)) == (True, [])


def damage(made: Path, change: str) -> None:
    site = site_packages(made)
    metadata = site / "toolz-1.0.0.dist-info" / "METADATA"
    actions = {
        "marker": (made.parents[1] / MARKER_FILE).unlink,
        "marker text": lambda: (made.parents[1] / MARKER_FILE).write_text('{"lock_sha256": "'),
        "metadata": metadata.unlink,
        "version": lambda: metadata.write_text(metadata.read_text().replace("Version: 1.0.0", "Version: 1.0.1")),
        "extra": lambda: (
            shutil.copytree(metadata.parent, site / "other-1.0.0.dist-info")
            and (site / "other-1.0.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 1.0.0\n")
        ),
        "interpreter": made.unlink,
        "all": lambda: shutil.rmtree(made.parents[1]),
    }
    actions[change]()


def test_an_environment_half_made_by_a_killed_process_is_made_anew(
    lock: bytes, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lock").write_bytes(lock)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        ask_only(f"http://127.0.0.1:{silent.getsockname()[1]}/simple", tmp_path / "cache", monkeypatch)
        process = spawn(tmp_path, tmp_path / "lock", "")
        wait_for(f".*/environment/{LOCK_FILE}", tmp_path / "environments")
        kill(process)
    half_made = (environment_folder(tmp_path, lock).exists(), len(left_behind(tmp_path)))
    made = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    assert (half_made, left_behind(tmp_path)) == ((False, 1), [])
    assert packages_of(made) == PACKAGES


def test_two_processes_and_two_threads_share_one(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(lock)
    processes = [spawn(tmp_path, tmp_path / "lock", wheelhouse) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        made = set(threads.map(lambda _: ensure_environment(tmp_path, lock, PYTHON, wheelhouse), range(2)))
    expected = environment_folder(tmp_path, lock) / "bin" / "python"
    printed = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert (made, printed) == ({expected}, {f"{expected} {marker_of(expected).inode}"})


@pytest.mark.usefixtures("offline")
def test_a_wheelhouse_needs_neither_network_nor_cache(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    made = ensure_environment(tmp_path / "home", lock, PYTHON, wheelhouse)
    assert packages_of(made) == PACKAGES


@pytest.mark.usefixtures("offline")
def test_without_network_cache_and_wheelhouse_it_is_unavailable(lock: bytes, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnavailable, match="--store-wheels") as caught:
        ensure_environment(tmp_path, lock, PYTHON)
    assert "editables" in " ".join(caught.value.found) or "toolz" in " ".join(caught.value.found)
    assert not environment_folder(tmp_path, lock).exists()
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("offline")
def test_a_wheel_that_the_wheelhouse_lacks_is_named(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    poorer = Path(shutil.copytree(wheelhouse, tmp_path / "poorer"))
    (poorer / WHEELS[1]).unlink()
    with pytest.raises(EnvironmentUnavailable, match=r"toolz was not found[\s\S]*--store-wheels"):
        ensure_environment(tmp_path, lock, PYTHON, poorer)


def test_a_wheel_changed_in_the_wheelhouse_is_refused(lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    forged = Path(shutil.copytree(wheelhouse, tmp_path / "forged"))
    shutil.copy(forged / WHEELS[0], forged / WHEELS[1])
    with pytest.raises(EnvironmentUnavailable, match="toolz"):
        ensure_environment(tmp_path, lock, PYTHON, forged)


def test_a_warm_cache_serves_when_the_index_has_gone(lock: bytes, index: ThreadingHTTPServer, tmp_path: Path) -> None:
    ensure_environment(tmp_path / "before", lock, PYTHON)
    index.shutdown()
    index.server_close()
    made = ensure_environment(tmp_path / "after", lock, PYTHON)
    assert packages_of(made) == PACKAGES


@pytest.mark.usefixtures("index")
def test_a_wheel_withdrawn_from_the_index_is_named(lock: bytes, tmp_path: Path) -> None:
    (tmp_path / "site" / "simple" / "toolz" / WHEELS[1]).unlink()
    with pytest.raises(EnvironmentUnavailable, match="toolz") as caught:
        ensure_environment(tmp_path, lock, PYTHON)
    assert "404" in " ".join(caught.value.found)


def test_wheels_are_downloaded_from_the_index_that_uv_is_told(
    lock: bytes, pip_lock: bytes, index: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_index = os.environ["UV_DEFAULT_INDEX"]
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    (pip_wheel,) = download_wheels(pip_lock, tmp_path / "site" / "simple" / "pip")
    (pip_wheel.parent / "index.html").write_text(f'<a href="{pip_wheel.name}">pip</a>')
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mine={only_index}")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    asked = index.RequestHandlerClass.keywords["asked"]  # type: ignore[attr-defined]
    asked.clear()
    download_wheels(lock, tmp_path / "wheels")
    assert {f"/simple/toolz/{WHEELS[1]}", f"/simple/editables/{WHEELS[0]}"} <= set(asked)


def test_what_the_caller_has_in_its_environment_changes_nothing(
    lock: bytes, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = tmp_path / "poison"
    (poison / "toolz-9.dist-info").mkdir(parents=True)
    (poison / "toolz-9.dist-info" / "METADATA").write_text("Name: toolz\nVersion: 9\n")
    for module in ("toolz", "json", "sitecustomize"):
        (poison / f"{module}.py").write_text("raise SystemExit('poisoned')")
    (tmp_path / "constraint.txt").write_text("toolz<1")
    monkeypatch.setenv("PYTHONPATH", str(poison))
    monkeypatch.setenv("PYTHONHOME", str(poison))
    monkeypatch.setenv("VIRTUAL_ENV", str(poison))
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "constraint.txt"))
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2001-01-01")
    made = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    again = ensure_environment(tmp_path, lock, PYTHON, wheelhouse)
    monkeypatch.undo()
    assert (made == again, packages_of(made)) == (True, PACKAGES)
    assert sorted(path.name for path in poison.iterdir()) == [
        "json.py", "sitecustomize.py", "toolz-9.dist-info", "toolz.py"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "found"),
    [
        ("", LockMissing, "it is empty"),
        ("toolz==1.0.0\n", LockStale, "toolz 1.0.0 has no sha256 hash"),
        ("toolz 1.0.0\n", LockStale, "'toolz 1.0.0' is not a requirement"),
        (f"toolz==1.0.0 --hash=sha256:{'0' * 64}\n", EnvironmentUnavailable, "Hash mismatch for `toolz==1.0.0`"),
        (f"toolz==99.0.0 --hash=sha256:{'0' * 64}\n", EnvironmentUnavailable, "there is no version of toolz==99.0.0"),
    ],
)
def test_a_lock_that_cannot_be_installed_says_why(
    text: str, error: type[Exception], found: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        ensure_environment(tmp_path, text.encode(), PYTHON)
    assert found in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert list(tmp_path.rglob("*/bin/python")) == []


@pytest.mark.parametrize("python", ["3.99.0", "three", "", "3"])
def test_a_python_that_is_not_here_is_named(python: str, lock: bytes, wheelhouse: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnavailable, match="3.99" if python == "3.99.0" else "is not a version"):
        ensure_environment(tmp_path, lock, python, wheelhouse)


def test_a_wheelhouse_is_every_file_that_the_lock_installs_here(lock: bytes, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "already-there").touch()
    downloaded = download_wheels(lock, tmp_path / "wheels")
    again = download_wheels(lock, tmp_path / "wheels")
    assert downloaded == again == [tmp_path / "wheels" / name for name in WHEELS]
    assert sorted(path.name for path in (tmp_path / "wheels").iterdir()) == ["already-there", *WHEELS]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"toolz==1.0.0 --hash=sha256:{'0' * 64}\n", "DO NOT MATCH THE HASHES"),
        (f"toolz==99.0.0 --hash=sha256:{'0' * 64}\n", "No matching distribution found for toolz==99.0.0"),
    ],
)
def test_wheels_that_cannot_be_had_are_named_and_nothing_is_kept(text: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnavailable) as caught:
        download_wheels(text.encode(), tmp_path / "wheels")
    assert found in str(caught.value)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_package_without_a_wheel_comes_as_its_source(tmp_path: Path) -> None:
    text = compile_lock(tmp_path, "docopt==0.6.2\n")
    assert [path.name for path in download_wheels(text, tmp_path / "wheels")] == ["docopt-0.6.2.tar.gz"]
