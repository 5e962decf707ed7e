"""The lake's remote: a folder and S3 by the same calls; nothing unverified gets a name on either side."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import stamina

from nightscore.catalog.pins import Pin, pinned_objects
from nightscore.catalog.postgres import Server
from nightscore.errors import ObjectCorrupt, ObjectMissing, RemoteUnavailable, SettingsError
from nightscore.lake.objects import ObjectStore
from nightscore.lake.remotes import Remote, open_remote
from nightscore.lake.transfer import Transfer, pull, push
from nightscore.lake.upkeep import Damage, expand, inspect, verify
from tests.integration.night_chain import Begun, copied_shop
from tests.integration.s3_server import s3_server

pytestmark = pytest.mark.timeout(120)

BUCKET = "lake-of-tests"
FILES = {"a.parquet": b"alpha", "b/c.parquet": b"gamma"}


@pytest.fixture(scope="module", autouse=True)
def _no_patience() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3_server(BUCKET) as variables:
        yield variables["AWS_ENDPOINT_URL"]


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    if request.param == "folder":
        return open_remote(str(tmp_path / "remote"))
    request.getfixturevalue("s3_endpoint")
    return open_remote(f"s3://{BUCKET}/{os.urandom(6).hex()}")


@pytest.fixture
def folder(tmp_path: Path) -> Remote:
    return open_remote(str(tmp_path / "remote"))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "lake")


def put(store: ObjectStore, files: Mapping[str, bytes] = FILES) -> tuple[str, dict[str, str]]:
    """A directory object and what it names."""
    entries = {name: store.put_bytes(content).md5 for name, content in files.items()}
    return store.put_directory(entries).md5, entries


def damage(path: Path) -> bytes:
    """Overwrite a read-only object with other bytes of the same size; the bytes it had."""
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes(255 - byte for byte in before))
    path.chmod(0o444)
    return before


def on_remote(remote: Remote, md5: str) -> Path:
    return Path(remote.path(md5))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def shop_lake(
    server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, list[Pin]]]:
    """The lake of a shop with a model and a published night, and what its catalog names."""
    folder = tmp_path_factory.mktemp("remotes")
    with copied_shop(server, begun, folder) as opened, opened.engine.connect() as connection:
        yield opened.lake.store.root, pinned_objects(connection)


def test_a_wiped_lake_comes_back_whole(shop_lake: tuple[Path, list[Pin]], remote: Remote, tmp_path: Path) -> None:
    root, pins = shop_lake
    lake = ObjectStore(Path(shutil.copytree(root, tmp_path / "lake")))
    wanted = expand(lake, pins)
    size = sum(lake.path(md5).stat().st_size for md5 in wanted)
    assert push(lake, remote, pins) == Transfer(len(wanted), size, 0)
    assert inspect(remote, pins, everything=True).damage == ()
    shutil.rmtree(lake.root)
    assert pull(lake, remote, pins) == Transfer(len(wanted), size, 0)
    found = verify(lake, pins, everything=True)
    assert (found.checked, found.damage, found.unreferenced) == (len(wanted), (), 0)
    assert {md5: lake.path(md5).read_bytes() for md5 in wanted} == {
        md5: ObjectStore(root).path(md5).read_bytes() for md5 in wanted
    }
    assert list((lake.root / "tmp").iterdir()) == []


def test_a_second_push_or_pull_moves_nothing(store: ObjectStore, remote: Remote) -> None:
    directory, _ = put(store)
    pins = [Pin(directory, "a snapshot")]
    assert push(store, remote, pins).objects == 3
    assert push(store, remote, pins) == Transfer(0, 0, 3)
    assert pull(store, remote, pins) == Transfer(0, 0, 3)


def test_a_push_never_is_shallow_and_heals_a_directory_whose_files_are_absent(
    store: ObjectStore, remote: Remote
) -> None:  # fmt: skip
    directory, entries = put(store)
    pins = [Pin(directory, "a snapshot")]
    remote.filesystem.makedirs(remote.path(directory).rpartition("/")[0], exist_ok=True)
    remote.upload(store.path(directory), directory)
    found = inspect(remote, pins, everything=False)
    assert sorted(found.damage, key=lambda one: one.md5) == [
        Damage(md5, "missing", ("a snapshot",)) for md5 in sorted(entries.values())
    ]
    with pytest.raises(ObjectMissing) as failure:
        pull(ObjectStore(store.root.parent / "other"), remote, pins)
    assert [line.split(" ")[0] for line in failure.value.found] == sorted(entries.values())
    assert push(store, remote, pins).objects == 2
    assert inspect(remote, pins, everything=False).damage == ()


def test_an_interrupted_push_sends_only_the_rest(store: ObjectStore, remote: Remote) -> None:
    directory, entries = put(store)
    push(store, remote, [Pin(md5, "a file") for md5 in entries.values()])
    assert remote.sizes().keys() == set(entries.values())
    sent = push(store, remote, [Pin(directory, "a snapshot")])
    assert sent == Transfer(1, store.path(directory).stat().st_size, 2)


def test_a_push_of_what_is_nowhere_sends_nothing(store: ObjectStore, folder: Remote) -> None:
    directory, entries = put(store)
    store.path(entries["a.parquet"]).unlink()
    absent = "0" * 32
    pins = [Pin(directory, "snapshot of shop@1"), Pin(absent, "shop.features 2024-03-09, current")]
    with pytest.raises(ObjectMissing) as failure:
        push(store, folder, pins)
    assert failure.value.found == (
        f"{absent} (shop.features 2024-03-09, current): neither in the lake nor on the remote",
        f"{entries['a.parquet']} (snapshot of shop@1): neither in the lake nor on the remote",
    )
    assert folder.sizes() == {}


def test_what_only_the_remote_has_is_not_missed(store: ObjectStore, remote: Remote) -> None:
    directory, entries = put(store)
    pins = [Pin(directory, "a snapshot")]
    push(store, remote, pins)
    for md5 in (directory, entries["a.parquet"]):
        store.path(md5).unlink()
    assert push(store, remote, pins) == Transfer(0, 0, 3)


def test_a_corrupt_local_object_is_not_sent_nor_the_directory_that_names_it(
    store: ObjectStore, folder: Remote
) -> None:  # fmt: skip
    directory, entries = put(store)
    other, more = put(store, {"d.parquet": b"delta"})
    damage(store.path(entries["a.parquet"]))
    with pytest.raises(ObjectCorrupt) as failure:
        push(store, folder, [Pin(directory, "snapshot of shop@1"), Pin(other, "snapshot of shop@2")])
    bad = entries["a.parquet"]
    assert failure.value.found == (f"{bad} (snapshot of shop@1): the lake's copy has another hash than its name",)
    assert folder.sizes().keys() == {entries["b/c.parquet"], other, *more.values()}


def test_a_corrupt_local_directory_object_sends_nothing(store: ObjectStore, folder: Remote) -> None:
    directory, _ = put(store)
    damage(store.path(directory))
    with pytest.raises(ObjectCorrupt):
        push(store, folder, [Pin(directory, "a snapshot")])
    assert folder.sizes() == {}


@pytest.mark.parametrize("lost", ["a.parquet", "b/c.parquet"])
def test_a_corrupt_remote_object_gets_no_name_and_the_rest_is_kept(
    store: ObjectStore, folder: Remote, tmp_path: Path, lost: str
) -> None:  # fmt: skip
    directory, entries = put(store)
    pins = [Pin(directory, "a snapshot")]
    push(store, folder, pins)
    damage(on_remote(folder, entries[lost]))
    fresh = ObjectStore(tmp_path / "fresh")
    with pytest.raises(ObjectCorrupt) as failure:
        pull(fresh, folder, pins)
    reason = f"the copy on {folder.name} has another hash than its name"
    assert failure.value.found == (f"{entries[lost]} (a snapshot): {reason}",)
    kept = {directory, *entries.values()} - {entries[lost]}
    assert names_in(fresh) == kept
    assert verify(fresh, pins, everything=True).damage == (Damage(entries[lost], "missing", ("a snapshot",)),)
    assert inspect(folder, pins, everything=False).damage == (Damage(entries[lost], "corrupt", ("a snapshot",)),)


def test_a_corrupt_remote_directory_object_is_named(store: ObjectStore, folder: Remote, tmp_path: Path) -> None:
    directory, _ = put(store)
    push(store, folder, [Pin(directory, "a snapshot")])
    damage(on_remote(folder, directory))
    with pytest.raises(ObjectCorrupt, match=directory):
        pull(ObjectStore(tmp_path / "fresh"), folder, [Pin(directory, "a snapshot")])
    assert names_in(ObjectStore(tmp_path / "fresh")) == set()


def test_a_truncated_remote_object_is_found_by_its_size_and_sent_again(store: ObjectStore, folder: Remote) -> None:
    directory, entries = put(store)
    pins = [Pin(directory, "a snapshot")]
    push(store, folder, pins)
    on_remote(folder, entries["a.parquet"]).write_bytes(b"alp")
    assert push(store, folder, pins).objects == 1
    assert inspect(folder, pins, everything=True).damage == ()


def test_a_pull_replaces_a_corrupt_local_object(store: ObjectStore, remote: Remote) -> None:
    directory, entries = put(store)
    pins = [Pin(directory, "a snapshot")]
    push(store, remote, pins)
    before = damage(store.path(entries["a.parquet"]))
    damage(store.path(directory))
    assert pull(store, remote, pins).objects == 2
    assert store.verified_path(entries["a.parquet"]).read_bytes() == before
    assert verify(store, pins, everything=False).damage == ()


def test_four_pushes_at_once_leave_one_whole_set(store: ObjectStore, remote: Remote) -> None:
    directory, entries = put(store, {f"{number}.parquet": f"row {number}".encode() for number in range(60)})
    pins = [Pin(directory, "a snapshot")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: push(store, remote, pins), range(4)))
    assert remote.sizes().keys() == {directory, *entries.values()}
    assert inspect(remote, pins, everything=True).damage == ()
    assert push(store, remote, pins).objects == 0


def test_a_push_to_a_folder_leaves_nothing_half_done(
    store: ObjectStore, folder: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    directory, entries = put(store)
    whole: Callable[..., None] = folder.filesystem.put_file

    def breaks_off(source: str, target: str) -> None:
        whole(source, target)
        Path(target).write_bytes(b"hal")
        raise ConnectionResetError("the share went away")

    with monkeypatch.context() as patched:
        patched.setattr(folder.filesystem, "put_file", breaks_off)
        with pytest.raises(RemoteUnavailable, match="the share went away"):
            push(store, folder, [Pin(directory, "a snapshot")])
    assert contents(Path(folder.root)) == {}
    assert push(store, folder, [Pin(directory, "a snapshot")]).objects == len(entries) + 1


def test_a_remote_that_hiccups_once_is_asked_again(
    store: ObjectStore, folder: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    directory, _ = put(store)
    whole: Callable[..., None] = folder.filesystem.put_file
    asked: list[str] = []

    def hiccups(source: str, target: str) -> None:
        asked.append(source)
        if asked.count(source) == 1:
            raise TimeoutError("no answer")
        whole(source, target)

    monkeypatch.setattr(folder.filesystem, "put_file", hiccups)
    assert push(store, folder, [Pin(directory, "a snapshot")]).objects == 3
    assert len(asked) == 6


def test_files_that_are_no_objects_are_nobodys_business(store: ObjectStore, remote: Remote) -> None:
    directory, _ = put(store)
    push(store, remote, [Pin(directory, "a snapshot")])
    before = remote.sizes()
    for name in ("files/md5/ab/notes.txt", "files/md5/README", "readme.md"):
        remote.filesystem.makedirs(f"{remote.root}/{name}".rpartition("/")[0], exist_ok=True)
        remote.filesystem.pipe_file(f"{remote.root}/{name}", b"by hand")
    assert remote.sizes() == before


def test_an_endpoint_that_does_not_answer_is_something_to_try_again(
    store: ObjectStore, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    directory, _ = put(store)
    with pytest.raises(RemoteUnavailable, match="Could not connect"):
        push(store, open_remote(f"s3://{BUCKET}/gone"), [Pin(directory, "a snapshot")])


@pytest.mark.parametrize(
    ("url", "said"),
    [("gopher://host/lake", "gopher"), ("s3://no-such-bucket/lake", "does not exist")],
)
def test_a_remote_that_cannot_be_is_a_setting_to_correct(
    store: ObjectStore, s3_endpoint: str, url: str, said: str
) -> None:  # fmt: skip
    directory, _ = put(store)
    with pytest.raises(SettingsError, match=said):
        push(store, open_remote(url), [Pin(directory, "a snapshot")])


def names_in(store: ObjectStore) -> set[str]:
    from nightscore.lake.upkeep import stored_objects

    return set(stored_objects(store))
