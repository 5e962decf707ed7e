"""A frame as rows of PostgreSQL's binary COPY format, a batch at a time, without a Python object for any value.

A row is the number of its fields, then each field's length (-1 for a null) and value, big-endian. Columns of one width
are filled into a packed NumPy record; values whose width varies stand between such records, and Arrow joins them.
Added here: a type that the mart stores. Not here: the connection (`copy_stream.py`) or which columns (`publish.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.errors import SourceMalformed

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
DAY_US = 86_400 * 10**6
UNIX_DAYS = -10_957
"""1970-01-01 in days since 2000-01-01, from where PostgreSQL counts."""
DAYS = range(-2_451_545, 2_145_031_949)
"""The days since 2000 that PostgreSQL knows, from 4714-11-24 BC on."""
MICROSECONDS = range(DAYS[0] * DAY_US, 9_223_371_331_200_000_000)


@dataclass(frozen=True)
class _Wire:
    """How values of one type are sent: what is added to them, and the range that the sum must be in, if any."""

    dtype: npt.DTypeLike
    shift: int = 0
    known: range | None = None


_WIRES: dict[type[pl.DataType] | pl.DataType, _Wire] = {
    pl.Int64: _Wire(np.int64), pl.Int32: _Wire(np.int64), pl.Float64: _Wire(np.float64), pl.Boolean: _Wire(np.bool_),
    pl.Date: _Wire(np.int32, UNIX_DAYS, DAYS),
    pl.Datetime("us", "UTC"): _Wire(np.int64, UNIX_DAYS * DAY_US, MICROSECONDS),
}  # fmt: skip


@dataclass(frozen=True)
class _Column:
    """A column's values on the wire, and their lengths in bytes.

    Steady: `values` (rows,) of one width, which is `lengths`. Else `joined`, an Arrow array of bytes (rows,), and
    `lengths` (rows,) with -1 for nulls.
    """

    lengths: int | npt.NDArray[np.int32]
    values: npt.NDArray[Any] | None = None
    joined: Any = None


def encode_rows(frame: pl.DataFrame) -> memoryview:
    """The rows of `frame` in order, its columns as fields, without signature and trailer.

    Raises SourceMalformed for what PostgreSQL cannot store: NUL in a text, dates and times that it does not know.
    """
    if frame.is_empty():
        return memoryview(b"")
    pieces: list[Any] = []
    run: list[_Column] = []
    for series in frame.get_columns():
        run.append(_text(series) if series.dtype == pl.String else _fixed(series, _WIRES[series.dtype]))
        if run[-1].values is None:
            pieces += [_records(run, frame, first=not pieces), run[-1].joined]
            run = []
    if run:
        pieces.append(_records(run, frame, first=not pieces))
    return _join(pieces)


def _records(run: Sequence[_Column], frame: pl.DataFrame, first: bool) -> npt.NDArray[Any]:
    """Neighbouring columns side by side, a packed record a row; of a last one that is not steady, its lengths."""
    fields: list[tuple[str, Any]] = [("fields", ">i2")] if first else []
    for at, column in enumerate(run):
        fields.append((f"length{at}", ">i4"))
        if column.values is not None:
            fields.append((f"value{at}", column.values.dtype.newbyteorder(">")))
    records = np.empty(frame.height, np.dtype(fields))
    if first:
        records["fields"] = frame.width
    for at, column in enumerate(run):
        records[f"length{at}"] = column.lengths
        if column.values is not None:
            records[f"value{at}"] = column.values
    return records


def _fixed(series: pl.Series, wire: _Wire) -> _Column:
    known = series.drop_nulls()
    if wire.known is not None and not _is_within(known, wire.known, wire.shift):
        raise _unstorable(series.name, "a date or time outside of PostgreSQL's range")
    numbers = known.to_physical().to_numpy()
    values = (numbers + wire.shift if wire.shift else numbers).astype(wire.dtype, copy=False)
    if not series.null_count():
        return _Column(values.itemsize, values)
    lengths = np.where(series.is_null().to_numpy(), -1, values.itemsize).astype(np.int32)
    return _Column(lengths, joined=_cut(lengths, values.astype(values.dtype.newbyteorder(">"))))


def _is_within(known: pl.Series, allowed: range, shift: int) -> bool:
    numbers = known.to_physical()
    return known.is_empty() or all(int(one) + shift in allowed for one in (numbers.min(), numbers.max()))  # type: ignore[arg-type]


def _text(series: pl.Series) -> _Column:
    """Texts of one length are steady; others stay as Arrow has them, end to end."""
    array = series.fill_null("").to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offset_buffer, buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(buffer, np.uint8)[offsets[0] : offsets[-1]]
    if not content.all():
        raise _unstorable(series.name, "a NUL character")
    widths = np.diff(offsets)
    width = int(widths[0])
    if width and not series.null_count() and (widths == width).all():
        return _Column(width, content.view(f"V{width}"))
    lengths = np.where(series.is_null().to_numpy(), -1, widths).astype(np.int32)
    return _Column(lengths, joined=_cut(lengths, content))


def _cut(lengths: npt.NDArray[np.int32], content: npt.NDArray[Any]) -> Any:
    """`content` as an Arrow array of bytes, cut at `lengths`; the empty bytes for nulls."""
    import pyarrow as pa

    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.maximum(lengths, 0), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(content.view(np.uint8))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lengths), buffers)


def _join(pieces: Sequence[Any]) -> memoryview:
    """Row by row, the bytes of every piece."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(pieces) == 1:
        return memoryview(pieces[0].view(np.uint8))
    arrays = [_cut(np.full(len(one), one.itemsize, np.int32), one) if isinstance(one, np.ndarray) else one
              for one in pieces]  # fmt: skip
    joined = pc.binary_join_element_wise(*arrays, pa.scalar(b"", pa.large_binary()))
    _, offsets, content = joined.buffers()
    return memoryview(content)[: np.frombuffer(offsets, np.int64)[len(joined)]]


def _unstorable(column: str, found: str) -> SourceMalformed:
    return SourceMalformed(
        f"Publishing column {column}", f"{found}, which PostgreSQL cannot store", "clean it in the features or sources"
    )
