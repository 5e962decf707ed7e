"""COPY into a real server: it stores what was sent, bit by bit, in batches of any size; what fails leaves nothing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import insert_publication, lock_night, require_receipt
from nightscore.errors import AccountingError, SourceMalformed
from nightscore.lake.workspace import Workspace
from nightscore.publishing.copy_binary import SIGNATURE, TRAILER, encode_rows
from nightscore.publishing.copy_stream import copy_frames
from nightscore.publishing.mart import TYPES_OF_FRAME
from nightscore.publishing.publish import load_rows
from nightscore.scoring.night import score_nights
from tests.integration.night_chain import Begun, copied_shop, night_after, prepare, visits_of_shop
from tests.published_frames import ORDINARY, TYPES, frames
from tests.shop import CUSTOMERS, FIRST_NIGHT

TABLE = sql.Identifier("copied")
NIGHT = night_after(FIRST_NIGHT)
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def raw(server: Server) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose every example is rolled back."""
    with psycopg.connect(server.url("postgres", driver="postgresql"), options="-c timezone=UTC") as connection:
        yield connection


def make_table(raw: psycopg.Connection[Any], names: list[str]) -> None:
    raw.rollback()
    columns = ", ".join(f"{name} {TYPES_OF_FRAME[TYPES[name]]}" for name in names)
    raw.execute(f"create table copied ({columns})")


def table_rows(raw: psycopg.Connection[Any]) -> list[bytes]:
    """What the server sends of each row, in the order they are stored."""
    with raw.cursor() as cursor, cursor.copy("copy copied to stdout with (format binary)") as copy:
        parts = [bytes(part).removeprefix(SIGNATURE) for part in copy]
    assert parts.pop() == TRAILER
    return [part for part in parts if part]


@given(frames())
@settings(max_examples=40)
def test_the_server_stores_every_bit_in_order(raw: psycopg.Connection[Any], frame: pl.DataFrame) -> None:
    make_table(raw, frame.columns)
    assert copy_frames(raw, TABLE, frame.columns, [frame]) == frame.height
    assert table_rows(raw) == [bytes(encode_rows(frame[at])) for at in range(frame.height)]


@given(frames(ORDINARY))
@settings(max_examples=40)
def test_values_read_back_are_those_of_the_frame(raw: psycopg.Connection[Any], frame: pl.DataFrame) -> None:
    make_table(raw, frame.columns)
    copy_frames(raw, TABLE, frame.columns, [frame])
    assert shown(raw.execute("select * from copied").fetchall()) == shown(frame.rows())


def shown(rows: Rows) -> list[str]:
    """Rows as texts, since no NaN equals another, with instants in one spelling of UTC."""
    return [repr([one.astimezone(UTC) if isinstance(one, datetime) else one for one in row]) for row in rows]


@given(frames(), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_batches_and_order_of_rows_change_nothing(
    raw: psycopg.Connection[Any], frame: pl.DataFrame, size: int, random: Any
) -> None:
    shuffled = frame[random.sample(range(frame.height), frame.height)]
    make_table(raw, frame.columns)
    copy_frames(raw, TABLE, frame.columns, [frame])
    whole = table_rows(raw)
    make_table(raw, frame.columns)
    parts = [shuffled.slice(at, size) for at in range(0, frame.height, size)]
    assert copy_frames(raw, TABLE, frame.columns, parts) == frame.height
    assert sorted(table_rows(raw)) == sorted(whole)


def test_many_batches_of_a_large_frame_arrive(raw: psycopg.Connection[Any]) -> None:
    numbers = pl.int_range(300_000, eager=True)
    frame = pl.DataFrame({"id": numbers, "arm": numbers.cast(pl.String), "code": pl.repeat("AA", 300_000, eager=True)})
    make_table(raw, frame.columns)
    assert copy_frames(raw, TABLE, frame.columns, frame.iter_slices(70_000)) == 300_000
    query = "select count(distinct id), count(*) filter (where id::text = arm and code = 'AA'), sum(id) from copied"
    assert raw.execute(query).fetchone() == (300_000, 300_000, 300_000 * 299_999 // 2)


def test_a_nul_in_a_later_batch_is_refused_and_nothing_is_left(raw: psycopg.Connection[Any]) -> None:
    make_table(raw, ["id", "arm"])
    good, bad = (pl.DataFrame({"id": [1], "arm": [text]}) for text in ("x", "a\0"))
    with pytest.raises(SourceMalformed, match="column arm"):
        copy_frames(raw, TABLE, ["id", "arm"], [good, good, good, bad])
    raw.rollback()
    assert raw.execute("select to_regclass('copied')").fetchone() == (None,)


def test_batches_that_cannot_be_read_raise_what_reading_raised(raw: psycopg.Connection[Any]) -> None:
    def torn() -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"id": [1]})
        raise OSError("page 7 is torn")

    make_table(raw, ["id"])
    with pytest.raises(OSError, match="page 7"):
        copy_frames(raw, TABLE, ["id"], torn())
    raw.rollback()
    assert raw.execute("select to_regclass('copied')").fetchone() == (None,)


