"""Rows on the wire: golden bytes, an independent decoder for frames of every type, and what cannot be stored."""

import struct
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.errors import SourceMalformed
from nightscore.publishing.copy_binary import DAY_US, DAYS, MICROSECONDS, UNIX_DAYS, encode_rows
from tests.published_frames import TYPES, frames

INSTANT = pl.Datetime("us", "UTC")
GOLDEN = {
    "a number, a text and a flag": (
        pl.DataFrame({"id": [1, -2], "arm": ["ab", "é"], "yes": [True, False]}),
        "0003 00000008 0000000000000001 00000002 6162 00000001 01"
        "0003 00000008 fffffffffffffffe 00000002 c3a9 00000001 00",
    ),
    "texts of two lengths, an empty one, a null": (
        pl.DataFrame({"arm": ["a", "bcd", "", None]}),
        "0001 00000001 61 0001 00000003 626364 0001 00000000 0001 ffffffff",
    ),
    "nulls among numbers": (
        pl.DataFrame({"id": pl.Series([None, 7], dtype=pl.Int32), "score": [0.5, None]}),
        "0002 ffffffff 00000008 3fe0000000000000 0002 00000008 0000000000000007 ffffffff",
    ),
    "days and instants around the epoch": (
        pl.DataFrame(
            {"day": [date(2000, 1, 2), date(1999, 12, 31)],
             "at": [datetime(2000, 1, 1, microsecond=1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)]},
            schema_overrides={"at": INSTANT},
        ),
        "0002 00000004 00000001 00000008 0000000000000001"
        "0002 00000004 ffffffff 00000008 fffffffffff0bdc0",
    ),
    "texts that are all empty": (pl.DataFrame({"arm": ["", ""]}), "0001 00000000 0001 00000000"),
    "texts that are all null": (pl.DataFrame({"arm": pl.Series([None], dtype=pl.String)}), "0001 ffffffff"),
    "a column of nulls": (pl.DataFrame({"id": pl.Series([None, None], dtype=pl.Int64)}), "0001 ffffffff 0001 ffffffff"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_rows_are_the_bytes_of_the_format(name: str) -> None:
    frame, expected = GOLDEN[name]
    assert bytes(encode_rows(frame)).hex() == expected.replace(" ", "")


def decoded(content: bytes, schema: pl.Schema) -> list[tuple[bytes | None, ...]]:
    """The fields of every row, by a loop over the bytes."""
    rows, at = [], 0
    while at < len(content):
        (count,), at = struct.unpack_from(">h", content, at), at + 2
        assert count == len(schema)
        fields: list[bytes | None] = []
        for _ in range(count):
            (length,), at = struct.unpack_from(">i", content, at), at + 4
            fields.append(None if length < 0 else content[at : at + length])
            at += max(length, 0)
        rows.append(tuple(fields))
    return rows


def packed(value: Any, dtype: pl.DataType) -> bytes | None:
    """One value as its type's receive function wants it."""
    if value is None:
        return None
    if dtype == pl.String:
        return bytes(value.encode())
    if dtype == pl.Boolean:
        return struct.pack(">?", value)
    if dtype == pl.Date:
        return struct.pack(">i", value + UNIX_DAYS)
    if dtype == INSTANT:
        return struct.pack(">q", value + UNIX_DAYS * DAY_US)
    return struct.pack(">d" if dtype == pl.Float64 else ">q", value)


def expected_rows(frame: pl.DataFrame) -> list[tuple[bytes | None, ...]]:
    physical = frame.select(pl.all().to_physical())
    return [tuple(map(packed, row, frame.dtypes)) for row in physical.iter_rows()]


@given(frames())
def test_every_value_stands_in_its_row_and_field(frame: pl.DataFrame) -> None:
    assert decoded(bytes(encode_rows(frame)), frame.schema) == expected_rows(frame)


@given(frames(), st.integers(1, 7))
def test_batches_of_any_size_join_to_the_same_bytes(frame: pl.DataFrame, size: int) -> None:
    parts = [bytes(encode_rows(frame.slice(at, size))) for at in range(0, frame.height, size)]
    assert b"".join(parts) == bytes(encode_rows(frame))


@given(frames())
def test_chunks_and_order_of_rows_do_not_matter(frame: pl.DataFrame) -> None:
    chunked = pl.concat([frame.slice(at, 2) for at in range(0, max(frame.height, 1), 2)], rechunk=False)
    assert bytes(encode_rows(chunked)) == bytes(encode_rows(frame))
    backwards = decoded(bytes(encode_rows(frame.reverse())), frame.schema)
    assert backwards[::-1] == decoded(bytes(encode_rows(frame)), frame.schema)


def test_a_frame_without_rows_is_no_bytes() -> None:
    assert bytes(encode_rows(pl.DataFrame(schema=TYPES))) == b""


@pytest.mark.parametrize("texts", [["a", "b\0"], ["\0", None], ["ab", "\0b"]])
def test_a_nul_in_a_text_is_refused_with_the_columns_name(texts: list[str]) -> None:
    with pytest.raises(SourceMalformed, match=r"Publishing column arm failed(.|\n)*NUL"):
        encode_rows(pl.DataFrame({"id": [1, 2], "arm": texts}))


@pytest.mark.parametrize(
    ("dtype", "known", "shift", "bytes_"),
    [(pl.Date(), DAYS, UNIX_DAYS, 4), (INSTANT, MICROSECONDS, UNIX_DAYS * DAY_US, 8)],
)
def test_times_that_postgres_does_not_know_are_refused(
    dtype: pl.DataType, known: range, shift: int, bytes_: int
) -> None:
    edges = pl.Series("at", [known[0] - shift, min(known[-1] - shift, 2**63 - 1)])
    assert len(encode_rows(edges.cast(dtype).to_frame())) == 2 * (2 + 4 + bytes_)
    beyond = [known[0] - shift - 1] + [known[-1] - shift + 1] * (dtype == pl.Date)
    for one in beyond:
        with pytest.raises(SourceMalformed, match="range"):
            encode_rows(pl.Series("at", [None, one]).cast(dtype).to_frame())


def test_a_view_of_a_longer_column_is_encoded_alone() -> None:
    words = pl.Series("word", [f"a longer text number {number}" for number in range(100)])
    part = words.slice(7, 3)
    assert bytes(encode_rows(part.to_frame())) == bytes(encode_rows(pl.DataFrame({"word": part.to_list()})))


def test_not_a_number_keeps_its_bits() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000], np.uint64)
    content = bytes(encode_rows(pl.DataFrame({"score": bits.view(np.float64)})))
    assert [row[0] for row in decoded(content, pl.Schema({"score": pl.Float64}))] == [
        one.to_bytes(8, "big") for one in bits.tolist()
    ]
