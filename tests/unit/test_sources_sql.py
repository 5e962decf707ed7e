"""SQL sources against a real SQLite database: nights, types, chunks, and errors that keep secrets."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from nightscore.errors import DatabaseUnavailable, SettingsError, SourceMalformed
from nightscore.sources.extract import Extraction, extract
from nightscore.spec.sources import SqlSource

DAY = date(2024, 5, 1)
QUERY = "SELECT day, id, amount FROM orders WHERE day BETWEEN :start AND :end"
ROWS = [("2024-05-01", 2, 1.5), ("2024-05-01", 1, None), ("2024-05-02", 1, 3), ("2024-05-04", 7, "x")]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    url = f"sqlite:///{tmp_path}/orders.db"
    fill(url, ROWS)
    return {"ORDERS_URL": url}


def fill(url: str, rows: list[tuple[Any, ...]]) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS orders (day, id, amount)"))
        connection.execute(
            text("INSERT INTO orders VALUES (:day, :id, :amount)"),
            [dict(zip(("day", "id", "amount"), row, strict=True)) for row in rows],
        )
    engine.dispose()


def run(environ: dict[str, str], *nights: date, **changes: Any) -> Extraction:
    declared: dict[str, Any] = {
        "type": "sql", "url_env": "ORDERS_URL", "query": QUERY, "event_date": "day::date", "key": ["id"],
        "columns": [{"name": "id", "type": "integer"}, {"name": "amount", "type": "float"}],
    }  # fmt: skip
    return extract(SqlSource.model_validate(declared | changes), nights or [DAY], Path(), environ)


def test_a_range_of_nights_is_one_query_and_equals_single_nights(environ: dict[str, str]) -> None:
    nights = [DAY + timedelta(days=offset) for offset in range(4)]
    got = run(environ, *nights)
    assert [frame.rows() for frame in got.partitions.values()] == [
        [(1, None, None), (2, 1.5, None)],
        [(1, 3.0, None)],
        [],
        [(7, None, '{"amount": "x"}')],
    ]
    assert got.rows_read == 4
    assert len(got.origin) == 1
    assert [run(environ, night).partitions[night].rows() for night in nights] == [
        frame.rows() for frame in got.partitions.values()
    ]


def test_a_night_between_those_asked_for_is_left_out(environ: dict[str, str]) -> None:
    assert run(environ, DAY, DAY + timedelta(days=3)).rows_read == 3


def test_a_snapshot_query_needs_no_parameters(environ: dict[str, str]) -> None:
    got = run(environ, DAY, DAY + timedelta(days=9), query="SELECT id, amount FROM orders", cadence="snapshot")
    assert [frame.height for frame in got.partitions.values()] == [4, 4]


def test_rows_beyond_one_chunk_are_all_read(environ: dict[str, str]) -> None:
    many = [("2024-06-01", at, at if at < 60_000 else f"{at}.5") for at in range(120_000)]
    fill(environ["ORDERS_URL"], many)
    got = run(environ, date(2024, 6, 1)).partitions[date(2024, 6, 1)]
    assert got["id"].to_list() == list(range(120_000))
    assert got["amount"].sum() == sum(range(120_000)) + 30_000
    assert got["unreadable"].count() == 0


def test_a_row_without_event_date_in_a_later_chunk_is_located(environ: dict[str, str]) -> None:
    fill(environ["ORDERS_URL"], [("2024-06-01", at, 1) for at in range(50_000)] + [("never", 1, 1)])
    with pytest.raises(SourceMalformed) as error:
        run(environ, query="SELECT * FROM orders")
    assert error.value.found == ("1 rows have no readable event date; data rows 50005",)


def test_an_empty_answer_still_shows_missing_columns(environ: dict[str, str]) -> None:
    with pytest.raises(SourceMalformed) as error:
        run(environ, query="SELECT day, id AS ids FROM orders WHERE false")
    assert error.value.found[:2] == ("column id is missing; renamed to ids?", "column amount is missing")
    assert run(environ, date(2020, 1, 1)).partitions[date(2020, 1, 1)].height == 0


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT * FROM nowhere", "OperationalError: no such table: nowhere"),
        ("SELEC 1", 'OperationalError: near "SELEC": syntax error'),
        ("SELECT :other", "InvalidRequestError: A value is required for bind parameter 'other'"),
        ("SELECT 1 AS a, 2 AS a", "it gives a twice"),
        ("DELETE FROM orders", "it gives no rows: not a SELECT"),
    ],
)
def test_a_wrong_query_is_refused_with_the_reason(query: str, reason: str, environ: dict[str, str]) -> None:
    with pytest.raises(SourceMalformed) as error:
        run(environ, query=query)
    assert error.value.found == (reason,)
    assert run(environ).rows_read == 2


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="ORDERS_URL is not set"):
        run({})


@pytest.mark.parametrize("url", ["hunter2", "nosuch://me:hunter2@host/db", "postgresql+nosuch://me:hunter2@host/db",
                                 "postgresql://me:hunter2@host:port/db"])  # fmt: skip
def test_an_unusable_url_is_a_setting_to_repair_and_stays_secret(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        run({"ORDERS_URL": url})
    assert "hunter2" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql://me:hunter2@127.0.0.1:1/db?sslpassword=hunter2"]
)
def test_a_database_that_does_not_answer_is_transient_and_its_password_stays_secret(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as error:
        run({"ORDERS_URL": url})
    assert "hunter2" not in str(error.value)


def test_the_origin_is_the_query_without_password(environ: dict[str, str]) -> None:
    assert run(environ).origin == (f"{environ['ORDERS_URL']} query={QUERY} start=2024-05-01 end=2024-05-01",)
