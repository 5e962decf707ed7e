"""Cells to declared types: each column as polars Series, cells that cannot be read aside with their original text.

Added here: a new column type, or a raw type that a declared type accepts. Not here: whether a value is plausible.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from nightscore.errors import SourceMalformed
from nightscore.spec.base import ColumnType
from nightscore.spec.sources import Column, Source

UNREADABLE = "unreadable"
"""Column of a delivered source: JSON of the cells that could not be read, null when all could."""

COLUMN_TYPES: Mapping[ColumnType, pl.DataType] = {
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"),
}
"""The polars type of each declared type."""

_INTEGER = r"^[+-]?[0-9]+$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_ISO_TIMESTAMP = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:(Z)|([+-][0-9]{2}):?([0-9]{2})?)?$"
)
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


class Cells(NamedTuple):
    """A column read: typed values, and the original text of cells that could not be read (null where all is fine)."""

    values: pl.Series
    unreadable: pl.Series


def frame_schema(source: Source) -> dict[str, pl.DataType]:
    """The columns of every extracted frame of `source`: the declared ones in order, then `unreadable`."""
    return {**{column.name: COLUMN_TYPES[column.type] for column in source.columns}, UNREADABLE: pl.String()}


def read_cells(raw: pl.Series, column: Column) -> Cells:
    """`raw` as the declared type of `column`; raises SourceMalformed when its format or timezone is unusable."""
    plain = _plain(raw)
    x = pl.col("x")
    try:
        typed = plain.to_frame("x").select(_READERS[column.type](x, plain.dtype, column))["x"]
    except pl.exceptions.PolarsError as error:
        reason = f"format {column.format}, timezone {column.timezone}: {type(error).__name__}"
        raise SourceMalformed(f"reading column {column.name} as {column.type}", reason, "repair the spec") from None
    failed = raw.is_not_null() & typed.is_null()
    return Cells(typed.alias(column.name), _texts(raw, failed).alias(column.name))


def unreadable_json(texts: list[pl.Series]) -> pl.Series:
    """One JSON object text a row, {column: original text}; null on rows where `texts` are all null."""
    found: dict[int, dict[str, str]] = {}
    for series in texts:
        for at in series.is_not_null().arg_true():
            found.setdefault(at, {})[series.name] = series[at]
    return _sparse({at: json.dumps(row, ensure_ascii=False) for at, row in found.items()}, len(texts[0]), UNREADABLE)


def _plain(raw: pl.Series) -> pl.Series:
    """`raw` in a type the readers know; cells of no such type are null."""
    if raw.dtype in (pl.Categorical, pl.Enum, pl.Time):
        return raw.cast(pl.String)
    if raw.dtype == pl.Binary:
        return pl.Series([_decode(cell) for cell in raw], dtype=pl.String)
    if raw.dtype.is_nested() or raw.dtype in (pl.Duration, pl.Object, pl.Null):
        return pl.Series([None] * len(raw), dtype=pl.String)
    return raw


def _decode(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def _texts(raw: pl.Series, failed: pl.Series) -> pl.Series:
    """The text of `raw` where `failed`, else null."""
    return _sparse({at: str(raw[at]) for at in failed.arg_true()}, len(raw), raw.name)


def _sparse(texts: Mapping[int, str], rows: int, name: str) -> pl.Series:
    """The texts at their rows, null elsewhere; no object is made for the many cells that are fine."""
    nothing = pl.repeat(None, rows, dtype=pl.String, eager=True).alias(name)
    return nothing.scatter(list(texts), list(texts.values())) if texts else nothing


def _nothing(x: pl.Expr, to: ColumnType) -> pl.Expr:
    return pl.when(x.is_null()).then(pl.lit(None, dtype=COLUMN_TYPES[to])).alias("x")


def _read_integer(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    if dtype == pl.String:
        return pl.when(x.str.contains(_INTEGER)).then(x).cast(pl.Int64, strict=False)
    if not dtype.is_numeric():
        return _nothing(x, "integer")
    whole = x.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(dtype, strict=False) == x).then(whole).alias("x")


def _read_float(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    if dtype == pl.String:
        x = pl.when(x.str.contains(_FLOAT)).then(x)
    elif not dtype.is_numeric():
        return _nothing(x, "float")
    number = x.cast(pl.Float64, strict=False)
    # No -0.0: it sorts as equal to 0.0, so the row order would not be determined. Polars leaves out adding zero.
    unsigned = pl.when(number == 0.0).then(pl.lit(0.0)).otherwise(number)
    return pl.when(number.is_finite()).then(unsigned).alias("x")


def _read_string(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    return x.cast(pl.String)


def _read_boolean(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    if dtype == pl.Boolean:
        return x
    text = x.cast(pl.String).str.to_lowercase()
    return pl.when(text.is_in(_TRUE)).then(True).when(text.is_in(_FALSE)).then(False).alias("x")


def _read_date(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    if dtype == pl.Date:
        return x
    if dtype == pl.Datetime:
        naive = getattr(dtype, "time_zone", None) is None
        return pl.when((x.dt.time() == pl.time(0)) & naive).then(x).dt.date()
    text = x.cast(pl.String)
    if column.format is None:
        text = pl.when(text.str.contains(_ISO_DATE)).then(text)
    return text.str.to_date(column.format or "%Y-%m-%d", strict=False).alias("x")


def _read_timestamp(x: pl.Expr, dtype: pl.DataType, column: Column) -> pl.Expr:
    if dtype == pl.Datetime and getattr(dtype, "time_zone", None) is not None:
        return x.dt.convert_time_zone("UTC").cast(COLUMN_TYPES["timestamp"])
    if dtype in (pl.Date, pl.Datetime):
        return _localise(x.cast(pl.Datetime("us")), column)
    text = x.cast(pl.String)
    if column.format is None:
        return _read_iso_timestamp(text, column).alias("x")
    parsed = text.str.to_datetime(column.format, time_unit="us", strict=False)
    return (parsed if re.search("%[:#]?z", column.format) else _localise(parsed, column)).alias("x")


def _read_iso_timestamp(text: pl.Expr, column: Column) -> pl.Expr:
    day, minute, second, utc, hours, minutes = (text.str.extract(_ISO_TIMESTAMP, group) for group in range(1, 7))
    clock = pl.concat_str(day, pl.lit("T"), minute, second.fill_null(":00"))
    naive = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    sign = pl.when(hours.str.starts_with("-")).then(-1).otherwise(1)
    ahead = hours.cast(pl.Int64) * 60 + sign * minutes.cast(pl.Int64).fill_null(0)
    aware = (naive - pl.duration(minutes=ahead.fill_null(0))).dt.replace_time_zone("UTC")
    return pl.when(utc.is_not_null() | hours.is_not_null()).then(aware).otherwise(_localise(naive, column))


def _localise(naive: pl.Expr, column: Column) -> pl.Expr:
    """Local wall times as UTC; null for those that daylight saving time repeats or skips."""
    local = naive.dt.replace_time_zone(column.timezone or "UTC", ambiguous="null", non_existent="null")
    return local.dt.convert_time_zone("UTC")


_READERS: Mapping[ColumnType, Callable[[pl.Expr, pl.DataType, Column], pl.Expr]] = {
    "integer": _read_integer,
    "float": _read_float,
    "string": _read_string,
    "boolean": _read_boolean,
    "date": _read_date,
    "timestamp": _read_timestamp,
}
