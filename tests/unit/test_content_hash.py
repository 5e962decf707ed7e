"""The content hash: golden digests that no upgrade may move, what must not change it, and what must."""

import hashlib
import json
import random
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.errors import FeatureBuildFailed
from nightscore.lake.content import BLOCK_ROWS, SPAN_ROWS, content_hash, content_hash_of_file
from nightscore.lake.parquet import write_parquet

NAN, INF = float("nan"), float("inf")
MOMENT = datetime.fromisoformat("2013-02-01T23:59:59.999999")
EARLIEST, BEFORE_1970 = datetime.fromisoformat("0001-01-01"), datetime.fromisoformat("1969-12-31T23:00")


def column(values: list[Any], dtype: Any) -> pl.DataFrame:
    return pl.DataFrame({"k": range(len(values)), "x": pl.Series(values, dtype=dtype)})


FRAMES: dict[str, tuple[pl.DataFrame, list[str]]] = {
    "no columns": (pl.DataFrame(), []),
    "no rows": (column([], pl.Int64), ["k"]),
    "null": (column([None, None], pl.Null), ["k"]),
    "bool": (column([True, False, None], pl.Boolean), ["k"]),
    "int8": (column([-128, 127, None], pl.Int8), ["k"]),
    "int16": (column([-32768, 32767, None], pl.Int16), ["k"]),
    "int32": (column([-(2**31), 2**31 - 1, None], pl.Int32), ["k"]),
    "int64": (column([-(2**63), 2**63 - 1, None], pl.Int64), ["k"]),
    "uint8": (column([0, 255, None], pl.UInt8), ["k"]),
    "uint16": (column([0, 65535, None], pl.UInt16), ["k"]),
    "uint32": (column([0, 2**32 - 1, None], pl.UInt32), ["k"]),
    "uint64": (column([0, 2**64 - 1, None], pl.UInt64), ["k"]),
    "float16": (column([0.5, -0.0, NAN, None], pl.Float16), ["k"]),
    "float32": (column([0.1, -0.0, NAN, -INF, None], pl.Float32), ["k"]),
    "float64": (column([0.1, -0.0, NAN, INF, 5e-324, None], pl.Float64), ["k"]),
    "string": (column(["", "é", "日本", "a much longer string than fits a view", None], pl.String), ["k"]),
    "enum": (column(["a", "b", None], pl.Enum(["b", "a"])), ["k"]),
    "binary": (column([b"", b"\x00\xff", None], pl.Binary), ["k"]),
    "date": (column([date(1, 1, 1), date(9999, 12, 31), None], pl.Date), ["k"]),
    "time": (column([time(0), time(23, 59, 59, 999_999), None], pl.Time), ["k"]),
    "datetime": (column([MOMENT, EARLIEST, None], pl.Datetime("us")), ["k"]),
    "datetime ms": (column([BEFORE_1970, None], pl.Datetime("ms")), ["k"]),
    "datetime ns": (column([1, -1, 1_000, None], pl.Datetime("ns")), ["k"]),
    "datetime utc": (column([MOMENT.replace(tzinfo=UTC), None], pl.Datetime("us", "UTC")), ["k"]),
    "duration": (column([timedelta(days=-1), timedelta(microseconds=1), None], pl.Duration("us")), ["k"]),
    "decimal": (column([Decimal("-1.25"), Decimal("12345678901234567890.00"), None], pl.Decimal(30, 2)), ["k"]),
    "two keys": (pl.DataFrame({"é": [2, 1, 1], "b": ["x", None, "y"], "a": [NAN, 0.0, None]}), ["é", "b"]),
    "repeated key": (pl.DataFrame({"k": [1, 1, 1, None], "b": [2, 2, None, 0], "a": ["", None, "", ""]}), ["k"]),
    "several blocks": (column(["a", None, "bc", *[""] * BLOCK_ROWS], pl.String), ["k"]),
}  # fmt: skip
GOLDEN = {
    "no columns": "6a6a013a458ccb74113fbd7f19741221cc07e77ea0c37fc557a92467a406be72",
    "no rows": "65bd4cfea5a34db4f28818c0509ee9cbd8eaa0a083b3a12c65079c78903d4b7b",
    "null": "22a8dea3f98b2ff990911eff2ac7b202da71d7a43cb3b89e18f7617a1f6b8f82",
    "bool": "55fb23387a421f6cb6a06305a1eab0f82b858b08539543452072b4a796351b57",
    "int8": "b71bbb4319abdd2cddb984a53e18860861581d2a126e4cfb0497ec7c503bdd1c",
    "int16": "e6d54bfcc7ba787e469c5d769a5bc94a5a560cbe5a989f453ac2027a1662b3ac",
    "int32": "f9ba6a46e385f2064f9962ba7b0f7ca545fe89f25e093a09146939fed6722900",
    "int64": "659161850bff58c5ba0063733f6a6bb570cc5a81894a936d7477bc78cc71fbaa",
    "uint8": "9d7cc93eea6bace0c5a04f0d4767074c552cca6a0d85f10e2401479ce5f9f807",
    "uint16": "c7895d802eae2393d75de62f0b696244ecef86abbebe26abf0e775af8e820ecf",
    "uint32": "8d1211a74b4bb5ff7f5fceef28900b111e69ad466f00b8c53639b1429e2abe99",
    "uint64": "ba8e94fac0c8a80283db44bcfafa13b2bf526c64893921c927ebaa304a245850",
    "float16": "b8961d61f4a6025308b7bf54e655d3aaec284ebd73d9cd0b117211b508c48fda",
    "float32": "cb5511189b298448719b75fa1e78c7c9b3bed69e7684930a1d2945b8888115df",
    "float64": "438a2c217b29ab9acb9be70cd69549b44bd0c379a002d64a3a4c56ca4ab07f96",
    "string": "b0f6e649802e2e26330cbb957a09fe784852303738c355bfab523f85e95c816b",
    "enum": "00bddd22ffbc0f9572f991f198cab7cc51912bcf1cc8c28949366b95eeeeb818",
    "binary": "802737d2ae9fee0cb31d4cbdc96763a2156266345296cbcaf0e7bc21ff2ff0fe",
    "date": "d10339a9cdf2dd8d9b65d026a1f3b6fff47c52069d5de24be9338ea06288213e",
    "time": "5b7d13f5a44c843010d2aa362d359176844efd0280d357b37c1b2bb59503556c",
    "datetime": "137ded0394d61b2d0312a96077411f16bd09be1c2046597732136bd36f44cf5e",
    "datetime ms": "0863eda453d82518cf0ae9cf1ec0fc7e67065fc9088a5399dcd8b9bde3724bd5",
    "datetime ns": "da1456901b0d896c81a2f14c2f82286cd3c39e7cbd03ec387da152e1c8a56930",
    "datetime utc": "3498070163af76407f9f32d7daf8d8ccbc428c6fbcdde72e7f919344ba43c7b4",
    "duration": "3ccd07b89df77cb6ceb0aa1d264ae478e9ea9db663a46fabf071e4df0621c61b",
    "decimal": "4b37e7b53d49174ea8b338353e10d74377cd8d34b25495a83ff30c1eae75f4c7",
    "two keys": "8c4855bd2d08b176e5bc71f883fe7a25800bef8d33fad8cf9a7c0ca0b1834648",
    "repeated key": "c148121febc0fa28293d1d89168a11d102757d9ffff2ecc54b8e8c2c8378a7df",
    "several blocks": "5978cd4d175b5ddcf948917cd379fc25cda6addf56a8f2b8ebf920ce1bc3e4be",
}
BASE = pl.DataFrame({
    "id": [3, 1, 2, 4],
    "x": [1.5, NAN, None, -0.0],
    "name": ["ab", "", None, "c"],
    "kind": pl.Series(["a", "b", "a", None], dtype=pl.Categorical),
    "at": [MOMENT, None, BEFORE_1970, BEFORE_1970],
    "ok": [True, False, None, True],
    "day": [date(2013, 2, 1), None, date(1960, 1, 1), date(2013, 2, 1)],
    "price": pl.Series(["1.10", None, "-2.00", "0.00"]).cast(pl.Decimal(10, 2)),
    "none": [None, None, None, None],
})  # fmt: skip
STATED = content_hash(BASE, ["id"])


