"""Storing rows that come sorted by a key, which may be repeated or absent, however many there are.

The bytes and the content hash are those of the same rows in one frame.
Added here: another way in which rows may come. Not here: how they become bytes (`parquet.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import polars as pl

from nightscore.errors import AccountingError
from nightscore.lake.content import TableDigest
from nightscore.lake.objects import StoredObject
from nightscore.lake.parquet import CONTENT_HASH, as_table, full_groups, in_order, open_writer
from nightscore.lake.partitions import Lake

Rows = Iterator[pl.DataFrame]


def put_sorted(lake: Lake, read: Callable[[], Rows], key: Sequence[str]) -> StoredObject:
    """Store rows that come sorted by `key`, nulls last; `read` gives them anew, in one batch or more.

    In bounded memory, but for rows that share a key, and for rows in another order, which are sorted whole.
    """
    try:
        return lake.put_batches(read(), key)
    except AccountingError:
        if not _is_sorted(read(), key):
            return lake.put(pl.concat(read()), key)
    with lake.store.scratch() as path:
        content_sha256 = _write_repeating(_whole_keys(read(), key), key, path)
        return replace(lake.store.put_file(path), content_sha256=content_sha256)


def _is_sorted(batches: Rows, key: Sequence[str]) -> bool:
    last: pl.DataFrame | None = None
    for batch in batches:
        keys = batch.select(key) if last is None else pl.concat([last, batch.select(key)])
        if not keys.equals(keys.sort(key, nulls_last=True)):
            return False
        last = keys.tail(1)
    return True


def _whole_keys(batches: Rows, key: Sequence[str]) -> Rows:
    """The same rows so cut that rows of equal key are in one batch."""
    held = next(batches)
    for batch in batches:
        held = pl.concat([held, batch])
        last = [pl.col(name).eq_missing(pl.col(name).last()) for name in key]
        whole = held.height - int(held.select(pl.all_horizontal(last).sum()).item())
        yield held[:whole]
        held = held[whole:]
    yield held


def _write_repeating(batches: Rows, key: Sequence[str], path: Path) -> str:
    """Write sorted batches, each of which has all rows of its keys; returns their content hash."""
    first = next(batches)
    digest = TableDigest(first.schema, key)

    def ordered() -> Rows:
        for batch in chain((first,), batches):
            # The hash orders by columns' names, and categories by their text.
            text = batch.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
            digest.feed_ordered(in_order(text, key, sorted(text.columns)))
            yield in_order(batch, key)

    with open_writer(path, first) as writer:
        for group in full_groups(first.clear(), ordered()):
            writer.write_table(as_table(group))
        content_sha256 = digest.hexdigest()
        writer.add_key_value_metadata({CONTENT_HASH: content_sha256})
    return content_sha256
