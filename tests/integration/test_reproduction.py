"""Versions and nights made again from what the lake kept: equal when all is there, named when something is not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.models import ModelVersion, insert_version
from nightscore.catalog.postgres import Server
from nightscore.catalog.reproductions import Reproduction, list_reproductions
from nightscore.errors import CannotReproduce, PromotionRefused, RowMissing
from nightscore.lake.workspace import Workspace
from nightscore.publishing.revisions import choose_publication
from nightscore.registry.register import train_version
from nightscore.registry.sources import archive_sources
from nightscore.registry.versions import require_version
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.trace import Trace, trace_row
from nightscore.reproduction.versions import reproduce_version
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import bootstrap, fresh_database, opened_shop, run_night, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT, visits_of, write_day

SQL = "dbt/models/visits/features/visits_features.sql"
LATE = FIRST_NIGHT.replace(day=FIRST_NIGHT.day - 1)


@pytest.fixture(scope="module")
def shop_once(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A shop with a version and a published night, whose code and past then move on: see `history`."""
    with fresh_database(server) as name, opened_shop(server, name, tmp_path_factory.mktemp("past")) as workspace:
        yield workspace


@pytest.fixture(scope="module")
def history(shop_once: Workspace) -> Workspace:
    """Version 1; then other feature SQL and version 2; then a late correction of a day that both have read."""
    root = shop_once.settings.root
    commit(root, "as it began")
    pipeline = visits_of_shop(shop_once)
    bootstrap(shop_once, pipeline)
    sql = root / SQL
    sql.write_text(sql.read_text().replace("known_on - 2", "known_on - 1"))
    commit(root, "another window")
    run_night(shop_once, pipeline, FIRST_NIGHT, "new code")
    for_version_2 = visits_of_shop(shop_once)
    prepare_again(shop_once, for_version_2)
    train_version(shop_once, for_version_2, FIRST_NIGHT, "another window", "second")
    write_day(root, LATE, visits_of(LATE).with_columns(pl.col("age") + 20))
    run_night(shop_once, for_version_2, FIRST_NIGHT, "late correction")
    return shop_once


def prepare_again(workspace: Workspace, pipeline: Pipeline) -> None:
    from nightscore.spec.windows import nights_between
    from tests.integration.night_chain import prepare
    from tests.shop import FIRST

    prepare(workspace, pipeline, nights_between(FIRST, FIRST_NIGHT), "second history")


def commit(root: Path, message: str) -> str:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    if not (root / ".git").exists():
        git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def version(workspace: Workspace, number: int) -> ModelVersion:
    return require_version(workspace, "visits", number)


def outcome(made: Reproduction) -> tuple[str, str | None, str | None]:
    return made.outcome, made.level, made.first_difference


def publications(workspace: Workspace) -> list[int]:
    with workspace.engine.connect() as connection:
        ids = "select publication_id from nightscore.publication where score_date = :night order by revision"
        return list(connection.scalars(sa.text(ids), {"night": FIRST_NIGHT}))


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_is_reproduced_to_the_byte_from_newer_code(history: Workspace, number: int) -> None:
    assert outcome(reproduce_version(history, version(history, number), "test")) == ("reproduced", "identical", None)