def shuffled(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    return frame.sample(fraction=1.0, shuffle=True, seed=seed)


def chunked(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame[at : at + 1] for at in range(frame.height)], rechunk=False)


def sliced(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame, frame])[frame.height : 2 * frame.height]


def with_dirty_nulls(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = pa.array(np.array([1.5, NAN, 99.0, -0.0]), mask=np.array([0, 0, 1, 0], bool))
    names = pa.LargeStringArray.from_buffers(
        4, pa.py_buffer(np.array([0, 2, 2, 9, 10], "<i8")), pa.py_buffer(b"abrubbishc"), pa.py_buffer(b"\x0b"), 1
    )
    return frame.with_columns(x=pl.Series(values=pl.from_arrow(numbers)), name=pl.Series(values=pl.from_arrow(names)))


def digest_by_hand(rows: list[tuple[int, float | None, str]]) -> str:
    """The documented format once more, for ordered rows of one block, in the plainest Python."""
    ids = [struct.pack("<q", row[0]) for row in rows]
    values = [struct.pack("<d", row[1] or 0.0) for row in rows]
    bits = sum(1 << at for at, row in enumerate(rows) if row[1] is not None)
    texts = [row[2].encode() for row in rows]
    lengths = [struct.pack("<q", len(text)) for text in texts]
    parts = {
        ("id", "int64"): [b"", b"".join(ids)],
        ("name", "string"): [b"", b"".join(lengths), b"".join(texts)],
        ("x", "float64"): [bytes([bits]), b"".join(values)],
    }
    columns = [
        [*named, hashlib.sha256(b"".join(struct.pack("<Q", len(part)) + part for part in buffers)).hexdigest()]
        for named, buffers in parts.items()
    ]
    header = {"columns": columns, "key": ["id"], "rows": len(rows), "version": 1}
    return hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize("name", FRAMES)
def test_golden_digests_outlive_every_upgrade(name: str) -> None:
    assert content_hash(*FRAMES[name]) == GOLDEN[name]


def test_golden_digests_differ_from_each_other() -> None:
    assert len(set(GOLDEN.values())) == len(FRAMES)


def test_the_format_can_be_written_by_hand() -> None:
    rows: list[tuple[int, float | None, str]] = [(-1, 0.1, "é"), (2, None, ""), (7, -INF, "日本")]
    frame = pl.DataFrame(rows[::-1], schema=["id", "x", "name"], orient="row")
    assert content_hash(frame, ["id"]) == digest_by_hand(rows)


@pytest.mark.parametrize(
    "same",
    [
        *(lambda frame, seed=seed: shuffled(frame, seed) for seed in range(5)),
        lambda frame: frame.select(reversed(frame.columns)),
        lambda frame: frame.sort("id").set_sorted("x"),
        chunked,
        sliced,
        with_dirty_nulls,
        lambda frame: frame.with_columns(pl.col("kind").cast(pl.String)),
        lambda frame: frame.with_columns(pl.col("kind").cast(pl.Enum(["b", "unused", "a"]))),
        lambda frame: frame.with_columns(pl.col("x").replace(NAN, -NAN) + 0.0),
        lambda frame: frame.with_columns(pl.col("x").replace(NAN, struct.unpack("<d", b"\1\0\0\0\0\0\xf8\xff")[0])),
        lambda frame: frame.with_columns(pl.col("at").cast(pl.Datetime("ns"))),
        lambda frame: pl.from_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest())),
    ],
)
def test_the_same_rows_have_the_same_hash(same: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    assert content_hash(same(BASE), ["id"]) == STATED


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("temporal", [pl.Datetime("us"), pl.Datetime("us", "UTC"), pl.Duration("us")])
def test_the_unit_of_a_time_does_not_matter(temporal: Any, unit: Any) -> None:
    frame = column([-86_400_000_000, None, 1_000, 0], pl.Int64).with_columns(pl.col("x").cast(temporal))
    other = frame.with_columns(pl.col("x").dt.cast_time_unit(unit))
    assert content_hash(other, ["x"]) == content_hash(frame, ["x"])


@pytest.mark.parametrize(
    "change",
    [
        pl.col("x").fill_nan(None),
        pl.col("x").fill_null(NAN),
        pl.col("x").fill_null(0.0),
        pl.col("x").replace(1.5, np.nextafter(1.5, 2)),
        pl.col("x").cast(pl.Float32),
        pl.col("name").replace("", None),
        pl.col("name").fill_null(""),
        pl.col("name").cast(pl.Binary),
        pl.col("id").cast(pl.Int8),
        pl.col("id").cast(pl.UInt64),
        pl.col("ok").cast(pl.UInt8),
        pl.col("day").cast(pl.Int32),
        pl.col("day").fill_null(date(1970, 1, 1)),
        pl.col("at").dt.replace_time_zone("UTC"),
        pl.col("at").dt.truncate("1s"),
        pl.col("at").cast(pl.Datetime("ns")) + pl.duration(nanoseconds=1),
        pl.col("price").cast(pl.Decimal(10, 3)),
        pl.col("price").cast(pl.Decimal(11, 2)),
        pl.col("price").fill_null(0).cast(pl.Decimal(10, 2)),
        pl.col("none").cast(pl.Int64),
        pl.lit(1).alias("more"),
    ],
    ids=str,
)
def test_another_value_or_type_has_another_hash(change: pl.Expr) -> None:
    assert content_hash(BASE.with_columns(change), ["id"]) != STATED


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda frame: frame, ["name"]),
        (lambda frame: frame, ["id", "name"]),
        (lambda frame: frame.rename({"id": "name", "name": "id"}), ["id", "name"]),
        (lambda frame: frame, []),
        (lambda frame: frame.rename({"x": "y"}), ["id"]),
        (lambda frame: frame.rename({"x": "name", "name": "x"}), ["id"]),
        (lambda frame: frame.drop("none"), ["id"]),
        (lambda frame: frame[1:], ["id"]),
        (lambda frame: pl.concat([frame, frame[:1]]), ["id"]),
        (lambda frame: frame.clear(), ["id"]),
        (lambda frame: frame.with_columns(pl.col("ok").reverse()), ["id"]),
    ],
)
def test_another_bag_of_rows_or_key_has_another_hash(
    change: Callable[[pl.DataFrame], pl.DataFrame], key: list[str]
) -> None:
    assert content_hash(change(BASE), key) != STATED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (column(["ab", "c"], pl.String), column(["a", "bc"], pl.String)),
        (column(["", None], pl.String), column([None, ""], pl.String)),
        (column([0, None], pl.Int8), column([None, 0], pl.Int8)),
        (column([None], pl.Datetime("us", "UTC")), column([None], pl.Datetime("us", "Europe/Paris"))),
        (column([], pl.Int8), column([], pl.Int16)),
        (pl.DataFrame({"k": [0], "y": [1], "x": [1]}), pl.DataFrame({"k": [0], "x": [1]})),
    ],
)
def test_tables_that_only_look_alike_differ(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert content_hash(one, ["k"]) != content_hash(other, ["k"])


ROW = st.tuples(
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from([NAN, 0.0, -0.0, 1.0, INF]),
    st.none() | st.sampled_from(["", "a", "ab", "b"]),
    st.none() | st.booleans(),
)
SCHEMA = {"k": pl.Int64, "x": pl.Float64, "s": pl.String, "b": pl.Boolean}


def make(rows: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def bag(rows: list[Any]) -> list[str]:
    return sorted(str((k, None if x is None else x + 0.0, s, b)) for k, x, s, b in rows)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=12), st.randoms(use_true_random=False), st.permutations(list(SCHEMA)))
