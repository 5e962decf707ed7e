"""Upkeep of the lake: who needs what, finding damage, clearing out, and laying old versions out beside the present."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.models import find_version
from nightscore.catalog.pins import Pin, pinned_objects, pins_of_version, standing_versions
from nightscore.catalog.postgres import Server
from nightscore.catalog.tables import METADATA, wheelhouse
from nightscore.errors import ObjectCorrupt, ObjectMissing, SettingsError
from nightscore.lake.garbage import GRACE, Garbage, gc
from nightscore.lake.objects import ObjectStore
from nightscore.lake.partitions import candidate
from nightscore.lake.upkeep import Damage, Inspection, expand, restore, stored_objects, verify
from nightscore.lake.workspace import Workspace
from tests.integration.night_chain import Begun, copied_shop
from tests.shop import FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

COMMAND = str(Path(sys.executable).parent / "nightscore")
NOW = datetime(2030, 1, 10, tzinfo=UTC)
FILES = {"a.parquet": b"alpha", "b/c.parquet": b"gamma"}


@dataclass(frozen=True)
class Shop:
    workspace: Workspace
    environment: dict[str, str]
    pins: list[Pin]


@pytest.fixture(scope="module")
def shop(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a model and a published night; its lake and catalog are only read."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("upkeep")) as opened:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("NIGHTSCORE_")} | {
            "NIGHTSCORE_ROOT": str(opened.settings.root), "NIGHTSCORE_HOME": str(opened.settings.home_path),
            "NIGHTSCORE_DATABASE_URL": opened.database.owner_url.replace("+psycopg", ""),
        }  # fmt: skip
        with opened.engine.connect() as connection:
            pins = pinned_objects(connection)
        yield Shop(opened, environment, pins)


@pytest.fixture
def copy(shop: Shop, tmp_path: Path) -> ObjectStore:
    """The shop's lake, to be damaged."""
    return ObjectStore(Path(shutil.copytree(shop.workspace.lake.store.root, tmp_path / "copy")))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "lake")


def put(store: ObjectStore) -> tuple[str, dict[str, str]]:
    entries = {name: store.put_bytes(content).md5 for name, content in FILES.items()}
    return store.put_directory(entries).md5, entries


def age(store: ObjectStore, md5: str, hours: float) -> None:
    stored_at = (NOW - timedelta(hours=hours)).timestamp()
    os.utime(store.path(md5), (stored_at, stored_at))


def age_all(store: ObjectStore, hours: float = 48) -> None:
    for md5 in stored_objects(store):
        age(store, md5, hours)


