"""A night's features are read from DuckDB in the order and the types that polars gives them, in batches of any size."""

from collections.abc import Iterator
from datetime import date
from itertools import zip_longest
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from nightscore.features import scratch
from nightscore.features.scratch import read_night
from nightscore.lake.content import content_hash

NIGHT, OTHER = date(2013, 3, 1), date(2013, 3, 2)
ROWS = 10_000
TEXTS = ["", "A", "Z", "a", "B7", "b", "é", "ß", "日本", "a\x00b", "~", "10", "9", " "]


@pytest.fixture
def connection() -> Iterator[Any]:
    with duckdb.connect() as opened:
        opened.execute("create schema features")
        yield opened


def rows_of(rows: int, with_nulls: bool) -> pl.DataFrame:
    random = np.random.default_rng(3)
    texts = pl.Series(TEXTS).gather(random.integers(0, len(TEXTS), rows))
    frame = pl.DataFrame({
        "night": pl.Series([NIGHT, OTHER]).gather(random.integers(0, 2, rows)),
        "i": pl.Series(random.integers(-(2**62), 2**62, rows)), "s": texts,
        "d": pl.Series(random.integers(-800_000, 800_000, rows).astype(np.int32)).cast(pl.Date),
        "f": pl.Series(random.normal(size=rows)), "n": pl.Series(random.integers(-3, 3, rows, np.int16)),
        "b": pl.Series(random.integers(0, 2, rows)).cast(pl.Boolean), "at": np.arange(rows),
    })  # fmt: skip
    holes = [pl.when(pl.col("at") % (7 + place) != 0).then(name).alias(name) for place, name in enumerate("isdfnb")]
    return frame.with_columns(holes) if with_nulls else frame


def read_in_batches(connection: Any, frame: pl.DataFrame, key: list[str], night: date = NIGHT) -> list[pl.DataFrame]:
    connection.register("given", frame.to_arrow())
    connection.execute("create or replace table features.t as select * from given")
    return list(read_night(connection, "t", frame.columns, "night", night, key))


@pytest.mark.parametrize("with_nulls", [False, True])
@pytest.mark.parametrize("first", ["i", "s", "d", "f", "n", "b"])
def test_a_night_comes_in_the_order_of_polars(connection: Any, first: str, with_nulls: bool) -> None:
    frame, key = rows_of(ROWS, with_nulls), list(dict.fromkeys([first, "s", "n", "at"]))
    read = pl.concat(read_in_batches(connection, frame, key))
    expected = frame.filter(pl.col("night") == NIGHT).sort(key, nulls_last=True)
    assert read.equals(expected)
    assert read.schema == expected.schema
    assert content_hash(read, key) == content_hash(expected, key)


def test_the_size_of_batches_changes_nothing(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = rows_of(ROWS, with_nulls=True)
    whole = read_in_batches(connection, frame, ["at"])
    monkeypatch.setattr(scratch, "ROW_GROUP_ROWS", 2048)
    parts = read_in_batches(connection, frame, ["at"])
    assert len(parts) > len(whole)
    assert pl.concat(parts).equals(pl.concat(whole))


def test_a_night_without_rows_is_one_empty_batch_of_the_same_types(connection: Any) -> None:
    frame = rows_of(ROWS, with_nulls=False)
    (empty,) = read_in_batches(connection, frame, ["at"], date(2013, 3, 9))
    assert empty.height == 0
    assert empty.schema == frame.schema


def test_two_nights_can_be_read_at_once(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "ROW_GROUP_ROWS", 2048)
    frame = rows_of(ROWS, with_nulls=False)
    read_in_batches(connection, frame, ["at"])
    pairs = list(zip_longest(*(read_night(connection, "t", ["at"], "night", one, ["at"]) for one in (NIGHT, OTHER))))
    for place, night in enumerate((NIGHT, OTHER)):
        read = pl.concat([pair[place] for pair in pairs if pair[place] is not None])
        assert read.equals(frame.filter(pl.col("night") == night).select("at"))
