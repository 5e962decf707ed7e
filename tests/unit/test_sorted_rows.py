"""Storing rows that come sorted: the object is that of one frame, with repeated, absent or disordered keys too."""

import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from nightscore.clock import SystemClock
from nightscore.lake.objects import ObjectStore
from nightscore.lake.parquet import ROW_GROUP_ROWS
from nightscore.lake.partitions import Lake
from nightscore.lake.sorted import put_sorted

KEY = ("place", "id")
SCHEMA: dict[str, Any] = {
    "id": pl.Int64(), "place": pl.String(), "zone": pl.Enum(["z", "a"]), "amount": pl.Float64(), "day": pl.Date()
}  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(ObjectStore(tmp_path), create_engine("sqlite://"), SystemClock())


def in_batches(frame: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    return iter(list(frame.iter_slices(rows)) or [frame])


ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 1, 2]), st.sampled_from([None, "a", "b"]), st.sampled_from([None, "z", "a"]),
        st.sampled_from([None, 0.0, -0.0, float("nan"), 1.5]), st.just(date(2024, 5, 1)),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, batch_rows=st.integers(1, 31), sort=st.booleans())
def test_whatever_the_batches_it_is_the_object_of_the_frame(
    lake: Lake, rows: list[Any], batch_rows: int, sort: bool
) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    frame = frame.sort(KEY, nulls_last=True) if sort else frame
    assert put_sorted(lake, lambda: in_batches(frame, batch_rows), KEY) == lake.put(frame, KEY)


def test_many_rows_with_a_few_repeated_and_absent_keys_are_never_whole(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, rows = random.Random(1), 2 * ROW_GROUP_ROWS + 77
    ids = sorted(draw.randrange(rows * 20) for _ in range(rows - 3))
    frame = pl.DataFrame({"id": [*ids, None, None, None], "amount": [draw.random() for _ in range(rows)]})
    expected = lake.put(frame, ["id"])
    monkeypatch.delattr(Lake, "put")
    assert frame["id"].n_unique() < rows - 100
    for batch_rows in (1_000, ROW_GROUP_ROWS):
        assert put_sorted(lake, lambda size=batch_rows: in_batches(frame, size), ["id"]) == expected
    assert not list((lake.store.root / "tmp").iterdir())