def test_a_poisoned_module_path_reaches_no_reproduction(
    history: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nightscore").mkdir()
    (tmp_path / "nightscore" / "__init__.py").write_text("raise RuntimeError('poison')")
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert outcome(reproduce_version(history, version(history, 1), "test")) == ("reproduced", "identical", None)


def test_every_revision_of_a_night_is_reproduced_after_a_late_correction(history: Workspace) -> None:
    made = [
        outcome(reproduce_night(history, choose_publication(history, "visits", FIRST_NIGHT, one), "test"))
        for one in publications(history)
    ]
    assert made == [("reproduced", "identical", None)] * 2


def trace(workspace: Workspace, key: str, publication: int | None = None) -> Trace:
    return trace_row(workspace, choose_publication(workspace, "visits", FIRST_NIGHT, publication), [key], "test")


def test_a_row_is_traced_to_its_sources_and_is_equal_in_every_revision(history: Workspace) -> None:
    first, last = publications(history)
    traced = {one: trace(history, "customer_id=7", one) for one in (first, last)}
    assert {one.verdict for one in traced.values()} == {"EQUAL"}
    assert [one.is_current for one in traced.values()] == [False, True]
    assert traced[first].published != traced[last].published
    (source,) = traced[last].sources
    assert (source.source, source.matched_on, source.matching_rows) == ("visits", ("customer_id",), len(source.rows))
    assert any(str(LATE) in file for file in source.files)
    assert {gate["dataset"] for gate in traced[last].gates} == {
        "visits.clean.visits", "visits.features", "visits.predictions",
    }  # fmt: skip


def test_a_key_that_is_not_there_is_named(history: Workspace) -> None:
    with pytest.raises(RowMissing, match=f"0 rows with score_date={FIRST_NIGHT}, customer_id=999, of {CUSTOMERS}"):
        trace(history, "999")
    with pytest.raises(RowMissing, match="customer_id=x is no Int64"):
        trace(history, "x")
    with pytest.raises(RowMissing, match="key column customer_id is missing\n  - name is no key column"):
        trace(history, "name=7")


def test_a_row_that_was_changed_in_the_mart_is_found(history: Workspace) -> None:
    current = choose_publication(history, "visits", FIRST_NIGHT)
    change = sa.text("update mart.visits set score = score + :by where publication_id = :id and customer_id = 7")
    with history.engine.begin() as connection:
        connection.execute(change, {"by": 1, "id": current.publication_id})
    try:
        made = reproduce_night(history, current, "test")
        traced = trace(history, "7")
    finally:
        with history.engine.begin() as connection:
            connection.execute(change, {"by": -1, "id": current.publication_id})
    assert made.outcome == "not equal"
    assert str(made.first_difference).startswith("publication: the mart's rows: column score differs in 1 of 60 rows")
    assert traced.verdict == "NOT EQUAL"
    assert trace(history, "7").verdict == "EQUAL"


def damaged(path: Path) -> bytes:
    """Flip one bit of an object and return what it was."""
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    return content


def test_one_flipped_bit_of_an_old_object_is_found_and_named(history: Workspace) -> None:
    old = version(history, 1)
    entries = history.lake.store.read_directory(old.snapshot_md5)
    name = next(name for name in entries if name.startswith("features/"))
    path = history.lake.store.path(entries[name])
    content = damaged(path)
    try:
        with pytest.raises(CannotReproduce, match=f"ObjectCorrupt: {name}: object {entries[name]}"):
            reproduce_version(history, old, "test")
        path.unlink()
        with pytest.raises(CannotReproduce, match=f"ObjectMissing: {name}: object {entries[name]} is missing"):
            reproduce_version(history, old, "test")
    finally:
        path.write_bytes(content)
    with history.engine.connect() as connection:
        newest = list_reproductions(connection, "visits", limit=2)
    assert [(one.outcome, one.report["error"]) for one in newest] == [
        ("cannot", "ObjectMissing"), ("cannot", "ObjectCorrupt"),
    ]  # fmt: skip


def test_a_capsule_with_other_bytes_is_refused(history: Workspace) -> None:
    old = version(history, 1)
    entries = history.lake.store.read_directory(old.capsule_md5)
    path = history.lake.store.path(entries["model.txt"])
    content = damaged(path)
    try:
        with pytest.raises(CannotReproduce, match=r"CapsuleRejected: model\.txt has SHA-256"):
            reproduce_version(history, old, "test")
    finally:
        path.write_bytes(content)


def registered_without(workspace: Workspace, file: str, number: int) -> ModelVersion:
    """Version 1 once more, as if its capsule had been made without `file`."""
    from nightscore.registry.manifest import Manifest, read_manifest
    from nightscore.reproduction.sandbox import copy_out, open_sandbox

    old = version(workspace, 1)
    with open_sandbox(workspace) as folder:
        capsule = folder / "capsule"
        copy_out(workspace.lake.store, old.capsule_md5, capsule)
        before = read_manifest(capsule)
        manifest = Manifest(
            {name: entry for name, entry in before.files.items() if name != file}, before.function_sha256
        )
        (capsule / file).unlink()
        (capsule / "MANIFEST.json").write_text(manifest.as_text())
        stored = {path.name: workspace.lake.store.put_bytes(path.read_bytes()).md5 for path in capsule.iterdir()}
    changed = {
        "version": number, "capsule_md5": workspace.lake.store.put_directory(stored).md5,
        "manifest_sha256": manifest.sha256, "recipe_hash": f"without {file}",
    }  # fmt: skip
    made = ModelVersion(**vars(old) | changed)
    with workspace.engine.begin() as connection:
        insert_version(connection, made)
    return made


def test_a_missing_lock_is_named(history: Workspace) -> None:
    made = registered_without(history, "requirements.lock", 91)
    with pytest.raises(CannotReproduce, match=r"no requirements\.lock was there when it was made"):
        reproduce_version(history, made, "test")


def test_a_lock_that_never_described_the_environment_is_named(history: Workspace) -> None:
    old = version(history, 1)
    stale = {**(old.provenance or {}), "lock_differences": ["polars 2.1.0 is installed, the lock says 1.0.0"]}
    with pytest.raises(CannotReproduce, match=r"polars 2\.1\.0 is installed, the lock says 1\.0\.0"):
        reproduce_version(history, ModelVersion(**vars(old) | {"provenance": stale}), "test")


def test_lost_sources_are_named(history: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = registered_without(history, "source.tar", 92)
    monkeypatch.setenv("GIT_DIR", str(history.settings.home_path / "no repository"))
    with pytest.raises(CannotReproduce, match=r"its capsule has no source archive\n  - commit [0-9a-f]{40} is not in"):
        reproduce_version(history, made, "test")


def test_commits_of_versions_are_kept_by_refs(history: Workspace) -> None:
    shown = subprocess.run(
        ["git", "-C", str(history.settings.root), "for-each-ref", "--format=%(refname) %(objectname)", "refs/models"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    commits = [(version(history, number).provenance or {})["commit"] for number in (1, 2)]
    assert shown.stdout.splitlines() == [f"refs/models/visits/{at} {sha}" for at, sha in enumerate(commits, 1)]
    assert commits[0] != commits[1]


def test_uncommitted_sources_are_flagged_and_may_be_refused(shop: Workspace) -> None:
    commit(shop.settings.root, "as it began")
    spec = shop.settings.pipelines_path / "visits.yaml"
    spec.write_text(spec.read_text() + "\npromotion: { allow_dirty: false }\n")
    pipeline = visits_of_shop(shop)
    with pytest.raises(PromotionRefused, match="it was trained from uncommitted changes"):
        bootstrap(shop, pipeline)
    assert (version(shop, 1).provenance or {})["dirty"] is True
    assert outcome(reproduce_version(shop, version(shop, 1), "test")) == ("reproduced", "identical", None)


def test_a_source_archive_depends_on_contents_alone(shop: Workspace, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(shop.settings.root, copy)
    for path in copy.rglob("*.sql"):
        path.touch()
    assert archive_sources(copy, "visits") == archive_sources(shop.settings.root, "visits")
    (copy / SQL).write_text("select 1")
    assert archive_sources(copy, "visits") != archive_sources(shop.settings.root, "visits")
