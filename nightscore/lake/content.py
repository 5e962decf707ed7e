"""The content hash of a table: equal for equal rows, whatever file, chunks, order or library version brought them.

SHA-256 over a JSON header (version, key, rows, columns with logical type) that holds one SHA-256 for each column.
A column is fed in blocks of BLOCK_ROWS rows in canonical order; a block is its buffers, each after its length in bytes:
validity (empty when nothing is null), then little-endian values with nulls zeroed, or string lengths and UTF-8 bytes.

Added here: another logical type, with a golden digest. Any other change gives every table a new hash and needs a new
HASH_VERSION. Not here: the hash of an object's bytes (`objects.py`), fingerprints of work (`fingerprints.py`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.errors import FeatureBuildFailed

HASH_VERSION = 1
BLOCK_ROWS = 1 << 16
SPAN_ROWS = BLOCK_ROWS * 4

Buffers = list[npt.NDArray[Any]]

_PLAIN_TYPES = {
    "Null": "null", "Boolean": "bool", "Int8": "int8", "Int16": "int16", "Int32": "int32", "Int64": "int64",
    "UInt8": "uint8", "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64", "Float16": "float16",
    "Float32": "float32", "Float64": "float64", "String": "string", "Categorical": "string", "Enum": "string",
    "Binary": "binary", "Date": "date", "Time": "time",
}  # fmt: skip
_NOTHING = np.empty(0, np.uint8)


def content_hash(frame: pl.DataFrame, key: Sequence[str]) -> str:
    """SHA-256 (64 hex digits) of the rows as a bag, the columns' names and logical types, and the key's names.

    Rows that are not already in strict order of `key` are sorted first; rows of equal key by every other column.
    Raises FeatureBuildFailed naming every column that has no canonical form and every key column that is missing.
    """
    digest = TableDigest(frame.schema, key)
    ordered = frame if increases(_normalise(frame.select(key))) else _order(_normalise(frame), key)
    for start in range(0, ordered.height, SPAN_ROWS):
        digest.feed_ordered(ordered[start : start + SPAN_ROWS])
    return digest.hexdigest()


def content_hash_of_file(path: Path, key: Sequence[str]) -> str:
    """The `content_hash` of a Parquet file, with its page checksums verified.

    A file in strict order of `key`, such as `write_parquet` makes of a unique key, is streamed in bounded memory.
    Any other (unsorted, or with a repeated or null key) is loaded whole and sorted.
    """
    from nightscore.lake.parquet import read_batches  # the writer states this module's hash in every file

    digest: TableDigest | None = None
    for batch in read_batches(path, SPAN_ROWS):
        digest = digest or TableDigest(batch.schema, key)
        if not digest.take(batch):
            return content_hash(pl.concat([_normalise(part) for part in read_batches(path, SPAN_ROWS)]), key)
    assert digest is not None
    return digest.hexdigest()


class TableDigest:
    """The content hash of rows that arrive in strict order of their key, in batches of any size.

    Raises FeatureBuildFailed where `content_hash` does.
    """

    def __init__(self, schema: Mapping[str, pl.DataType], key: Sequence[str]) -> None:
        self._types = _logical_types(schema, key)
        self._key = list(key)
        self._columns = {name: hashlib.sha256() for name in sorted(schema)}
        self._rows = 0
        self._rest: list[pl.DataFrame] = []
        self._last_key: pl.DataFrame | None = None

    def take(self, batch: pl.DataFrame) -> bool:
        """Feed `batch`, unless its key does not go on increasing strictly; says whether it did."""
        normal = _normalise(batch)
        if not self._precedes(normal):
            return False
        self._update(normal)
        return True

    def feed_ordered(self, batch: pl.DataFrame) -> None:
        """Feed rows that are known to be in canonical order, repeated keys among them."""
        self._update(_normalise(batch))

    def _precedes(self, batch: pl.DataFrame) -> bool:
        keys = batch.select(self._key)
        seen, self._last_key = self._last_key, keys.tail(1)
        return increases(keys if seen is None else pl.concat([seen, keys]))

    def _update(self, batch: pl.DataFrame) -> None:
        # Rows short of a block wait for the next batch.
        self._rows += batch.height
        held = pl.concat([*self._rest, batch])
        whole = held.height - held.height % BLOCK_ROWS
        self._feed(held[:whole])
        self._rest = [held[whole:]]

    def hexdigest(self) -> str:
        """Feed the last, shorter block and close; no update may follow."""
        for rest in self._rest:
            self._feed(rest)
        columns = [[name, self._types[name], digest.hexdigest()] for name, digest in self._columns.items()]
        header = {"columns": columns, "key": self._key, "rows": self._rows, "version": HASH_VERSION}
        return hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def _feed(self, span: pl.DataFrame) -> None:
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            list(pool.map(self._feed_column, span.get_columns()))

    def _feed_column(self, column: pl.Series) -> None:
        digest = self._columns[column.name]
        for start in range(0, len(column), BLOCK_ROWS):
            for buffer in _buffers(column[start : start + BLOCK_ROWS].rechunk()):
                digest.update(buffer.nbytes.to_bytes(8, "little"))
                digest.update(buffer.data)


def _logical_types(schema: Mapping[str, pl.DataType], key: Sequence[str]) -> dict[str, str]:
    types = {name: _logical_type(dtype) for name, dtype in schema.items()}
    found = [f"column {name} is {schema[name]}, which has no canonical form" for name in types if not types[name]]
    found += [f"key column {name} is missing" for name in key if name not in schema]
    found += [f"key column {name} is named twice" for name in sorted({name for name in key if key.count(name) > 1})]
    if found:
        raise FeatureBuildFailed(
            "hash a table's content", found, "cast the columns to plain types, and name each column of the key once"
        )
    return {name: kind for name, kind in types.items() if kind}


def _logical_type(dtype: pl.DataType) -> str | None:
    """The type as it enters the digest, free of units and encodings; none without a canonical form."""
    if isinstance(dtype, pl.Datetime):
        return f"datetime[us, {dtype.time_zone}]" if dtype.time_zone else "datetime[us]"
    if isinstance(dtype, pl.Duration):
        return "duration[us]"
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision or 38}, {dtype.scale})"
    return _PLAIN_TYPES.get(dtype.base_type().__name__)


def _normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Categories become strings, every NaN the same NaN, and -0.0 becomes 0.0."""
    changes = [change for name, dtype in frame.schema.items() if (change := _normal(name, dtype)) is not None]
    return frame.with_columns(changes) if changes else frame


