"""Repeated keys of a table that is read in batches, found exactly and in bounded memory.

Rows in strict order of their key repeat nothing. Of any other table every row leaves a hash of 8 bytes, and only rows
that share one are compared. Added here: another way to see that nothing is repeated. Not here: what offends (`masks`).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from nightscore.lake.content import increases

Read = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
"""Reads the given columns of all rows from the start, in batches; at least one, which may be empty."""


def repeated_rows(read: Read, columns: Sequence[str]) -> pl.DataFrame:
    """The distinct values of `columns` that two rows or more have; a row with a null among them repeats no other."""
    if _increases_throughout(read(columns)):
        return next(read(columns)).clear()
    hashes = np.concatenate([_hashes(batch) for batch in read(columns)])
    hashes.sort()
    shared = pl.Series(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
    suspects = pl.concat([_having(batch, shared) for batch in read(columns)])
    return suspects.filter(suspects.is_duplicated()).unique()


def is_among(batch: pl.DataFrame, repeated: pl.DataFrame) -> pl.Series:
    """One boolean a row of a batch of the table: whether its values are those of a row of `repeated`."""
    if repeated.is_empty():
        return pl.repeat(False, batch.height, dtype=pl.Boolean, eager=True)
    keys = batch.select(repeated.columns)
    # What repeats within the batch is in `repeated` too, so nothing else can be found twice; joins lose NaN.
    again = pl.concat([repeated, keys]).is_duplicated()[repeated.height :]
    return again & keys.select(pl.all_horizontal(pl.all().is_not_null())).to_series()


def _increases_throughout(batches: Iterator[pl.DataFrame]) -> bool:
    last: pl.DataFrame | None = None
    for batch in batches:
        keys = batch if last is None else pl.concat([last, batch])
        if not increases(keys):
            return False
        last = keys.tail(1)
    return True


def _hashes(batch: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return _comparable(batch.drop_nulls()).hash_rows().to_numpy()


def _having(batch: pl.DataFrame, shared: pl.Series) -> pl.DataFrame:
    whole = batch.drop_nulls()
    return whole.filter(_comparable(whole).hash_rows().is_in(shared.implode()))


def _comparable(frame: pl.DataFrame) -> pl.DataFrame:
    """Categories as text: the same one may have another code in another batch. Hashes know 0.0 and -0.0 as equal."""
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