def damage(path: Path) -> None:
    """Other bytes of the same size, with the times and the mode that the object had."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_everything_that_the_catalog_names_is_pinned_with_its_owner(shop: Shop) -> None:
    night = f"visits {FIRST_NIGHT}"
    kinds = {pin.owner.partition(" ")[0] for pin in shop.pins}
    named = {
        "capsule of visits@1", "snapshot of visits@1", f"receipt 1 ({night})", f"publication 1 ({night}, revision 1)",
        f"visits.features {FIRST_NIGHT}, current", f"visits.predictions {FIRST_NIGHT}, current",
        f"accepted by the gate of visits.predictions {FIRST_NIGHT}",
        f"quarantined by the gate of visits.predictions {FIRST_NIGHT}",
    }  # fmt: skip
    assert named - {pin.owner for pin in shop.pins} == set()
    assert {"capsule", "snapshot", "receipt", "publication", "accepted", "quarantined"} <= kinds
    with shop.workspace.engine.connect() as connection:
        assert pinned_objects(connection, "visits") == shop.pins
        assert pinned_objects(connection, "another") == []


def test_wheelhouses_are_pinned_for_every_pipeline(workspace: Workspace) -> None:
    values = {"platform": "linux-x86_64", "directory_md5": f"{'0' * 32}.dir", "bytes": 1, "stored_at": NOW}
    with workspace.engine.begin() as connection:
        connection.execute(wheelhouse.insert().values(lock_sha256="ab" * 32, **values))
        expected = [Pin(f"{'0' * 32}.dir", "wheelhouse of lock abababababab (linux-x86_64)")]
        assert (pinned_objects(connection), pinned_objects(connection, "shop")) == (expected, expected)


def test_a_directory_pins_its_files_and_a_file_knows_all_its_owners(store: ObjectStore) -> None:
    directory, entries = put(store)
    pins = [Pin(directory, "snapshot of shop@1"), Pin(entries["a.parquet"], "shop.features 2024-03-09, current")]
    assert expand(store, pins) == {
        directory: ("snapshot of shop@1",),
        entries["a.parquet"]: ("shop.features 2024-03-09, current", "snapshot of shop@1"),
        entries["b/c.parquet"]: ("snapshot of shop@1",),
    }


def test_a_fresh_lake_is_sound_and_only_twins_of_directories_are_loose(shop: Shop) -> None:
    lake = shop.workspace.lake.store
    owners, found = expand(lake, shop.pins), verify(lake, shop.pins, everything=True)
    loose = stored_objects(lake).keys() - owners.keys()
    assert (found.damage, found.checked, found.unreferenced) == ((), len(stored_objects(lake)), len(loose))
    assert {f"{md5}.dir" for md5 in loose} <= owners.keys()


def test_verify_hashes_again_whatever_was_verified_before(store: ObjectStore) -> None:
    directory, entries = put(store)
    store.verified_path(entries["a.parquet"])
    damage(store.path(entries["a.parquet"]))
    store.path(entries["b/c.parquet"]).unlink()
    loose = store.put_bytes(b"nobody's")
    damage(store.path(loose.md5))
    pins = [Pin(directory, "snapshot of shop@1")]
    expected = (
        Damage(entries["a.parquet"], "corrupt", ("snapshot of shop@1",)),
        Damage(entries["b/c.parquet"], "missing", ("snapshot of shop@1",)),
    )
    # Storing a directory object leaves its bytes under the plain hash too; nobody names that twin.
    listed = store.path(directory).stat().st_size
    assert verify(store, pins, everything=False) == Inspection(2, listed + 5, expected, 2, listed + loose.bytes)
    assert Damage(loose.md5, "corrupt", ()) in verify(store, pins, everything=True).damage


@pytest.mark.parametrize("spoil", [damage, Path.unlink])
def test_a_directory_that_cannot_be_read_is_damage(store: ObjectStore, spoil: Callable[[Path], None]) -> None:
    directory, _ = put(store)
    spoil(store.path(directory))
    (found,) = verify(store, [Pin(directory, "capsule of shop@1")], everything=False).damage
    assert (found.md5, found.owners) == (directory, ("capsule of shop@1",))
    with pytest.raises(ObjectMissing, match="capsule of shop@1"):
        expand(store, [Pin(directory, "capsule of shop@1")])


def test_a_dry_run_removes_nothing(shop: Shop, copy: ObjectStore) -> None:
    copy.put_bytes(b"nobody's")
    age_all(copy)
    before = contents(copy.root)
    found = gc(copy, shop.pins, GRACE, NOW)
    assert (contents(copy.root), found.removed) == (before, False)
    assert found.objects != ()


def test_only_old_objects_that_nobody_names_are_removed(shop: Shop, copy: ObjectStore) -> None:
    owners = expand(copy, shop.pins)
    old, young = copy.put_bytes(b"old and nobody's").md5, copy.put_bytes(b"young").md5
    age_all(copy)
    age(copy, young, hours=23.9)
    loose = stored_objects(copy).keys() - owners.keys() - {young}
    dry = gc(copy, shop.pins, GRACE, NOW)
    done = gc(copy, shop.pins, GRACE, NOW, apply=True)
    assert old in done.objects
    assert done == Garbage(tuple(sorted(loose)), dry.bytes, 1, len(owners), removed=True)
    assert stored_objects(copy).keys() == owners.keys() | {young}
    assert verify(copy, shop.pins, everything=True).damage == ()
    assert gc(copy, shop.pins, GRACE, NOW, apply=True).objects == ()


def test_unknown_files_are_left_alone(store: ObjectStore) -> None:
    store.put_bytes(b"nobody's")
    age_all(store)
    names = ("files/md5/ab/notes.txt", "files/md5/README", "tmp/1-deadbeef", "readme.md", f"files/md5/AB/{'0' * 30}")
    for name in names:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"by hand")
        os.utime(path, (0, 0))
    assert len(gc(store, [], GRACE, NOW, apply=True).objects) == 1
    assert contents(store.root) == dict.fromkeys(names, b"by hand")


@pytest.mark.parametrize("lost", ["a file", "a directory", "a damaged directory"])
def test_nothing_is_removed_while_something_pinned_is_missing(store: ObjectStore, lost: str) -> None:
    directory, entries = put(store)
    store.put_bytes(b"nobody's")
    age_all(store)
    spoilt = entries["a.parquet"] if lost == "a file" else directory
    damage(store.path(spoilt)) if lost == "a damaged directory" else store.path(spoilt).unlink()
    before = contents(store.root)
    for apply in (False, True):
        with pytest.raises(ObjectMissing, match=rf"{spoilt} \(snapshot of shop@1\)"):
            gc(store, [Pin(directory, "snapshot of shop@1")], GRACE, NOW, apply)
    assert contents(store.root) == before


def test_a_replaced_partition_is_no_longer_pinned_but_a_published_one_is(workspace: Workspace) -> None:
    lake, night = workspace.lake, date(2024, 3, 9)
    frames = [pl.DataFrame({"key": [1, 2], "value": [value, 2.0]}) for value in (1.0, 5.0)]
    for frame in frames:
        standing = lake.current("shop.features", night, night)
        lake.commit([candidate("shop.features", night, lake.put(frame, ["key"]), 2, "f", standing)], "run")
    with workspace.engine.connect() as connection:
        old, new = standing_versions(connection, "shop", night)
        pins = pinned_objects(connection)
        assert (standing_versions(connection, "shop.features"), standing_versions(connection, "sho")) == (
            [old, new],
            [],
        )
    assert (old.current, new.current, old.rows) == (False, True, 2)
    assert pins == [Pin(new.md5, f"shop.features {night}, current")]
    age_all(lake.store)
    assert gc(lake.store, pins, GRACE, NOW, apply=True).objects == (old.md5,)


def rows_of_catalog(workspace: Workspace) -> dict[str, list[Any]]:
    with workspace.engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table)))) for table in METADATA.sorted_tables
        }  # fmt: skip


def call(shop: Shop, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, "data", *arguments], env=shop.environment | more, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def test_a_version_is_laid_out_beside_the_present(shop: Shop, tmp_path: Path) -> None:
    lake = shop.workspace.lake.store
    before = (rows_of_catalog(shop.workspace), contents(lake.root))
    done = call(shop, "restore", "visits@1", "--to", str(tmp_path / "then"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    with shop.workspace.engine.connect() as connection:
        version = find_version(connection, "visits", 1)
    assert version is not None
    parts = {"capsule": version.capsule_md5, "snapshot": version.snapshot_md5}
    expected = {
        f"{part}/{path}": lake.path(md5).read_bytes()
        for part, folder in parts.items()
        for path, md5 in lake.read_directory(folder).items()
    }
    assert contents(tmp_path / "then") == expected
    assert json.loads(done.stdout)["files"] == len(expected)
    assert (rows_of_catalog(shop.workspace), contents(lake.root)) == before
    again = call(shop, "restore", "visits", "--to", str(tmp_path / "then"))
    assert (again.returncode, contents(tmp_path / "then")) == (2, expected)
    assert "not an empty folder" in again.stderr


def test_a_corrupt_object_is_never_laid_out(store: ObjectStore, tmp_path: Path) -> None:
    _, entries = put(store)
    damage(store.path(entries["a.parquet"]))
    with pytest.raises(ObjectCorrupt, match=r"a\.parquet"):
        restore(store, entries, tmp_path / "then")
    store.path(entries["b/c.parquet"]).unlink()
    with pytest.raises(ObjectMissing, match=r"b/c\.parquet"):
        restore(store, entries, tmp_path / "then")
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_an_empty_folder_may_be_named_and_a_full_one_may_not(store: ObjectStore, tmp_path: Path) -> None:
    _, entries = put(store)
    target = tmp_path / "then"
    target.mkdir()
    assert restore(store, entries, target) == 10
    assert contents(target) == FILES
    with pytest.raises(SettingsError, match="not an empty folder"):
        restore(store, entries, target)
    assert contents(target) == FILES


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", ""])
def test_no_path_leads_out_of_the_folder(store: ObjectStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ObjectCorrupt, match="leads out of the folder"):
        restore(store, {name: store.put_bytes(b"x").md5}, tmp_path / "then")
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_the_commands_push_wipe_pull_and_verify(shop: Shop, copy: ObjectStore, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    lake = ObjectStore(Path(shutil.move(copy.root, home / "lake")))
    elsewhere = {"NIGHTSCORE_HOME": str(home), "NIGHTSCORE_REMOTE": str(tmp_path / "remote")}
    wanted = expand(lake, shop.pins)
    pushed = json.loads(call(shop, "push", "--json", **elsewhere).stdout)
    assert (pushed["objects"], pushed["already"]) == (len(wanted), 0)
    shutil.rmtree(lake.root)
    found = call(shop, "verify", **elsewhere)
    assert (found.returncode, "capsule of visits@1" in found.stderr, "Traceback" in found.stderr) == (2, True, False)
    version = call(shop, "pull", "visits@1", **elsewhere)
    assert (version.returncode, version.stdout.startswith("pulled ")) == (0, True)
    with shop.workspace.engine.connect() as connection:
        trained = find_version(connection, "visits", 1)
    assert trained is not None
    assert stored_objects(lake).keys() == expand(lake, pins_of_version(trained)).keys()
    assert call(shop, "pull", **elsewhere).returncode == 0
    clean = json.loads(call(shop, "verify", "--all", "--json", **elsewhere).stdout)
    assert (clean["checked"], clean["damage"]) == (len(wanted), [])
    damage(tmp_path / "remote" / "files" / "md5" / next(iter(wanted))[:2] / next(iter(wanted))[2:])
    there = call(shop, "verify", "--remote", **elsewhere)
    assert (there.returncode, f"corrupt: {next(iter(wanted))}" in there.stderr) == (2, True)


def test_the_commands_list_versions_and_count_garbage(shop: Shop) -> None:
    (one,) = json.loads(call(shop, "versions", "visits.predictions", "--date", str(FIRST_NIGHT), "--json").stdout)
    assert (one["dataset"], one["current"]) == ("visits.predictions", True)
    assert f"receipt 1 (visits {FIRST_NIGHT})" in one["pinned_by"]
    before = contents(shop.workspace.lake.store.root)
    counted = call(shop, "gc")
    assert (counted.returncode, "nothing was removed" in counted.stdout) == (0, True)
    assert contents(shop.workspace.lake.store.root) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push"], "NIGHTSCORE_REMOTE"),
        (["push", "nowhere", "--remote", "there"], "pipelines are: visits"),
        (["pull", "visits@9", "--remote", "there"], "visits@9"),
        (["versions", "nowhere"], "pipelines are: visits"),
    ],
)
def test_a_wrong_call_says_what_to_do(shop: Shop, arguments: list[str], said: str) -> None:
    done = call(shop, *arguments)
    assert (done.returncode, done.stdout, said in done.stderr, "Traceback" in done.stderr) == (2, "", True, False)


def test_a_remote_that_does_not_answer_is_something_to_try_again(shop: Shop) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    done = call(shop, "push", "--remote", "s3://bucket/lake", AWS_ENDPOINT_URL="http://127.0.0.1:1", **keys)
    assert (done.returncode, "Could not connect" in done.stderr, "Traceback" in done.stderr) == (4, True, False)
