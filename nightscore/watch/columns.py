"""The columns of a stored table, some rows at a time: only those that are looked at, in bounded memory.

A table was verified by the hash of its bytes when its path was asked for, so its pages are not verified once more.
Added here: a way to read what the watch counts. Not here: what is counted (`profile.py`, `scores.py`), or how tables
are written (`nightscore/lake/parquet.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from nightscore.lake.parquet import cut_batches


def read_columns(path: Path, names: Sequence[str], rows: int, coded: Collection[str] = ()) -> Iterator[pl.DataFrame]:
    """The columns `names` that are there, in the order of the rows: exactly `rows` at a time, the last time fewer.

    Texts among `coded` are categories, which are counted as fast as numbers, but all of whose levels stay in memory. A
    table without rows gives one frame without any. On one thread, so that several passes may share the processor.
    """
    import pyarrow.parquet as pq

    there = {name: kind for name, kind in pl.read_parquet_schema(path).items() if name in names}
    texts = [name for name, kind in there.items() if kind == pl.String and name in coded]
    with pq.ParquetFile(path, pre_buffer=False, read_dictionary=texts) as file:
        batches = file.iter_batches(batch_size=rows, columns=list(there), use_threads=False)
        empty = True
        # A reader may end a batch where a row group ends; what is made of a batch must not depend on that.
        for frame in cut_batches((_frame(batch) for batch in batches), rows):
            empty = False
            yield frame
    if empty:
        yield pl.DataFrame(schema=there)


def share_columns(columns: Mapping[str, pl.DataType], passes: int) -> list[list[str]]:
    """`columns` dealt to so many passes, texts to one of their own: their dictionaries cut batches short."""
    texts = [name for name, kind in columns.items() if kind == pl.String]
    others = [name for name in columns if name not in texts]
    return [share for share in (texts, *(others[at::passes] for at in range(passes))) if share]


def _frame(batch: object) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
