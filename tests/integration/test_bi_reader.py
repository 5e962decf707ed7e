"""What a BI tool may see and do: every view with its meaning, nothing behind the views, and never a wait."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg
import pytest
from psycopg.rows import dict_row

from nightscore.catalog.metrics import MetricValue, record_metrics
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.catalog.reviews import ReviewItem, replace_items
from nightscore.catalog.watch import replace_incidents, replace_signals
from nightscore.errors import DatabaseUnavailable
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import NOW, Begun, copied_shop, night_after, run_night, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

VIEWS = {
    "visits_current", "visits_latest", "partition_status", "dim_model", "data_dictionary",
    "review_queue", "incidents", "drift", "performance",
}  # fmt: skip
REFUSALS = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.ObjectNotInPrerequisiteState,  # a view over a join takes no rows from anyone
)
Reader = psycopg.Connection[dict[str, object]]


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One shop with its first night published; tests publish nights of their own."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("reader")) as opened:
        tell_watch(opened)
        yield opened


def tell_watch(workspace: Workspace) -> None:
    """One row to review, and what a watch has found, measured and known twice."""
    signal = {"pipeline": "visits", "score_date": FIRST_NIGHT, "cause": "L2 psi city", "level": "L2",
              "column_name": "city", "value": 0.5, "threshold": 0.25, "ratio": 2.0, "fires": True,
              "message": "city has moved", "reference": "visits@1", "at": NOW}  # fmt: skip
    incident = {"pipeline": "visits", "incident_id": "visits-1", "level": "L2", "status": "open",
                "cause": "L2 psi city", "columns": ["city", "age"], "messages": ["city has moved", "so has age"],
                "opened": FIRST_NIGHT, "last_seen": FIRST_NIGHT, "closed": None, "nights": 1, "actor": None,
                "reason": "", "false_alarm": False, "at": NOW}  # fmt: skip
    known = [(10, 4.0, "provisional"), (12, 5.0, "mature")]
    figures = [
        MetricValue("visits", FIRST_NIGHT, date(2024, 3, day), "model", "mae", value, CUSTOMERS, maturity, 3.5, 6.0, 1)
        for day, value, maturity in known
    ]  # fmt: skip
    with workspace.engine.begin() as connection:
        published = current_publications(connection, "visits", FIRST_NIGHT, FIRST_NIGHT)[FIRST_NIGHT].publication_id
        item = ReviewItem("visits", FIRST_NIGHT, {"customer_id": 1}, published, 4.5, ["age: young", "city: small"])
        replace_signals(connection, "visits", FIRST_NIGHT, [signal])
        replace_incidents(connection, "visits", [incident])
        record_metrics(connection, figures, "watch", NOW)
        replace_items(connection, "visits", FIRST_NIGHT, [item], NOW)


@pytest.fixture(scope="module")
def pipeline(workspace: Workspace) -> Pipeline:
    return visits_of_shop(workspace)


@pytest.fixture
def reader(workspace: Workspace) -> Iterator[Reader]:
    with connect(workspace) as connection:
        yield connection


def connect(workspace: Workspace) -> Reader:
    url = workspace.database.reader_url
    return psycopg.connect(url, autocommit=True, row_factory=dict_row, options="-c TimeZone=UTC")


def rows(reader: Reader, query: str) -> list[dict[str, object]]:
    return reader.execute(query.encode()).fetchall()


def night_of(reader: Reader) -> list[dict[str, object]]:
    """The latest night and its rows, within two seconds."""
    reader.execute("set statement_timeout = '2s'")
    return rows(reader, "select score_date, count(*) as rows from bi.visits_latest group by score_date")


def test_every_view_can_be_read(reader: Reader) -> None:
    names = {str(row["view_name"]) for row in rows(reader, "select distinct view_name from bi.data_dictionary")}
    assert names >= VIEWS
    assert {name for name in names if not rows(reader, f"select * from bi.{name} limit 1")} == set()


@pytest.mark.parametrize(
    "query",
    [
        "select * from mart.visits",
        "select * from mart.visits_p1",
        "select * from nightscore.publication",
        "select * from nightscore.night_event",
        "create table bi.mine (a integer)",
        "create table mart.mine (a integer)",
        "create schema mine",
        "insert into bi.visits_current (customer_id) values (1)",
        "update bi.dim_model set reason = 'mine'",
        "delete from bi.visits_latest",
        "delete from nightscore.publication_current",
        "drop view bi.visits_latest",
        "alter role bi_reader superuser",
        "set role nightscore",
        "copy (select 1) to program 'true'",
    ],
)
@pytest.mark.parametrize("prelude", ["select 1", "set default_transaction_read_only = off"])
def test_everything_else_is_refused(reader: Reader, prelude: str, query: str) -> None:
    reader.execute(prelude.encode())
    with pytest.raises(REFUSALS) as refused:
        reader.execute(query.encode())
    if prelude != "select 1":
        assert not isinstance(refused.value, psycopg.errors.ReadOnlySqlTransaction)


def test_the_dictionary_describes_every_column_of_every_view(reader: Reader) -> None:
    silent = (
        "select view_name, column_name from bi.data_dictionary "
        "where coalesce(description, '') = '' or coalesce(view_description, '') = ''"
    )
    undescribed = {(row["view_name"], row["column_name"]) for row in rows(reader, silent)}
    assert undescribed == set()


def test_the_status_of_a_published_night_is_whole(reader: Reader) -> None:
    found = rows(reader, f"select * from bi.partition_status where score_date = '{FIRST_NIGHT}'")
    publication = rows(
        reader, f"select distinct publication_id from bi.visits_current where score_date = '{FIRST_NIGHT}'"
    )
    assert found == [
        {
            "pipeline": "visits", "score_date": FIRST_NIGHT, "status": "fresh",
            "reason": f"publication {publication[0]['publication_id']}, revision 1, {CUSTOMERS} rows",
            "status_since": NOW, "publication_id": publication[0]["publication_id"], "revision": 1, "model_version": 1,
            "rows": CUSTOMERS, "published_at": NOW, "readers_see_date": FIRST_NIGHT, "run_id": "bootstrap",
        }
    ]  # fmt: skip


def test_the_champion_of_every_time_is_whole(reader: Reader) -> None:
    (found,) = rows(reader, "select * from bi.dim_model")
    who, function = found.pop("trained_by"), found.pop("function_hash")
    assert who
    assert len(str(function)) == 64
    assert found == {
        "pipeline": "visits", "model_version": 1, "valid_from": NOW, "valid_to": None, "is_current": True,
        "algorithm": "lightgbm", "task": "regression", "trained_for": date(2024, 3, 9), "trained_at": NOW,
        "made_champion_by": "nightscore", "reason": "the first version of the pipeline",
    }  # fmt: skip


def test_what_the_watch_found_is_whole(reader: Reader) -> None:
    (published,) = rows(reader, f"select publication_id from bi.partition_status where score_date = '{FIRST_NIGHT}'")
    assert rows(reader, "select * from bi.review_queue") == [
        {"pipeline": "visits", "score_date": FIRST_NIGHT, "key": {"customer_id": 1}, "score": 4.5,
         "why": "age: young; city: small", **published, "is_current": True, "queued_at": NOW}
    ]  # fmt: skip
    assert rows(reader, "select * from bi.incidents") == [
        {"pipeline": "visits", "incident_id": "visits-1", "level": "L2", "status": "open", "cause": "L2 psi city",
         "affected_columns": "city, age", "messages": "city has moved; so has age", "opened": FIRST_NIGHT,
         "last_seen": FIRST_NIGHT, "closed": None, "nights": 1, "false_alarm": False, "actor": None, "reason": "",
         "changed_at": NOW}
    ]  # fmt: skip
    assert rows(reader, "select * from bi.drift") == [
        {"pipeline": "visits", "score_date": FIRST_NIGHT, "level": "L2", "cause": "L2 psi city", "column_name": "city",
         "value": 0.5, "threshold": 0.25, "ratio": 2.0, "fires": True, "message": "city has moved",
         "reference": "visits@1"}
    ]  # fmt: skip
    assert rows(reader, "select * from bi.performance") == [
        {"pipeline": "visits", "score_date": FIRST_NIGHT, "scope": "model", "metric": "mae", "value": 5.0, "low": 3.5,
         "high": 6.0, "rows": CUSTOMERS, "maturity": "mature", "is_provisional": False, "known_on": date(2024, 3, 12),
         "model_version": 1}
    ]  # fmt: skip


def test_an_open_reader_blocks_no_publication_and_sees_one_state(
    workspace: Workspace, pipeline: Pipeline, reader: Reader
) -> None:
    night = night_after(FIRST_NIGHT)
    reader.execute("begin isolation level repeatable read")
    before = night_of(reader)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_night, workspace, pipeline, night, "beside a reader").result(timeout=30)
    assert night_of(reader) == before
    reader.execute("commit")
    assert night_of(reader) == [{"score_date": night, "rows": CUSTOMERS}]


def test_a_publication_under_way_blocks_no_new_reader(workspace: Workspace, pipeline: Pipeline) -> None:
    night = night_after(FIRST_NIGHT, 2)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(run_night, workspace, pipeline, night, "beside readers")
        waits, seen = [], set()
        while not publishing.done():
            begun = time.monotonic()
            with connect(workspace) as newcomer:
                seen |= {(one["score_date"], one["rows"]) for one in night_of(newcomer)}
            waits.append(time.monotonic() - begun)
        publishing.result()
    assert {count for _, count in seen} == {CUSTOMERS}
    assert max(waits) < 2


def test_a_view_that_must_grow_gives_way_to_an_open_reader(
    workspace: Workspace, pipeline: Pipeline, reader: Reader
) -> None:
    night = night_after(FIRST_NIGHT, 3)
    wider = pipeline.model_copy(
        update={"publish": pipeline.publish.model_copy(update={"columns": ("city", "visits_3d")})}
    )
    reader.execute("begin")
    before = night_of(reader)
    with pytest.raises(DatabaseUnavailable, match="lock timeout"):
        run_night(workspace, wider, night, "beside a reader")
    assert night_of(reader) == before
    reader.execute("commit")
    run_night(workspace, wider, night, "after the reader")
    assert night_of(reader) == [{"score_date": night, "rows": CUSTOMERS}]
