"""Counting a file in batches comes to what the masks say of the whole frame, wherever a batch ends."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nightscore.lake.parquet import write_parquet
from nightscore.quality import stored
from nightscore.quality.counts import Counts, count
from nightscore.quality.masks import Check, checks_of, offending
from nightscore.quality.repeats import is_among, repeated_rows
from nightscore.quality.rules import Rules, Varies
from nightscore.quality.stored import JudgedFile, Sample, StoredTable
from nightscore.spec.expectations import Expectation

SCHEMA: dict[str, pl.DataType] = {
    "i": pl.Int64(), "f": pl.Float64(), "s": pl.String(), "b": pl.Boolean(), "d": pl.Date(),
    "t": pl.Datetime("us", "UTC"),
}  # fmt: skip
EVERY_KIND: list[dict[str, Any]] = [
    {"type": "row_count", "min": 3},
    {"type": "not_null", "columns": ["i", "f", "s", "b", "d", "t"], "severity": "quarantine"},
    {"type": "between", "column": "i", "min": -2.5, "max": 2**53, "severity": "quarantine"},
    {"type": "between", "column": "f", "max": 1.5},
    {"type": "in_set", "column": "f", "values": [0, 1], "severity": "warn"},
    {"type": "in_set", "column": "s", "values": ["a", ""]},
    {"type": "in_set", "column": "b", "values": [1]},
    {"type": "matches", "column": "s", "pattern": r"\w$|\d"},
    *({"type": "unique", "columns": [name]} for name in "ifsbdt"),
    {"type": "unique", "columns": ["i", "f", "s"], "severity": "quarantine"},
    {"type": "unique", "columns": ["s", "i"]},
    {"type": "unique", "columns": ["b", "d", "t"]},
]
ROW = st.tuples(
    st.none() | st.sampled_from([-3, -2, 0, 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]),
    st.none() | st.sampled_from([0.0, -0.0, 1.0, 1.5, -1.0, math.inf, -math.inf, math.nan]),
    st.none() | st.sampled_from(["", "a", "b", "a\n", "٣", "é", "\n", "NaN", "None"]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from([date(1, 1, 1), date(2013, 1, 1), date(9999, 12, 31)]),
    st.none() | st.sampled_from([datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 7, 1, 5, tzinfo=UTC)]),
)


def rules_of(key: tuple[str, ...] = ("i", "s")) -> Rules:
    declared = tuple(TypeAdapter(Expectation).validate_python(one) for one in EVERY_KIND)
    varies = tuple(Varies(column=name) for name in SCHEMA)
    return Rules("rows", SCHEMA, key, (*declared, *varies), "allow", 0.5, filled=("f", "s"))


def whole_counts(frame: pl.DataFrame, checks: Sequence[Check], rules: Rules) -> Counts:
    return count([(frame, {check.name: offending(frame, check) for check in checks})], checks, rules)


def file_counts(path: Path, batch_rows: int, checks: tuple[Check, ...], rules: Rules) -> Counts:
    judged = JudgedFile.prepare(StoredTable.open(path, batch_rows), checks, rules)
    return count(judged.masked(checks), checks, rules)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(ROW, max_size=12), key=st.sampled_from([("i", "s"), ("s", "i"), ("f",), ("b", "d", "t")]),
    batch_rows=st.integers(1, 13),
)  # fmt: skip
def test_a_file_in_batches_counts_as_the_whole_frame(
    rows: list[tuple[Any, ...]], key: tuple[str, ...], batch_rows: int
) -> None:
    rules = rules_of(key)
    checks = checks_of(rules.expectations)
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_parquet(frame, key, path)
        assert file_counts(path, batch_rows, checks, rules) == whole_counts(frame, checks, rules)


def in_batches(frame: pl.DataFrame, rows: int) -> Any:
    """Reads `frame` as a file is read, with an empty batch before and after."""

    def read(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        chosen = frame.select(columns)
        yield chosen.clear()
        yield from chosen.iter_slices(rows)
        yield chosen.clear()

    return read


REPEATED: list[tuple[list[Any], list[Any]]] = [
    ([], []),
    ([1, 2, 3], []),
    ([1, 2, 2, 3], [2]),
    ([3, 1, 2, 1, 3, 3], [1, 3]),
    ([1, 1, None, None], [1]),
    ([0.0, -0.0, 1.0], [0.0]),
    ([1.0, math.nan, 2.0, math.nan], [math.nan]),
    (["a", "b", "", ""], [""]),
]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 9])
@pytest.mark.parametrize(("values", "expected"), REPEATED)
def test_repeated_keys_are_found_across_the_borders_of_batches(
    values: list[Any], expected: list[Any], batch_rows: int
) -> None:
    frame = pl.DataFrame({"x": values, "y": 1}, schema_overrides={} if values else {"x": pl.Int64})
    found = repeated_rows(in_batches(frame, batch_rows), ["x"])
    assert found["x"].sort().equals(pl.Series("x", expected, dtype=frame["x"].dtype))
    marked = [is_among(batch, found) for batch in in_batches(frame, batch_rows)(["y", "x"])]
    assert pl.concat(marked).to_list() == (frame["x"].is_duplicated() & frame["x"].is_not_null()).to_list()


def test_rows_that_share_a_hash_are_compared_before_they_count_as_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pl.DataFrame, "hash_rows", lambda frame: pl.repeat(7, frame.height, dtype=pl.UInt64, eager=True)
    )
    frame = pl.DataFrame({"x": ["c", "b", "a", "b"]})
    assert repeated_rows(in_batches(frame, 3), ["x"]).rows() == [("b",)]


def sample_of(frame: pl.DataFrame, batch_rows: int) -> pl.DataFrame:
    sample = Sample(frame.height)
    for _ in sample.take((batch, {"bad": batch["x"] % 999 == 5}) for batch in frame.iter_slices(batch_rows)):
        pass
    return sample.rows()


def test_a_sample_is_spread_over_the_table_with_the_first_offenders_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SAMPLE_ROWS", 1000)
    frame = pl.DataFrame({"x": range(100_000)})
    sample = sample_of(frame, 700)
    assert sample["x"].is_sorted()
    assert 1000 <= sample.height <= 1000 + 16 + 100
    assert sample.filter(pl.col("x") % 999 == 5).height >= 100
    assert sample["x"].max() > 98_000  # type: ignore[operator]
    assert sample.equals(sample_of(frame, 64_000))