def test_order_of_rows_and_columns_and_chunks_never_matter(
    rows: list[Any], shuffle: random.Random, names: list[str]
) -> None:
    frame = make(rows)
    shuffle.shuffle(rows)
    other = make(rows).select(names)
    for key in (["k"], ["k", "x"], ["s"], []):
        assert content_hash(other, key) == content_hash(frame, key)
        assert content_hash(pl.concat([other[:5], other[5:]], rechunk=False), key) == content_hash(frame, key)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=4), st.lists(ROW, max_size=4))
def test_two_tables_are_equal_exactly_when_their_bags_of_rows_are(one: list[Any], other: list[Any]) -> None:
    equal = content_hash(make(one), ["k"]) == content_hash(make(other), ["k"])
    assert equal == (bag(one) == bag(other))


def make_long() -> pl.DataFrame:
    """Rows beyond a span and not a whole number of blocks, in order of `id`."""
    at = pl.arange(SPAN_ROWS + BLOCK_ROWS + 17, eager=True)
    return pl.DataFrame({
        "id": at * 3,
        "x": (at % 7).cast(pl.Float64) / 3,
        "kind": pl.Series(["a", "b", None]).gather(at % 3).cast(pl.Categorical),
        "at": at.cast(pl.Datetime("us", "UTC")),
        "late": pl.Series([None, True]).gather((at > 2 * BLOCK_ROWS).cast(pl.Int64)),
    })  # fmt: skip


