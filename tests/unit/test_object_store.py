"""The object store by itself: DVC's layout, whole objects or none."""

import json
from pathlib import Path

import pytest

from nightscore.errors import ObjectMissing
from nightscore.lake.objects import ObjectStore, StoredObject

HELLO = "5d41402abc4b2a76b9719d911017c592"


def test_an_object_lies_where_dvc_looks_for_it(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    assert store.put_bytes(b"hello") == StoredObject(HELLO, 5)
    assert (tmp_path / "files" / "md5" / HELLO[:2] / HELLO[2:]).read_bytes() == b"hello"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_dvc_itself_finds_a_directory_object_whole(tmp_path: Path) -> None:
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import LocalFileSystem

    store = ObjectStore(tmp_path)
    files = {"a/x.parquet": store.put_bytes(b"x").md5, "b.parquet": store.put_bytes(b"hello").md5}
    stored = store.put_directory(files)
    database = LocalHashFileDB(LocalFileSystem(), str(tmp_path / "files" / "md5"), hash_name="md5")
    tree = Tree.load(database, HashInfo("md5", stored.md5))
    assert {"/".join(path): info.value for path, (_, info) in tree._dict.items()} == files
    assert tree.hash_info.value == stored.md5
    assert store.read_directory(stored.md5) == files


def test_a_directory_of_absent_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match=r"gone\.parquet"):
        ObjectStore(tmp_path).put_directory({"gone.parquet": HELLO})


def test_a_directory_object_is_dvcs_json(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.put_bytes(b"hello")
    path = store.path(store.put_directory({"z": HELLO, "a": HELLO}).md5)
    assert json.loads(path.read_bytes()) == [{"md5": HELLO, "relpath": "a"}, {"md5": HELLO, "relpath": "z"}]
