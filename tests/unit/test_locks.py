"""What a lock file says, and how an installation differs from it, without installing anything."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest

from nightscore.errors import LockMissing, LockStale
from nightscore.registry.locks import (
    check_lock,
    installed_versions,
    lock_differences,
    lock_hash,
    locked_versions,
)

ONE, TWO = "a1" * 32, "b2" * 32
LOCK = f"""\
--index-url https://mirror.example/simple
# compiled, not written
LightGBM==4.6.0 \\
    --hash=sha256:{ONE} \\
    --hash=sha256:{TWO}
    # via -r pyproject.toml
zope.interface_x[test]==7.0 ; sys_platform == "{{platform}}" \\
    --hash=sha256:{ONE}
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{ONE}
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{TWO}
pywin32==312 ; sys_platform == 'win32' --hash=sha256:{ONE}
"""
ON_LINUX = {"sys_platform": "linux", "python_full_version": "3.11.7"}
LINUX_LOCK = LOCK.format(platform="linux")
LOCKED = {"lightgbm": "4.6.0", "zope-interface-x": "7.0", "numpy": "2.4.6"}


def hashed(requirement: str) -> str:
    return f"{requirement} --hash=sha256:{ONE}\n"


@pytest.mark.parametrize(
    ("environment", "changes"),
    [
        ({}, {}),
        ({"python_full_version": "3.12.0"}, {"numpy": "2.5.5"}),
        ({"sys_platform": "win32"}, {"pywin32": "312", "zope-interface-x": None}),
        ({"sys_platform": "darwin", "python_full_version": "3.13.1"}, {"numpy": "2.5.5", "zope-interface-x": None}),
    ],
)
def test_markers_choose_among_the_locked_versions(environment: dict[str, str], changes: dict[str, str | None]) -> None:
    expected = {name: version for name, version in {**LOCKED, **changes}.items() if version}
    assert locked_versions(LINUX_LOCK, ON_LINUX | environment) == expected


def test_windows_line_ends_and_the_order_of_lines_do_not_matter() -> None:
    entries = "".join(sorted(map(hashed, ("b==1", "a==2", "c==3"))))
    backwards = "".join(reversed(entries.splitlines(keepends=True)))
    assert locked_versions(LINUX_LOCK.replace("\n", "\r\n"), ON_LINUX) == LOCKED
    assert locked_versions(entries) == locked_versions(backwards) == {"a": "2", "b": "1", "c": "3"}


def test_without_an_environment_this_interpreter_counts() -> None:
    text = hashed("a==1 ; python_version >= '3.0'") + hashed("b==1 ; python_version < '3.0'")
    assert locked_versions(text) == {"a": "1"}


def test_the_hash_is_that_of_the_bytes() -> None:
    assert lock_hash(b"toolz==1.0.0\n") == hashlib.sha256(b"toolz==1.0.0\n").hexdigest()
    assert lock_hash(b"toolz==1.0.0\n") != lock_hash(b"toolz==1.0.0\r\n")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"extra": "1"}, []),
        ({"zope-interface-x": "7.0.0"}, []),
        ({"lightgbm": "4.7.0"}, ["lightgbm 4.7.0 is installed, the lock says 4.6.0"]),
        ({"lightgbm": "4.6.0+cuda"}, ["lightgbm 4.6.0+cuda is installed, the lock says 4.6.0"]),
        ({"lightgbm": "4.6.0.post1"}, ["lightgbm 4.6.0.post1 is installed, the lock says 4.6.0"]),
        ({"lightgbm": "no version"}, ["lightgbm no version is installed, the lock says 4.6.0"]),
        ({"numpy": None}, ["numpy is locked but not installed"]),
        (
            {"numpy": "2.5.5", "lightgbm": None},
            ["lightgbm is locked but not installed", "numpy 2.5.5 is installed, the lock says 2.4.6"],
        ),
    ],
)
def test_every_package_that_is_not_as_locked_is_named(changes: dict[str, str | None], expected: list[str]) -> None:
    installed = {name: version for name, version in {**LOCKED, **changes}.items() if version}
    assert lock_differences(LINUX_LOCK, installed, ON_LINUX) == expected


def test_what_is_installed_is_named_as_a_lock_names_it() -> None:
    found = installed_versions()
    assert (found["pytest"], found["pydantic-settings"]) == (version("pytest"), version("pydantic_settings"))


def test_a_package_without_metadata_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, metadata in {"whole_one-1.dist-info": "Name: Whole.One\nVersion: 1\n", "half-1.dist-info": ""}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "METADATA").write_text(metadata)
    (tmp_path / "bare-1.dist-info").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert installed_versions() == {"whole-one": "1"}


def test_the_first_of_two_installations_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("1", "2"):
        folder = tmp_path / place / f"twice-{place}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: twice\nVersion: {place}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path / "1"), str(tmp_path / "2")])
    assert installed_versions() == {"twice": "1"}


def test_a_sound_lock_is_given_back_as_text() -> None:
    assert check_lock(LINUX_LOCK.encode()) == LINUX_LOCK


@pytest.mark.parametrize("lock", [b"", b"\n \n", b"# nothing\n", b"--index-url https://mirror.example/simple\n"])
def test_a_lock_without_packages_is_missing(lock: bytes) -> None:
    with pytest.raises(LockMissing) as caught:
        check_lock(lock)
    assert caught.value.found == ("it is empty",)


@pytest.mark.parametrize(
    ("lock", "found"),
    [
        ("toolz==1.0.0\n", ("toolz 1.0.0 has no sha256 hash",)),
        ("toolz==1.0.0 --hash=sha256:abc\n", ("toolz 1.0.0 has no sha256 hash",)),
        (f"toolz==1.0.0 --hash=md5:{ONE}\n", ("toolz 1.0.0 has no sha256 hash",)),
        (f"toolz==1.0.0 --hash=sha256:{ONE}0\n", ("toolz 1.0.0 has no sha256 hash",)),
        (hashed("toolz>=1.0.0"), ("'toolz>=1.0.0' is not one version with ==",)),
        (hashed("toolz"), ("'toolz' is not one version with ==",)),
        (hashed("toolz==1.*"), ("'toolz==1.*' is not one version with ==",)),
        (hashed("toolz==1.0,!=1.1"), ("'toolz==1.0,!=1.1' is not one version with ==",)),
        (hashed("-e ."), ("'-e .' is not a requirement",)),
        ("-r other.txt\n", ("'-r other.txt' is not a requirement",)),
        ("--requirement other.txt\n", ("'--requirement other.txt' is not a requirement",)),
        ("<<<<<<< HEAD\n", ("'<<<<<<< HEAD' is not a requirement",)),
        (
            hashed("toolz=1.0") + hashed("sound==1") + hashed("lax~=2.0"),
            ("'toolz=1.0' is not a requirement", "'lax~=2.0' is not one version with =="),
        ),
        (hashed("a==1") + "b==2\nc==3\n", ("b 2 has no sha256 hash", "c 3 has no sha256 hash")),
        (hashed("Nightscore==0.1.0"), ("it names nightscore itself",)),
    ],
)
def test_every_line_that_is_no_hashed_version_is_named(lock: str, found: tuple[str, ...]) -> None:
    with pytest.raises(LockStale) as caught:
        check_lock(lock.encode())
    assert caught.value.found == found


def test_bytes_that_are_no_text_are_a_stale_lock() -> None:
    with pytest.raises(LockStale, match="it is not text"):
        check_lock(b"\xff\xfe")


def test_the_lock_of_this_project_is_sound_for_every_python_it_supports() -> None:
    text = check_lock((Path(__file__).parents[2] / "requirements.lock").read_bytes())
    older, newer = (
        locked_versions(text, {"python_version": minor, "python_full_version": f"{minor}.1"})
        for minor in ("3.11", "3.13")
    )
    assert {"dagster", "lightgbm", "polars", "uv"} <= older.keys() & newer.keys()
    assert older["numpy"] != newer["numpy"]