LONG = make_long()
LONG_DIGEST = content_hash(LONG, ["id"])


@pytest.mark.parametrize(
    "same",
    [
        lambda frame: shuffled(frame, 1),
        lambda frame: pl.concat([frame[at : at + 9_973] for at in range(0, frame.height, 9_973)], rechunk=False),
    ],
)
def test_blocks_do_not_follow_chunks(same: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    assert content_hash(same(LONG), ["id"]) == LONG_DIGEST


def by_pyarrow(**options: Any) -> Callable[[pl.DataFrame, Path], None]:
    return lambda frame, path: pq.write_table(
        frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path, write_page_checksum=True, **options
    )


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "the lake": lambda frame, path: write_parquet(frame, ["id"], path),
    "the lake, shuffled": lambda frame, path: write_parquet(shuffled(frame, 3), ["id"], path),
    "polars": lambda frame, path: frame.write_parquet(path, row_group_size=50_000, compression="lz4"),
    "pyarrow": by_pyarrow(row_group_size=40_001, compression="snappy"),
    "pyarrow, plain": by_pyarrow(use_dictionary=False, compression="none", data_page_version="2.0"),
    "pyarrow, shuffled": lambda frame, path: by_pyarrow(row_group_size=99_999)(shuffled(frame, 4), path),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(("frame", "digest"), [(BASE, STATED), (LONG, LONG_DIGEST)], ids=["short", "long"])
def test_a_file_has_the_hash_of_its_frame_whoever_wrote_it(
    writer: str, frame: pl.DataFrame, digest: str, tmp_path: Path
) -> None:
    WRITERS[writer](frame, tmp_path / "table.parquet")
    assert content_hash_of_file(tmp_path / "table.parquet", ["id"]) == digest


@pytest.mark.parametrize("name", [name for name, (frame, _) in FRAMES.items() if frame.width])
def test_the_lakes_files_keep_the_golden_digests(name: str, tmp_path: Path) -> None:
    frame, key = FRAMES[name]
    write_parquet(frame, key, tmp_path / "table.parquet")
    assert content_hash_of_file(tmp_path / "table.parquet", key) == GOLDEN[name]


def test_a_file_whose_key_repeats_across_batches_is_sorted(tmp_path: Path) -> None:
    half = pl.select(id=pl.arange(SPAN_ROWS)).with_columns(kind=pl.lit("a").cast(pl.Categorical))
    twice = pl.concat([half, half.with_columns(pl.col("id") + SPAN_ROWS - 1)])
    by_pyarrow(row_group_size=SPAN_ROWS)(twice, tmp_path / "table.parquet")
    assert content_hash_of_file(tmp_path / "table.parquet", ["id"]) == content_hash(shuffled(twice, 5), ["id"])


def test_a_damaged_page_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    by_pyarrow(compression="none", use_dictionary=False, write_statistics=False)(
        pl.DataFrame({"id": [1, 2, 3_141_592_653]}), path
    )
    value = struct.pack("<q", 3_141_592_653)
    path.write_bytes(path.read_bytes().replace(value, struct.pack("<q", 3_141_592_654), 1))
    with pytest.raises(OSError, match="CRC"):
        content_hash_of_file(path, ["id"])


def test_every_column_without_a_canonical_form_and_every_missing_key_is_named() -> None:
    frame = pl.DataFrame({
        "id": [1],
        "many": [[1]],
        "pair": [{"a": 1}],
        "thing": pl.Series([object()], dtype=pl.Object),
    })  # fmt: skip
    with pytest.raises(FeatureBuildFailed) as failure:
        content_hash(frame, ["id", "id", "night"])
    assert failure.value.found == (
        "column many is List(Int64), which has no canonical form",
        "column pair is Struct({'a': Int64}), which has no canonical form",
        "column thing is Object, which has no canonical form",
        "key column night is missing",
        "key column id is named twice",
    )


def test_a_file_with_a_nested_column_is_refused_too(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1], "many": [[1]]}).write_parquet(tmp_path / "table.parquet")
    with pytest.raises(FeatureBuildFailed, match=r"column many is List\(Int64\)"):
        content_hash_of_file(tmp_path / "table.parquet", ["id"])