def test_a_connection_lost_on_the_way_is_an_error_of_the_database(server: Server) -> None:
    url = server.url("postgres", driver="postgresql")
    with psycopg.connect(url) as lost, psycopg.connect(url, autocommit=True) as admin:
        make_table(lost, ["id"])

        def batches() -> Iterator[pl.DataFrame]:
            yield from [pl.DataFrame({"id": range(100_000)})] * 3
            admin.execute("select pg_terminate_backend(%s)", [lost.info.backend_pid])
            yield from [pl.DataFrame({"id": range(100_000)})] * 30

        with pytest.raises(psycopg.OperationalError):
            copy_frames(lost, TABLE, ["id"], batches())
        assert admin.execute("select to_regclass('copied')").fetchone() == (None,)


def test_a_transaction_with_one_snapshot_copies_too(raw: psycopg.Connection[Any]) -> None:
    raw.rollback()
    raw.execute("set transaction isolation level repeatable read")
    raw.execute("select count(*) from pg_class")
    raw.execute("create table copied (id bigint)")
    assert copy_frames(raw, TABLE, ["id"], [pl.DataFrame({"id": [1, 2]})]) == 2


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A shop whose second night is scored, and not published."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("publishing")) as opened:
        pipeline = visits_of_shop(opened)
        prepare(opened, pipeline, [NIGHT], "night")
        score_nights(opened, pipeline, [NIGHT], "night")
        yield opened


ALSO_THERE = "alter table mart.visits add column of_an_older_spec text"


def load(workspace: Workspace, rows: int, check: Any) -> None:
    """Load the second night as if its receipt said `rows`, let `check` see the table, and roll back."""
    pipeline = visits_of_shop(workspace)
    version = workspace.lake.current("visits.predictions", NIGHT, NIGHT)[NIGHT]
    with workspace.engine.connect() as connection:
        lock_night(connection, "visits", NIGHT)
        receipt = require_receipt(connection, "visits", NIGHT, version.fingerprint)
        values = {
            "pipeline": "visits", "score_date": NIGHT, "receipt_id": receipt.receipt_id, "rows": rows,
            "model_version": receipt.model_version, "content_md5": version.md5, "kind": "night", "run_id": "load",
            "published_at": workspace.clock.now(),
        }  # fmt: skip
        made = insert_publication(connection, values)
        connection.exec_driver_sql(ALSO_THERE)
        load_rows(connection, workspace, pipeline, replace(version, rows=rows), receipt, made)
        check(connection.connection.driver_connection, f"mart.visits_p{made.publication_id}", receipt.made_at)
        connection.rollback()


def partitions(workspace: Workspace) -> list[str]:
    with workspace.engine.connect() as connection:
        query = "select tablename from pg_tables where schemaname = 'mart' and tablename like 'visits%%' order by 1"
        return [str(name) for (name,) in connection.exec_driver_sql(query)]


def test_a_night_shorter_than_its_receipt_is_not_published(workspace: Workspace) -> None:
    before = partitions(workspace)
    with pytest.raises(AccountingError, match=f"{CUSTOMERS} rows were copied, the receipt says {CUSTOMERS + 1}"):
        load(workspace, CUSTOMERS + 1, None)
    assert partitions(workspace) == before


def test_a_partition_is_unique_by_key_and_says_whose_rows_it_holds(workspace: Workspace) -> None:
    def check(raw: psycopg.Connection[Any], table: str, made_at: Any) -> None:
        key = raw.execute(
            "select array_agg(attname::text order by attnum) from pg_index join pg_attribute "
            "on attrelid = indrelid and attnum = any (indkey) where indisprimary and indrelid = %s::regclass", [table]
        ).fetchall()  # fmt: skip
        assert key == [(["customer_id"],)]
        shared = raw.execute(f"select distinct publication_id, score_date, scored_at from {table}").fetchall()
        assert shared == [(int(table.rpartition("_p")[2]), NIGHT, made_at)]

    load(workspace, CUSTOMERS, check)


def test_what_all_rows_share_is_stored_once_and_read_with_every_row(workspace: Workspace) -> None:
    version = workspace.lake.current("visits.predictions", NIGHT, NIGHT)[NIGHT]
    expected = workspace.lake.scan([version]).collect().sort("customer_id")

    def check(raw: psycopg.Connection[Any], table: str, made_at: Any) -> None:
        once = raw.execute(
            "select attname::text from pg_attribute where attrelid = %s::regclass and atthasmissing", [table]
        ).fetchall()  # fmt: skip
        assert {"publication_id", "score_date", "scored_at", "model_version", "arm"} <= {name for (name,) in once}
        names = ", ".join(expected.columns)
        rows = raw.execute(f"select {names} from {table} order by customer_id").fetchall()
        assert rows == expected.rows()

    load(workspace, CUSTOMERS, check)


def test_a_column_of_an_older_spec_is_empty_in_new_rows(workspace: Workspace) -> None:
    def check(raw: psycopg.Connection[Any], table: str, made_at: Any) -> None:
        publication = int(table.rpartition("_p")[2])
        query = "select of_an_older_spec, count(*) from mart.visits where publication_id = %s group by 1"
        assert raw.execute(query, [publication]).fetchall() == [(None, CUSTOMERS)]

    load(workspace, CUSTOMERS, check)
