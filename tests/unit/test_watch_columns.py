"""Stored columns read some rows at a time: what is read never depends on batches, row groups or which columns."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nightscore.watch import scores
from nightscore.watch.columns import read_columns, share_columns
from nightscore.watch.scores import ScoreFigures, measure_scores

NAN, INF = float("nan"), float("inf")
ROWS = 100


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    random = np.random.default_rng(5)
    return pl.DataFrame({
        "key": np.arange(ROWS),
        "number": pl.Series(random.normal(size=ROWS)).set(pl.Series(random.random(ROWS) < 0.2), None),
        "text": [None if at % 7 == 0 else f"level {at % 5}" for at in range(ROWS)],
        "other": [f"{at}" for at in range(ROWS)],
        "flag": [None if at % 9 == 0 else at % 2 == 0 for at in range(ROWS)],
        "nothing": pl.Series([None] * ROWS, dtype=pl.String),
    })  # fmt: skip


def stored(frame: pl.DataFrame, path: Path, group: int = ROWS) -> Path:
    frame.write_parquet(path, row_group_size=group)
    return path


@pytest.mark.parametrize("group", [1, 13, 50, ROWS])
@pytest.mark.parametrize("rows", [1, 7, 50, 99, ROWS, 1000])
def test_batches_are_full_and_add_up_to_the_table(frame: pl.DataFrame, tmp_path: Path, rows: int, group: int) -> None:
    path = stored(frame, tmp_path / "table.parquet", group)
    for coded in ((), ("text", "nothing", "number"), frame.columns):
        batches = list(read_columns(path, frame.columns, rows, coded))
        categories = [name for name, kind in batches[0].schema.items() if kind == pl.Categorical]
        assert categories == [name for name, kind in frame.schema.items() if kind == pl.String and name in coded]
        assert [len(one) for one in batches[:-1]] == [rows] * (len(batches) - 1)
        assert 0 < len(batches[-1]) <= rows
        texts = pl.concat(batches).with_columns(pl.col(pl.Categorical).cast(pl.String))
        assert_frame_equal(texts, frame)


def test_only_the_columns_that_are_asked_for_and_there_are_read(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = stored(frame, tmp_path / "table.parquet", 13)
    (found,) = read_columns(path, ["text", "key", "absent"], ROWS)
    assert_frame_equal(found, frame.select("key", "text"))


def test_columns_read_apart_are_those_of_the_whole(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = stored(frame, tmp_path / "table.parquet", 13)
    shares = share_columns(dict(frame.schema), 2)
    assert shares == [["text", "other", "nothing"], ["key", "flag"], ["number"]]
    parts = [pl.concat(read_columns(path, share, 30)) for share in shares]
    assert_frame_equal(pl.concat(parts, how="horizontal").select(frame.columns), frame)


def test_a_table_without_rows_gives_one_frame_without_any(frame: pl.DataFrame, tmp_path: Path) -> None:
    (found,) = read_columns(stored(frame.clear(), tmp_path / "table.parquet"), ["text", "number"], 10, ["text"])
    assert_frame_equal(found, frame.select("number", "text").clear())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ScoreFigures(0, 0, 0, constant=False)),
        ([0.5], ScoreFigures(1, 0, 0, constant=True)),
        ([0.5, 0.5], ScoreFigures(2, 0, 0, constant=True)),
        ([0.0, -0.0], ScoreFigures(2, 0, 0, constant=True)),
        ([0.5, 0.6], ScoreFigures(2, 0, 0, constant=False)),
        ([None, None], ScoreFigures(2, 0, 2, constant=True)),
        ([NAN, NAN, NAN], ScoreFigures(3, 0, 3, constant=True)),
        ([None, NAN], ScoreFigures(2, 0, 2, constant=False)),
        ([0.5, None], ScoreFigures(2, 0, 1, constant=False)),
        ([INF, 0.5, -INF], ScoreFigures(3, 0, 2, constant=False)),
    ],
)
def test_scores_are_counted(
    values: list[float | None], expected: ScoreFigures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pl.DataFrame({"key": range(len(values)), "score": values}, schema={"key": pl.Int64, "score": pl.Float64})
    path = stored(table, tmp_path / "table.parquet")
    for rows in (1, 2, 1000):
        monkeypatch.setattr(scores, "BATCH_ROWS", rows)
        assert measure_scores(path, ["key"], "score") == expected


KEYS = st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "ü"]) | st.none())
TABLES = st.lists(st.tuples(KEYS, st.sampled_from([0.5, 0.25, NAN, None])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(1, 13), st.booleans())
def test_keys_that_stand_twice_are_counted_in_any_order_and_batches(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[tuple[int, str | None], float | None]], rows: int,
    ordered: bool,
) -> None:  # fmt: skip
    schema = {"day": pl.Int64, "text": pl.String, "score": pl.Float64}
    frame = pl.DataFrame([(*key, score) for key, score in table], schema=schema, orient="row")
    frame = frame.sort("day", "text", nulls_last=True) if ordered else frame
    path = stored(frame, tmp_path_factory.mktemp("keys") / "table.parquet")
    values = frame["score"]
    expected = ScoreFigures(
        frame.height, frame.height - frame.select("day", "text").n_unique(),
        int((~values.is_finite()).fill_null(value=True).sum()), values.n_unique() == 1,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "BATCH_ROWS", rows)
        assert measure_scores(path, ["day", "text"], "score") == expected
