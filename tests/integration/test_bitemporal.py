"""What readers saw, and when: restated, undone, staged and growing nights, read as a BI tool reads them."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications, move_publication, publications_of_night
from nightscore.lake.workspace import Workspace
from nightscore.publishing.bitemporal import as_of_statement, revision_columns, revisions_query
from nightscore.publishing.mart import MartColumn
from nightscore.publishing.publish import ensure_mart
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import NOW, Begun, copied_shop, run_night, visits_of_shop
from tests.integration.publication_history import (
    SECOND,
    SPARE,
    THIRD,
    UNREAD,
    at,
    deciding,
    hour,
    make_history,
    revisions,
)
from tests.integration.test_bi_reader import REFUSALS, Reader, connect, rows
from tests.shop import CUSTOMERS, FIRST_NIGHT

pytestmark = pytest.mark.timeout(180)

TICK = timedelta(microseconds=1)
RELATIONS = ("visits_as_first_published", "visits_revisions", "visits_as_of('infinity')", "visits_as_of(now())")


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with copied_shop(server, begun, tmp_path_factory.mktemp("history"), 14) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(workspace: Workspace) -> Pipeline:
    return visits_of_shop(workspace)


@pytest.fixture(scope="module")
def history(workspace: Workspace, pipeline: Pipeline) -> dict[str, int]:
    """Publications by name."""
    return make_history(workspace, pipeline)


@pytest.fixture
def reader(workspace: Workspace, history: dict[str, int]) -> Iterator[Reader]:
    with connect(workspace) as connection:
        yield connection


def seen(reader: Reader, relation: str) -> dict[date, tuple[int, int]]:
    """Publication and rows by night; every night has one publication."""
    query = f"select score_date, publication_id, count(*) as rows from {relation} group by 1, 2 order by 1"
    found = [(row["score_date"], row["publication_id"], row["rows"]) for row in rows(reader, query)]
    nights = {night: (publication, count) for night, publication, count in found}
    assert len(nights) == len(found)
    return nights  # type: ignore[return-value]


def whole(*publications: tuple[date, int]) -> dict[date, tuple[int, int]]:
    return {night: (publication, CUSTOMERS) for night, publication in publications}


def test_every_night_as_readers_saw_it_first(reader: Reader, history: dict[str, int]) -> None:
    assert seen(reader, "bi.visits_as_first_published") == whole(
        (FIRST_NIGHT, history["first"]), (SECOND, history["second"]), (THIRD, history["third"])
    )


def test_every_revision_that_readers_ever_saw_with_its_times(reader: Reader, history: dict[str, int]) -> None:
    columns = "score_date, publication_id, revision, published_from, published_until, replaced_by, actor, reason"
    query = (
        f"select {columns}, count(*) from bi.visits_revisions group by {columns} order by score_date, published_from"
    )
    first, restated, again = history["first"], history["restated"], history["again"]
    made, wrong = ("test", "nightly publication"), ("ada", "the restatement was wrong")
    assert [tuple(row.values()) for row in rows(reader, query)] == [
        (FIRST_NIGHT, first, 1, hour(0), hour(1), restated, *made, CUSTOMERS),
        (FIRST_NIGHT, restated, 2, hour(1), hour(2), again, *made, CUSTOMERS),
        (FIRST_NIGHT, again, 3, hour(2), hour(3), restated, *made, CUSTOMERS),
        (FIRST_NIGHT, restated, 2, hour(3), None, None, *wrong, CUSTOMERS),
        (SECOND, history["second"], 1, hour(5), None, None, *made, CUSTOMERS),
        (THIRD, history["third"], 2, hour(7), None, None, *made, CUSTOMERS),
    ]


@pytest.mark.parametrize(
    ("instant", "names"),
    [
        (NOW - TICK, []),
        (NOW, ["first"]),
        (hour(1) - TICK, ["first"]),
        (hour(1), ["restated"]),
        (hour(2), ["again"]),
        (hour(3) - TICK, ["again"]),
        (hour(3), ["restated"]),
        (hour(4), ["restated"]),
        (hour(5), ["restated", "second"]),
        (hour(6), ["restated", "second"]),
        (hour(7), ["restated", "second", "third"]),
        (hour(1000), ["restated", "second", "third"]),
    ],
)
def test_what_readers_saw_at_an_instant(
    reader: Reader, history: dict[str, int], instant: datetime, names: list[str]
) -> None:
    nights = (FIRST_NIGHT, SECOND, THIRD)
    expected = whole(*((night, history[name]) for night, name in zip(nights, names, strict=False)))
    assert seen(reader, f"bi.visits_as_of('{instant.isoformat()}')") == expected


def test_no_instant_is_no_row(reader: Reader) -> None:
    assert rows(reader, "select * from bi.visits_as_of(null)") == []


def test_now_is_the_current_view_to_the_last_value_and_column(reader: Reader) -> None:
    ordered = "order by score_date, customer_id"
    current = rows(reader, f"select * from bi.visits_current {ordered}")
    now = rows(reader, f"select * from bi.visits_as_of('infinity') {ordered}")
    assert [list(row.items()) for row in now] == [list(row.items()) for row in current]
    assert len(current) == 3 * CUSTOMERS


def test_an_earlier_revision_is_read_to_the_last_value(
    workspace: Workspace, reader: Reader, history: dict[str, int]
) -> None:
    where = f"where publication_id = {history['first']} order by customer_id"
    stored = "select publication_id, score_date, customer_id, score, decision, rank, model_version, scored_at"
    with workspace.engine.connect() as connection:
        expected = [dict(row) for row in connection.execute(sa.text(f"{stored} from mart.visits {where}")).mappings()]
    night = f"'{hour(1) - TICK}'"
    for relation in ("visits_as_first_published", "visits_revisions", f"visits_as_of({night})"):
        assert rows(reader, f"{stored} from bi.{relation} {where}") == expected
    assert sum(bool(row["decision"]) for row in expected) == 5


def test_a_column_that_came_later_is_empty_before_and_last_in_the_views(reader: Reader) -> None:
    for relation in ("visits_as_first_published", "visits_revisions", "visits_as_of('infinity')"):
        assert list(rows(reader, f"select * from bi.{relation} limit 1")[0])[-1] == "visits_3d"
        found = rows(reader, f"select distinct score_date, visits_3d from bi.{relation} order by 1")
        assert [tuple(row.values()) for row in found] == [(FIRST_NIGHT, None), (SECOND, None), (THIRD, 3)]


@pytest.mark.parametrize("relation", RELATIONS)
def test_nothing_staged_is_in_any_relation(reader: Reader, history: dict[str, int], relation: str) -> None:
    staged = [history[name] for name in ("staged", "third staged", "unread")]
    found = rows(reader, f"select 1 from bi.{relation} where publication_id = any(array{staged}) or city = 'STAGED'")
    assert found == []


@pytest.mark.parametrize("relation", [*RELATIONS, "visits_current", "visits_latest"])
def test_no_condition_of_a_reader_fails_on_staged_rows(reader: Reader, relation: str) -> None:
    tell_tale = "1 / (case when city = 'STAGED' then 0 else 1 end) = 0"
    assert rows(reader, f"select 1 from bi.{relation} where {tell_tale}") == []


@pytest.mark.parametrize("relation", [*RELATIONS, "visits_current", "visits_latest"])
def test_no_function_of_a_reader_is_shown_staged_rows(reader: Reader, relation: str) -> None:
    told: list[str] = []
    reader.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    reader.execute("set default_transaction_read_only = off")
    reader.execute(
        "create function pg_temp.peek(value text) returns boolean language plpgsql cost 0.0000001 "
        "as $$ begin raise notice '%', value; return false; end $$"
    )
    assert rows(reader, f"select 1 from bi.{relation} where pg_temp.peek(city)") == []
    assert set(told) == {"Berlin", "Köln"}


@pytest.mark.parametrize(
    "query",
    [
        "select * from mart.visits",
        "select * from nightscore.publication_event",
        "create or replace function bi.visits_as_of(at timestamptz) returns setof bi.visits_current "
        "language sql as 'select * from mart.visits'",
        "alter function bi.visits_as_of(timestamptz) security definer",
        "alter view bi.visits_revisions reset (security_barrier)",
        "insert into bi.visits_revisions (customer_id) values (1)",
        "drop function bi.visits_as_of(timestamptz)",
    ],
)
def test_what_is_behind_is_refused(reader: Reader, query: str) -> None:
    reader.execute("set default_transaction_read_only = off")
    with pytest.raises(REFUSALS):
        reader.execute(query.encode())


def test_a_search_path_of_the_readers_bends_no_name(reader: Reader) -> None:
    before = seen(reader, "bi.visits_as_of('infinity')")
    reader.execute("set default_transaction_read_only = off")
    reader.execute("create temp table visits_revisions (publication_id bigint)")
    reader.execute("create temp table visits_current (publication_id bigint)")
    reader.execute("set search_path = pg_temp, bi")
    assert seen(reader, "bi.visits_as_of('infinity')") == before


def test_the_function_runs_as_its_caller_and_is_the_readers_alone(workspace: Workspace, reader: Reader) -> None:
    query = """
        select proname, prosecdef, provolatile, proacl::text, obj_description(p.oid, 'pg_proc') as comment
        from pg_proc p join pg_namespace n on n.oid = pronamespace
        where nspname in ('bi', 'mart', 'nightscore') and has_function_privilege('bi_reader', p.oid, 'execute')
    """
    owner = sa.make_url(workspace.database.owner_url).username
    about = "What a customer will spend tomorrow. (what visits_current showed at an instant, every night)"
    assert rows(reader, query) == [
        {
            "proname": "visits_as_of", "prosecdef": False, "provolatile": "s", "comment": about,
            "proacl": f"{{{owner}=X/{owner},bi_reader=X/{owner}}}",
        }
    ]  # fmt: skip


def test_the_dictionary_describes_the_new_views_whole(reader: Reader) -> None:
    query = (
        "select view_name, count(*) as columns, bool_and(description <> '' and view_description <> '') as described "
        "from bi.data_dictionary where view_name like 'visits%' group by 1 order by 1"
    )
    assert [tuple(row.values()) for row in rows(reader, query)] == [
        ("visits_as_first_published", 14, True), ("visits_current", 14, True), ("visits_latest", 14, True),
        ("visits_revisions", 20, True),
    ]  # fmt: skip


@pytest.mark.parametrize("relation", ["visits_as_first_published", "visits_revisions", "visits_as_of('infinity')"])
@pytest.mark.parametrize(
    "condition",
    [
        "score_date = '{night}'",
        "score_date >= '{night}'::date and score_date < '{night}'::date + 1",
        "score_date = current_date - (current_date - '{night}'::date)",
    ],
)
def test_a_filter_on_the_date_touches_that_nights_partitions_alone(
    workspace: Workspace, reader: Reader, relation: str, condition: str
) -> None:
    query = f"select * from bi.{relation} where {condition.format(night=FIRST_NIGHT)}"
    partitions = {f"visits_p{one}" for one in revisions(workspace, FIRST_NIGHT)}
    assert set(scanned(reader, query)) == partitions
    assert len(scanned(reader, f"select * from bi.{relation}")) > len(partitions)


def test_a_date_that_another_query_finds_prunes_while_it_runs(workspace: Workspace, reader: Reader) -> None:
    query = "select * from bi.visits_revisions where score_date = (select min(score_date) from bi.partition_status)"
    loops = scanned(reader, query)
    assert {name for name, count in loops.items() if count} == {
        f"visits_p{one}" for one in revisions(workspace, FIRST_NIGHT)
    }


def scanned(reader: Reader, query: str) -> dict[str, int]:
    """How often each partition of the mart was read."""
    (row,) = rows(reader, f"explain (analyze, format json) {query}")
    found: dict[str, int] = {}

    def visit(node: dict[str, object]) -> None:
        name = str(node.get("Relation Name", ""))
        if name.startswith("visits_p"):
            found[name] = found.get(name, 0) + int(str(node["Actual Loops"]))
        for child in node.get("Plans", []):  # type: ignore[attr-defined]
            visit(child)

    plan = row["QUERY PLAN"]
    visit((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return found


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_clocks_said_one_revision_a_night_was_seen_at_any_instant(
    workspace: Workspace, history: dict[str, int], seed: int
) -> None:
    draw = random.Random(seed)
    with workspace.engine.connect() as connection:
        for _ in range(12):
            night = draw.choice([FIRST_NIGHT, SECOND, THIRD])
            made = draw.choice(publications_of_night(connection, "visits", night))
            move_publication(connection, made, "test", "any", hour(draw.randrange(20)))
        current = current_publications(connection, "visits", FIRST_NIGHT, UNREAD)
        pointers = {night: one.publication_id for night, one in current.items()}
        for number in range(20):
            query = sa.text("select score_date, publication_id from bi.visits_as_of(:at) group by 1, 2")
            found = [tuple(row) for row in connection.execute(query, {"at": hour(number)})]
            assert len(dict(found)) == len(found)
        assert dict(found) == pointers
        connection.rollback()


def test_a_night_that_was_withdrawn_is_read_until_then_and_stays_first_published(
    workspace: Workspace, history: dict[str, int]
) -> None:
    withdrawn = """
        insert into nightscore.publication_event (pipeline, score_date, replaced_id, actor, reason, moved_at)
        select 'visits', score_date, publication_id, 'ada', 'withdrawn', :at
        from nightscore.publication_current where score_date = :night
    """
    times = "select distinct publication_id, published_until, replaced_by from bi.visits_revisions"
    query = f"{times} where score_date = :night"
    with workspace.engine.connect() as connection:
        connection.execute(sa.text(withdrawn), {"night": SECOND, "at": hour(6)})

        def publications(relation: str) -> list[int]:
            found = sa.text(f"select distinct publication_id from bi.{relation} where score_date = :night")
            return list(connection.scalars(found, {"night": SECOND}))

        made = history["second"]
        assert [tuple(row) for row in connection.execute(sa.text(query), {"night": SECOND})] == [(made, hour(6), None)]
        assert publications("visits_as_first_published") == [made]
        assert publications(f"visits_as_of('{hour(6) - TICK}')") == [made]
        assert publications(f"visits_as_of('{hour(6)}')") == []
        connection.rollback()


def shapes(workspace: Workspace) -> list[tuple[object, ...]]:
    """Every relation and function of the schema `bi` with definition, comment and grants."""
    query = """
        select relname, pg_get_viewdef(c.oid), obj_description(c.oid, 'pg_class'), relacl::text, reloptions::text
        from pg_class c where relnamespace = 'bi'::regnamespace union all
        select proname, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'), proacl::text, ''
        from pg_proc p where pronamespace = 'bi'::regnamespace order by 1
    """
    with workspace.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def test_an_older_deployment_gets_them_and_a_repetition_changes_nothing(
    workspace: Workspace, pipeline: Pipeline, history: dict[str, int]
) -> None:
    before = shapes(workspace)
    version = workspace.lake.current("visits.predictions", SECOND, SECOND)[SECOND]
    older = "update nightscore.deployment_fact set value = 'older' where name = 'mart:visits'"
    dropped = "drop function bi.visits_as_of; drop view bi.visits_revisions, bi.visits_as_first_published"
    for statement in ("select 1", dropped):
        with workspace.engine.begin() as connection:
            for one in (*statement.split(";"), older):
                connection.execute(sa.text(one))
        ensure_mart(workspace, pipeline, version)
        assert [row[0] for row in shapes(workspace)] == [row[0] for row in before]
        if statement == "select 1":
            assert shapes(workspace) == before


def test_a_published_column_called_like_one_of_the_history_has_another_name_beside_it(
    workspace: Workspace, history: dict[str, int]
) -> None:
    current = [MartColumn("score_date", "date", ""), MartColumn("reason", "text", "why"), MartColumn("at", "text", "")]
    names = [column.name for column in revision_columns(current)]
    assert names[:4] == ["score_date", "row_reason", "at", "revision"]
    with workspace.engine.connect() as connection:
        for statement in (
            "create table mart.odd (publication_id bigint, score_date date, reason text, at text)",
            "create view bi.odd_current as select score_date, reason, at from mart.odd",
            f"create view bi.odd_revisions as {revisions_query('odd', current, names).as_string()}",
            as_of_statement("odd", current).as_string(),
        ):
            connection.exec_driver_sql(statement)
        found = connection.exec_driver_sql("select * from bi.odd_as_of(now())")
        assert list(found.keys()) == ["score_date", "reason", "at"]
        connection.rollback()


def test_an_open_reader_of_the_history_blocks_no_publication_and_sees_one_state(
    workspace: Workspace, pipeline: Pipeline, reader: Reader
) -> None:
    relations = ("bi.visits_as_first_published", "bi.visits_as_of('infinity')")
    run_night(at(workspace, 9), pipeline, SPARE, "before the reader")
    reader.execute("begin isolation level repeatable read")
    before = [seen(reader, one) for one in relations]
    kept = rows(reader, "select distinct publication_id from bi.visits_revisions order by 1")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_night, at(workspace, 10), deciding(pipeline, 7), SPARE, "beside a reader").result(timeout=30)
    assert [seen(reader, one) for one in relations] == before
    assert rows(reader, "select distinct publication_id from bi.visits_revisions order by 1") == kept
    reader.execute("commit")
    first, restated = revisions(workspace, SPARE)
    assert [seen(reader, one)[SPARE][0] for one in relations] == [first, restated]


def test_another_role_may_not_call_the_function(workspace: Workspace, history: dict[str, int]) -> None:
    with workspace.engine.connect() as connection:
        connection.exec_driver_sql("create role stranger")
        connection.exec_driver_sql("grant usage on schema bi to stranger")
        connection.exec_driver_sql("grant select on all tables in schema bi to stranger")
        connection.exec_driver_sql("set local role stranger")
        with pytest.raises(sa.exc.ProgrammingError) as refused:
            connection.exec_driver_sql("select * from bi.visits_as_of(now())")
        connection.rollback()
    assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)
