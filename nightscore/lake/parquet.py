"""How rows become Parquet bytes: one fixed writer, so equal rows give equal objects, whole or in batches.

Rows are sorted by key, row groups are full, pages carry checksums. Added here: nothing, without a decision record:
every change gives every dataset new hashes.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.errors import AccountingError
from nightscore.lake.content import TableDigest, content_hash

ROW_GROUP_ROWS = 1 << 17
CONTENT_HASH = "nightscore.content_sha256"


@dataclass(frozen=True)
class Written:
    """A finished file: the content hash of its rows and their number."""

    content_sha256: str
    rows: int


def write_parquet(frame: pl.DataFrame, key: Sequence[str], path: Path) -> str:
    """Write `frame`, sorted by `key` and then by every other column, to `path`; returns its content hash.

    The file carries the hash too, so that an object says what it means without the catalog.
    """
    ordered = in_order(frame, key)
    content_sha256 = content_hash(ordered, key)
    with open_writer(path, ordered) as writer:
        for group in ordered.iter_slices(ROW_GROUP_ROWS) if ordered.height else (ordered,):
            writer.write_table(as_table(group))
        writer.add_key_value_metadata({CONTENT_HASH: content_sha256})
    return content_sha256


def in_order(rows: pl.DataFrame, key: Sequence[str], others: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows sorted by key, and by the other columns where keys repeat; in their own order, or in that of `others`."""
    if not key or not rows.height:
        return rows.sort(others or rows.columns, nulls_last=True) if rows.width else rows
    by_key = rows.sort(key, nulls_last=True)
    again = [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in key]
    # Sorting by every column needs a second copy of all rows.
    if not by_key.select(pl.all_horizontal(again).slice(1).any()).item():
        return by_key
    return rows.sort([*key, *(name for name in others or rows.columns if name not in key)], nulls_last=True)


def write_batches(batches: Iterable[pl.DataFrame], key: Sequence[str], path: Path) -> Written:
    """Write at least one batch, in strict order of a unique `key`, to `path`, in bounded memory.

    The bytes are those that `write_parquet` makes of all rows at once. Raises AccountingError where the order breaks.
    """
    parts = iter(batches)
    first = next(parts)
    digest, rows = TableDigest(first.schema, key), 0
    with open_writer(path, first) as writer, ThreadPoolExecutor(1) as pool:
        encoded: Future[None] | None = None
        for group in full_groups(first, parts):
            if not digest.take(group):
                raise _disordered(key, rows)
            rows += group.height
            table = as_table(group)
            # One group is encoded while the next is made and hashed.
            if encoded is not None:
                encoded.result()
            encoded = pool.submit(writer.write_table, table)
        assert encoded is not None
        encoded.result()
        content_sha256 = digest.hexdigest()
        writer.add_key_value_metadata({CONTENT_HASH: content_sha256})
    return Written(content_sha256, rows)


def full_groups(first: pl.DataFrame, rest: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows in groups of exactly ROW_GROUP_ROWS but for the last; a single empty one where there are none."""
    any_made = False
    for group in cut_batches(chain((first,), rest), ROW_GROUP_ROWS):
        yield group
        any_made = True
    if not any_made:
        yield first


def cut_batches(batches: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows, exactly `rows` at a time but for the last; nothing where there are none."""
    waiting: list[pl.DataFrame] = []
    held = 0
    for batch in batches:
        rest = batch
        while held + rest.height >= rows:
            cut = rows - held
            yield pl.concat([*waiting, rest[:cut]])
            rest, waiting, held = rest[cut:], [], 0
        if rest.height:
            waiting.append(rest)
            held += rest.height
    if waiting:
        yield pl.concat(waiting)


@contextmanager
def open_writer(path: Path, like: pl.DataFrame) -> Iterator[Any]:
    """Text as codes into its values, floats with their bytes apart; what else is tried costs more than it saves."""
    import pyarrow.parquet as pq

    texts = [name for name, dtype in like.schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum)]
    floats = [name for name, dtype in like.schema.items() if dtype in (pl.Float32, pl.Float64)]
    with pq.ParquetWriter(
        path, as_table(like.head(0)).schema, compression="zstd", compression_level=1, version="2.6",
        data_page_version="1.0", write_page_checksum=True, store_schema=True, use_dictionary=texts,
        use_byte_stream_split=floats,
    ) as writer:  # fmt: skip
        yield writer


def as_table(group: pl.DataFrame) -> Any:
    """One row group as Arrow, in one chunk and with the types that every reader knows."""
    return group.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _disordered(key: Sequence[str], rows: int) -> AccountingError:
    return AccountingError(
        "writing rows in the order of their key",
        f"after {rows} rows {', '.join(key)} does not increase strictly",
        "this is a defect of the step that gave the rows: report it; nothing was stored",
    )


def stated_content_hash(path: Path) -> str | None:
    """The content hash that the file at `path` carries; None of a file that another writer wrote."""
    import pyarrow.parquet as pq

    stated = (pq.read_metadata(path).metadata or {}).get(CONTENT_HASH.encode())
    return None if stated is None else str(stated.decode())


def read_batches(path: Path, rows: int, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
    """The file's rows in order, `rows` at a time at most, with page checksums verified; bounded memory.

    With `columns`, only those, in their order.
    """
    for batch in read_arrow(path, rows, columns):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame if columns is None else frame.select(columns)


def read_arrow(
    path: Path, rows: int, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None,
    dictionaries: Sequence[str] = (),
) -> Iterator[Any]:  # fmt: skip
    """What `read_batches` reads, as Arrow record batches; no rows give one empty batch.

    `groups`: only these row groups. Columns named in `dictionaries` come as codes into their own values.
    """
    import pyarrow.parquet as pq

    wanted = None if columns is None else list(columns)
    with pq.ParquetFile(
        path, page_checksum_verification=True, pre_buffer=False, read_dictionary=list(dictionaries)
    ) as file:
        empty = True
        for batch in file.iter_batches(batch_size=rows, columns=wanted, row_groups=groups):
            empty = False
            yield batch
        if empty:
            none = file.schema_arrow.empty_table()
            yield none if wanted is None else none.select(wanted)


def rows_by_group(path: Path) -> list[int]:
    """The number of rows in each row group of a file."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]


def constants_of(path: Path) -> dict[str, Any]:
    """Columns of the file that hold one and the same value in every row, by what its row groups state; no floats.

    A float's statistics leave NaN out.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name, dtype in pl.Schema(file.schema_arrow).items() if not dtype.is_float()]
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        stated: dict[str, list[Any]] = {column.path_in_schema: [] for column in _columns_of(groups[:1])}
        for column in _columns_of(groups):
            stated[column.path_in_schema].append(_only_value(column.statistics))
    return {name: stated[name][0] for name in names if stated.get(name) and _is_one(stated[name])}


def _columns_of(groups: Sequence[Any]) -> Iterator[Any]:
    return (group.column(at) for group in groups for at in range(group.num_columns))


def _only_value(statistics: Any) -> Any:
    """What a row group holds in all its rows; None where that is not known, or is no value."""
    known = statistics is not None and statistics.has_min_max and statistics.has_null_count
    return statistics.min if known and not statistics.null_count and statistics.min == statistics.max else None


def _is_one(values: Sequence[Any]) -> bool:
    return values[0] is not None and all(value == values[0] for value in values)
