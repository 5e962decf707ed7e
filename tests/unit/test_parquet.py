"""One writer: whole frames and batches of any size give the same bytes."""

import hashlib
from pathlib import Path

import polars as pl
import pytest

from nightscore.errors import AccountingError
from nightscore.lake import parquet
from nightscore.lake.content import content_hash
from nightscore.lake.parquet import (
    Written,
    constants_of,
    read_batches,
    stated_content_hash,
    write_batches,
    write_parquet,
)

ROWS = 700
FRAME = pl.DataFrame(
    {
        "key": range(ROWS),
        "name": [None if at % 7 == 0 else f"level {at % 5}" for at in range(ROWS)],
        "value": [float("nan") if at % 11 == 0 else at / 3 for at in range(ROWS)],
    }
)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 128)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [1, 64, 127, 128, 129, 500, 10_000])
def test_batches_of_any_size_give_the_bytes_of_the_whole_frame(size: int, small_groups: None, tmp_path: Path) -> None:
    whole, streamed = tmp_path / "whole", tmp_path / "streamed"
    stated = write_parquet(FRAME, ["key"], whole)
    written = write_batches(FRAME.iter_slices(size), ["key"], streamed)
    assert (written, digest(streamed)) == (Written(stated, ROWS), digest(whole))
    assert stated_content_hash(streamed) == stated == content_hash(FRAME, ["key"])


def test_no_rows_in_several_batches_are_one_empty_table(tmp_path: Path) -> None:
    whole, streamed = tmp_path / "whole", tmp_path / "streamed"
    write_parquet(FRAME.head(0), ["key"], whole)
    write_batches([FRAME.head(0)] * 3, ["key"], streamed)
    assert digest(streamed) == digest(whole)
    assert [batch.schema for batch in read_batches(streamed, 10)] == [FRAME.schema]


@pytest.mark.parametrize("again", [FRAME.tail(1), FRAME.head(1)])
def test_rows_out_of_order_are_refused(again: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(AccountingError, match="key does not increase strictly"):
        write_batches([FRAME, again], ["key"], tmp_path / "file")


def test_batches_are_read_with_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    write_parquet(FRAME, ["key"], tmp_path / "file")
    found = pl.concat(read_batches(tmp_path / "file", 100, ["value", "key"]))
    assert found.equals(FRAME.select("value", "key"))


def test_constants_are_the_columns_of_one_value(small_groups: None, tmp_path: Path) -> None:
    frame = FRAME.with_columns(
        pl.lit("champion").alias("arm"), pl.lit(7).alias("version"), pl.lit(True).alias("decision"),
        pl.lit(0.5).alias("share"), pl.lit(None, pl.String).alias("nothing"),
        pl.when(pl.col("key") < 128).then(pl.lit("a")).otherwise(pl.lit("b")).alias("by_group"),
        pl.when(pl.col("key") != 5).then(pl.lit("a")).alias("but_one"),
    )  # fmt: skip
    write_parquet(frame, ["key"], tmp_path / "file")
    assert constants_of(tmp_path / "file") == {"arm": "champion", "version": 7, "decision": True}
    write_parquet(frame.head(0), ["key"], tmp_path / "empty")
    assert constants_of(tmp_path / "empty") == {}
