"""How a frame becomes Parquet bytes: one fixed writer, so equal frames give equal objects.

Rows are sorted by key, chunks are joined, pages carry checksums. Added here: nothing, without a decision record:
every change gives every dataset new hashes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from nightscore.lake.content import content_hash

ROW_GROUP_ROWS = 1 << 17
CONTENT_HASH = "nightscore.content_sha256"


def write_parquet(frame: pl.DataFrame, key: Sequence[str], path: Path) -> str:
    """Write `frame`, sorted by `key` and then by every other column, to `path`; returns its content hash.

    The file carries the hash too, so that an object says what it means without the catalog.
    """
    import pyarrow.parquet as pq

    rest = [name for name in frame.columns if name not in key]
    ordered = frame.sort([*key, *rest], nulls_last=True).rechunk() if frame.width else frame
    content_sha256 = content_hash(ordered, key)
    table = ordered.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    stated = table.replace_schema_metadata({CONTENT_HASH: content_sha256})
    pq.write_table(
        stated, path, compression="zstd", compression_level=3, version="2.6", data_page_version="1.0",
        write_page_checksum=True, row_group_size=ROW_GROUP_ROWS, store_schema=True,
    )  # fmt: skip
    return content_sha256


def stated_content_hash(path: Path) -> str | None:
    """The content hash that the file at `path` carries; None of a file that another writer wrote."""
    import pyarrow.parquet as pq

    stated = (pq.read_metadata(path).metadata or {}).get(CONTENT_HASH.encode())
    return None if stated is None else str(stated.decode())


def read_batches(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """The file's rows in order, `rows` at a time at most, with page checksums verified; bounded memory."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        empty = True
        for batch in file.iter_batches(batch_size=rows):
            empty = False
            yield _frame(batch)
        if empty:
            yield _frame(file.schema_arrow.empty_table())


def _frame(batch: object) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
