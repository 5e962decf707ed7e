"""The lake and the catalog together: commits, conflicts, history, and bytes that are verified."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nightscore.catalog.connect import Database, open_catalog
from nightscore.catalog.gates import RowAccount, record_account
from nightscore.catalog.migrate import HEAD
from nightscore.catalog.postgres import Server
from nightscore.catalog.tables import METADATA
from nightscore.clock import FixedClock
from nightscore.errors import NotReadable, ObjectCorrupt, ObjectMissing, PartitionConflict
from nightscore.lake.partitions import Lake, candidate
from nightscore.lake.workspace import Workspace

NIGHT = date(2013, 4, 1)
DATASET = "demo.clean.orders"


def frame(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(len(values)), "value": values}, schema={"id": pl.Int64, "value": pl.Int64})


def commit(lake: Lake, night: date, content: pl.DataFrame, run_id: str = "run") -> int:
    standing = lake.current(DATASET, night, night)
    stored = lake.put(content, ["id"])
    made = lake.commit([candidate(DATASET, night, stored, content.height, "recipe", standing)], run_id)
    return made[DATASET, night]


def test_what_is_committed_is_read_back_equal(workspace: Workspace) -> None:
    commit(workspace.lake, NIGHT, frame(3, 1, 2))
    assert workspace.lake.read(DATASET, NIGHT, NIGHT).collect().equals(frame(3, 1, 2))


def test_a_range_reads_every_night_in_order(workspace: Workspace) -> None:
    for day in range(3):
        commit(workspace.lake, NIGHT + timedelta(days=day), frame(day))
    read = workspace.lake.read(DATASET, NIGHT, NIGHT + timedelta(days=2)).collect()
    assert read["value"].to_list() == [0, 1, 2]


def test_row_order_does_not_change_the_object(workspace: Workspace) -> None:
    content = frame(5, 6, 7)
    assert workspace.lake.put(content, ["id"]) == workspace.lake.put(content.reverse(), ["id"])


def test_chunking_does_not_change_the_object(workspace: Workspace) -> None:
    content = frame(*range(100))
    pieces = pl.concat([content[:40], content[40:41], content[41:]], rechunk=False)
    assert workspace.lake.put(content, ["id"]) == workspace.lake.put(pieces, ["id"])


def test_equal_content_makes_no_new_version(workspace: Workspace) -> None:
    first = commit(workspace.lake, NIGHT, frame(1))
    assert commit(workspace.lake, NIGHT, frame(1)) == first
    assert [one.version_id for one in workspace.lake.history(DATASET, NIGHT)] == [first]


def test_a_reader_can_ask_for_an_earlier_instant(workspace: Workspace) -> None:
    commit(workspace.lake, NIGHT, frame(1))
    later = dataclasses.replace(workspace.lake, clock=FixedClock(datetime.fromisoformat("2013-05-01T00:00:00+00:00")))
    commit(later, NIGHT, frame(2))
    between = datetime.fromisoformat("2013-04-15T00:00:00+00:00")
    before_all = datetime.fromisoformat("2013-03-01T00:00:00+00:00")
    assert workspace.lake.read(DATASET, NIGHT, NIGHT).collect()["value"].to_list() == [2]
    assert workspace.lake.read(DATASET, NIGHT, NIGHT, as_of=between).collect()["value"].to_list() == [1]
    assert workspace.lake.current(DATASET, NIGHT, NIGHT, as_of=before_all) == {}
    assert [one.rows for one in workspace.lake.history(DATASET, NIGHT)] == [1, 1]


def test_a_second_writer_gets_a_conflict_and_nothing_is_lost(workspace: Workspace) -> None:
    lake = workspace.lake
    standing = lake.current(DATASET, NIGHT, NIGHT)
    mine, theirs = lake.put(frame(1), ["id"]), lake.put(frame(2), ["id"])
    lake.commit([candidate(DATASET, NIGHT, theirs, 1, "recipe", standing)], "theirs")
    with pytest.raises(PartitionConflict, match="started from no version, but version"):
        lake.commit([candidate(DATASET, NIGHT, mine, 1, "recipe", standing)], "mine")
    assert lake.read(DATASET, NIGHT, NIGHT).collect()["value"].to_list() == [2]
    assert lake.store.has(mine.md5)


def test_of_many_first_writers_one_wins(workspace: Workspace) -> None:
    lake, barrier = workspace.lake, threading.Barrier(4)

    def write(value: int) -> str:
        stored = lake.put(frame(value), ["id"])
        barrier.wait()
        try:
            lake.commit([candidate(DATASET, NIGHT, stored, 1, "recipe", {})], f"run {value}")
        except PartitionConflict:
            return "conflict"
        return "won"

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(write, range(4)))
    assert outcomes == ["conflict", "conflict", "conflict", "won"]
    assert len(lake.history(DATASET, NIGHT)) == 1


def test_a_commit_of_several_nights_is_all_or_nothing(workspace: Workspace) -> None:
    lake, after = workspace.lake, NIGHT + timedelta(days=1)
    commit(lake, after, frame(1))
    stored = lake.put(frame(2), ["id"])
    both = [candidate(DATASET, night, stored, 1, "recipe", {}) for night in (NIGHT, after)]
    with pytest.raises(PartitionConflict):
        lake.commit(both, "run")
    assert lake.current(DATASET, NIGHT, NIGHT) == {}


def test_a_night_that_was_never_made_is_said_to_be_so(workspace: Workspace) -> None:
    with pytest.raises(NotReadable) as caught:
        workspace.lake.read(DATASET, NIGHT, NIGHT + timedelta(days=1))
    assert caught.value.found == ("2013-04-01: never made", "2013-04-02: never made")


def test_one_flipped_byte_is_found_before_anything_is_read(workspace: Workspace) -> None:
    commit(workspace.lake, NIGHT, frame(1))
    path = workspace.lake.store.path(workspace.lake.current(DATASET, NIGHT, NIGHT)[NIGHT].md5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    with pytest.raises(ObjectCorrupt, match="another hash than its name"):
        workspace.lake.read(DATASET, NIGHT, NIGHT)


def test_a_damaged_object_is_replaced_when_its_content_is_stored_again(workspace: Workspace) -> None:
    stored = workspace.lake.put(frame(1), ["id"])
    path = workspace.lake.store.path(stored.md5)
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    assert workspace.lake.put(frame(1), ["id"]) == stored
    assert workspace.lake.store.verified_path(stored.md5) == path


def test_a_missing_object_is_named(workspace: Workspace) -> None:
    commit(workspace.lake, NIGHT, frame(1))
    workspace.lake.store.path(workspace.lake.current(DATASET, NIGHT, NIGHT)[NIGHT].md5).unlink()
    with pytest.raises(ObjectMissing, match="no such object"):
        workspace.lake.read(DATASET, NIGHT, NIGHT)


def test_the_database_refuses_an_account_that_does_not_balance(workspace: Workspace) -> None:
    account = RowAccount("demo", DATASET, NIGHT, 10, 8, 1, {})
    with pytest.raises(sa.exc.IntegrityError, match="row_account_balances"), workspace.engine.begin() as connection:
        record_account(connection, account, "run", workspace.clock.now())


def test_the_migrations_and_the_declared_tables_agree(workspace: Workspace) -> None:
    with workspace.engine.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == "nightscore",
            "version_table_schema": "nightscore",
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_concurrent_first_starts_migrate_once(server: Server, database_name: str) -> None:
    database = Database(server.url(database_name), "", "")
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(lambda _: open_catalog(database), range(4)))
    with engines[0].connect() as connection:
        revisions = connection.execute(sa.text("select version_num from nightscore.alembic_version")).all()
    assert revisions == [(HEAD,)]
    for engine in engines:
        engine.dispose()
