"""Cells to declared types: what each type accepts, and that nothing else passes unnoticed."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from nightscore.errors import SourceMalformed
from nightscore.sources.columns import frame_schema, read_cells, unreadable_json
from nightscore.spec.sources import Column, FileSource

JANUARY = datetime(2013, 1, 1, 10, tzinfo=UTC)


def read(raw: list[Any] | pl.Series, **declared: Any) -> tuple[list[Any], list[str | None]]:
    cells = read_cells(pl.Series("raw", raw), Column(name="c", **declared))
    return cells.values.to_list(), cells.unreadable.to_list()


TEXTS = [
    ("integer", ["1", "-2", "+3", None], [1, -2, 3, None]),
    ("float", ["1", "-2.5", "1e3", ".5", "5."], [1.0, -2.5, 1000.0, 0.5, 5.0]),
    ("string", [" a ", "", None], [" a ", "", None]),
    ("boolean", ["true", "FALSE", "t", "0", "1"], [True, False, True, False, True]),
    ("date", ["2013-04-01"], [date(2013, 4, 1)]),
    ("timestamp", ["2013-01-01T10:00:00Z", "2013-01-01 12:00+02:00", "2013-01-01T10:00:00"], [JANUARY] * 3),
    ("timestamp", ["2013-01-01T04:30:00-05:30", "2013-01-01 10:00:00.000+00"], [JANUARY] * 2),
]
NOT_READ = [
    ("integer", ["3.0", "1e3", " 1", "1_000", "x", "", "99999999999999999999", "١"]),
    ("float", ["NaN", "inf", "-Infinity", "1e999", "1,5", "", ".", " 1"]),
    ("boolean", ["yes", "2", ""]),
    ("date", ["2013-02-30", "2013-1-1", "01/02/2013", "2013-01-01 00:00:00", ""]),
    ("timestamp", ["2013-01-01", "2013-01-01T25:00:00", "2013-02-30 10:00", "now", ""]),
]


@pytest.mark.parametrize(("type_", "texts", "expected"), TEXTS)
def test_a_text_of_the_declared_type_is_read(type_: str, texts: list[str], expected: list[Any]) -> None:
    assert read(texts, type=type_) == (expected, [None] * len(texts))


@pytest.mark.parametrize(("type_", "texts"), NOT_READ)
def test_a_text_of_another_type_becomes_null_and_keeps_its_text(type_: str, texts: list[str]) -> None:
    assert read(texts, type=type_) == ([None] * len(texts), texts)


NATIVE = [
    ("integer", pl.Series([3.0, 2.5, float("nan"), None]), [3, None, None, None], [None, "2.5", "nan", None]),
    ("integer", pl.Series([1, 2**63], dtype=pl.UInt64), [1, None], [None, str(2**63)]),
    ("integer", pl.Series([Decimal("3.0"), Decimal("3.5")]), [3, None], [None, "3.5"]),
    ("integer", pl.Series([True]), [None], ["True"]),
    ("integer", pl.Series([date(2013, 1, 1)]), [None], ["2013-01-01"]),
    ("float", pl.Series([1, 2], dtype=pl.Int8), [1.0, 2.0], [None, None]),
    ("float", pl.Series([1.5, float("nan"), float("inf")]), [1.5, None, None], [None, "nan", "inf"]),
    ("float", pl.Series([Decimal("1.50")]), [1.5], [None]),
    ("float", pl.Series([True]), [None], ["True"]),
    ("string", pl.Series([7]), ["7"], [None]),
    ("string", pl.Series(["a"], dtype=pl.Categorical), ["a"], [None]),
    ("string", pl.Series([b"a", b"\xff"]), ["a", None], [None, "b'\\xff'"]),
    ("string", pl.Series([[1, 2]]), [None], ["shape: (2,)\nSeries: '' [i64]\n[\n\t1\n\t2\n]"]),
    ("string", pl.Series([None, None]), [None, None], [None, None]),
    ("boolean", pl.Series([True, None]), [True, None], [None, None]),
    ("boolean", pl.Series([1, 2]), [True, None], [None, "2"]),
    ("date", pl.Series([date(2013, 1, 1)]), [date(2013, 1, 1)], [None]),
    (
        "date",
        pl.Series([datetime(2013, 1, 1), datetime(2013, 1, 1, 5)]),  # noqa: DTZ001  as a database without zones gives
        [date(2013, 1, 1), None],
        [None, "2013-01-01 05:00:00"],
    ),
    ("date", pl.Series([20130401]), [None], ["20130401"]),
    ("timestamp", pl.Series([JANUARY]), [JANUARY], [None]),
    ("timestamp", pl.Series([JANUARY], dtype=pl.Datetime("ns", "Asia/Tokyo")), [JANUARY], [None]),
]


@pytest.mark.parametrize(("type_", "raw", "values", "unreadable"), NATIVE)
def test_a_typed_column_is_read_by_the_same_rules(
    type_: str, raw: pl.Series, values: list[Any], unreadable: list[str | None]
) -> None:
    assert read(raw, type=type_) == (values, unreadable)


def test_a_declared_format_replaces_the_iso_form() -> None:
    assert read(["01/04/2013", "2013-04-01"], type="date", format="%d/%m/%Y") == (
        [date(2013, 4, 1), None],
        [None, "2013-04-01"],
    )
    assert read([20130401], type="date", format="%Y%m%d")[0] == [date(2013, 4, 1)]
    assert read(["01.01.2013 12:00 +0200"], type="timestamp", format="%d.%m.%Y %H:%M %z")[0] == [JANUARY]


def test_a_naive_timestamp_is_localised_and_the_hours_that_daylight_saving_repeats_or_skips_are_not_guessed() -> None:
    texts = ["2013-01-01T05:00:00", "2013-03-10T02:30:00", "2013-11-03T01:30:00"]
    expected = ([JANUARY, None, None], [None, *texts[1:]])
    zone = {"type": "timestamp", "timezone": "America/New_York"}
    assert read(texts, **zone) == expected
    assert read(texts, **zone, format="%Y-%m-%dT%H:%M:%S") == expected


def test_a_stated_offset_wins_over_the_declared_timezone() -> None:
    assert read(["2013-01-01T10:00:00Z"], type="timestamp", timezone="America/New_York")[0] == [JANUARY]


@pytest.mark.parametrize("declared", [{"format": "%H:%M"}, {"timezone": "Mars/Olympus"}])
def test_an_unusable_format_or_timezone_reads_nothing_unnoticed(declared: dict[str, str]) -> None:
    try:
        values, unreadable = read(["2013-01-01T10:00:00"], type="timestamp", **declared)
    except SourceMalformed:
        return
    assert (values, unreadable) == ([None], ["2013-01-01T10:00:00"])


def test_negative_zero_becomes_zero_so_that_rows_have_one_order() -> None:
    assert [str(value) for value in read(["-0.0"], type="float")[0]] == ["0.0"]
    for raw in (["-0.0", "1", "-0"], [-0.0, 1.0, -0.0]):
        assert [str(value) for value in read(raw, type="float")[0]] == ["0.0", "1.0", "0.0"]


def test_unreadable_cells_of_a_row_are_one_json_object() -> None:
    texts = [pl.Series("a", ['é"', None, None]), pl.Series("b", ["2", None, "3"])]
    rows = unreadable_json(texts).to_list()
    assert [row and json.loads(row) for row in rows] == [{"a": 'é"', "b": "2"}, None, {"b": "3"}]


def test_the_schema_is_the_declared_columns_in_order_and_unreadable() -> None:
    types = ["timestamp", "integer", "float", "string", "boolean", "date"]
    columns = tuple(Column(name=f"c_{type_}", type=type_) for type_ in types)  # type: ignore[arg-type]
    source = FileSource(type="file", path="x.csv", key=("c_integer",), columns=columns)
    assert list(frame_schema(source).items()) == [
        ("c_timestamp", pl.Datetime("us", "UTC")),
        ("c_integer", pl.Int64()),
        ("c_float", pl.Float64()),
        ("c_string", pl.String()),
        ("c_boolean", pl.Boolean()),
        ("c_date", pl.Date()),
        ("unreadable", pl.String()),
    ]