def _normal(name: str, dtype: pl.DataType) -> pl.Expr | None:
    column = pl.col(name)
    if dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if not dtype.is_float():
        return None
    nan, zero = pl.lit(float("nan"), dtype), pl.lit(0.0, dtype)
    return pl.when(column.is_nan()).then(nan).when(column == 0.0).then(zero).otherwise(column).alias(name)


def increases(keys: pl.DataFrame) -> bool:
    """Whether each row of normalised keys exceeds the one before; nulls are not compared, they say no, as does NaN."""
    if keys.height < 2 or any(keys.null_count().row(0)):
        return keys.width > 0 and keys.height < 2
    return bool(keys.select(reduce(exceeds, reversed(keys.columns), pl.lit(False)).slice(1).all()).item())


def exceeds(later: pl.Expr, name: str) -> pl.Expr:
    """Whether a row exceeds the one before in column `name`, or equals it there and exceeds it by `later` columns."""
    column, before = pl.col(name), pl.col(name).shift(1)
    return (column > before) | ((column == before) & later)


def _order(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Normalised rows by key, and by all other columns in order of name where the key alone does not decide."""
    by_key = frame.sort(key, nulls_last=True) if key else frame
    if increases(by_key.select(key)):
        return by_key
    by = [*key, *sorted(set(frame.columns) - set(key))]
    return frame.sort(by, nulls_last=True) if by else frame


def _buffers(block: pl.Series) -> Buffers:
    """The buffers of one block; their number depends on the logical type alone."""
    if block.dtype == pl.Null:
        return []
    missing = block.is_null().to_numpy() if block.null_count() else None
    validity = _NOTHING if missing is None else np.packbits(~missing, bitorder="little")
    if block.dtype in (pl.String, pl.Binary):
        return [validity, *_lengths_and_bytes(block)]
    values = _fixed_width(block.cast(pl.UInt8) if block.dtype == pl.Boolean else block)
    if missing is not None:
        values = np.where(missing[:, None], np.uint8(0), values)
    if isinstance(block.dtype, pl.Datetime | pl.Duration):
        return [validity, *_microseconds(values.view("<i8")[:, 0], block.dtype.time_unit)]
    return [validity, values]


def _lengths_and_bytes(block: pl.Series) -> Buffers:
    filled = block.fill_null("" if block.dtype == pl.String else b"")
    array = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, content = array.buffers()
    bounds = np.frombuffer(offsets, "<i8")[array.offset : array.offset + len(array) + 1]
    data = _NOTHING if content is None else np.frombuffer(content, np.uint8)[bounds[0] : bounds[-1]]
    return [np.diff(bounds), data]


def _fixed_width(block: pl.Series) -> npt.NDArray[np.uint8]:
    """The Arrow values as bytes, (rows, bytes a value); what stands in null slots is undefined."""
    array: Any = block.to_arrow(compat_level=pl.CompatLevel.oldest())
    width = array.type.bit_width // 8
    values = array.buffers()[1]
    content = _NOTHING if values is None else np.frombuffer(values, np.uint8)
    return content[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def _microseconds(ticks: npt.NDArray[np.int64], unit: str) -> Buffers:
    """Whole microseconds, and the nanoseconds beyond them: empty unless a block has any, as few tables do."""
    if unit != "ns":
        return [ticks * 1000 if unit == "ms" else ticks, _NOTHING]
    whole, beyond = np.divmod(ticks, 1000)
    return [whole, beyond.astype("<i2") if beyond.any() else _NOTHING]
