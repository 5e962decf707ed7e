"""Storing rows that come sorted, however many there are.

Added here: another way in which rows may come. Not here: how they become bytes (`parquet.py`).
"""

from collections.abc import Callable, Iterator, Sequence

import polars as pl

from nightscore.errors import AccountingError
from nightscore.lake.objects import StoredObject
from nightscore.lake.partitions import Lake


def put_sorted(lake: Lake, read: Callable[[], Iterator[pl.DataFrame]], key: Sequence[str]) -> StoredObject:
    """Store rows that come sorted by `key`, in bounded memory; where a key is null or repeated they are sorted whole.

    `read` gives the rows anew, in one batch or more.
    """
    try:
        return lake.put_batches(read(), key)
    except AccountingError:
        return lake.put(pl.concat(read()), key)
