"""A night's features on their way to the model: read in batches, a few ahead, as the model's own columns.

Text of categories comes as codes into the batch's own values, so that each value is looked up once a batch.
Added here: another way to hand rows on. Not here: what is done with them (`engine.py`, `scores.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.lake.ahead import read_ahead
from nightscore.lake.parquet import read_arrow
from nightscore.training.matrix import SCORE_DATE, Encoding, Vector, check_columns, check_finite, encode_column

BATCH_ROWS = 1 << 17
Features = Path | tuple[Path, ...]
"""One file of features, or several whose rows follow one another in the order of their key."""


@dataclass(frozen=True)
class Rows:
    """One batch of features; `table`: an Arrow record batch, some of its text as dictionaries.

    `night`: the score date of rows that do not say theirs.
    """

    table: Any
    night: date | None = None

    @property
    def height(self) -> int:
        """The number of rows."""
        return int(self.table.num_rows)

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """The columns `names`, as the partition holds them."""
        return pl.DataFrame({name: self._series(name) for name in names})

    def columns(self, encoding: Encoding) -> list[Vector]:
        """What `matrix.encode` makes of the features, a column (rows,) each; raises what it raises."""
        there = [name for name in encoding.names if name in self.table.schema.names]
        check_columns(self.frame_of_none(there), encoding)
        found = {name: self._column(name, encoding) for name in encoding.names}
        check_finite(found)
        return list(found.values())

    def filter(self, mask: npt.NDArray[np.bool_]) -> "Rows":
        """The rows where `mask` (rows,) is true."""
        import pyarrow as pa

        return Rows(self.table.filter(pa.array(mask)), self.night)

    def frame_of_none(self, names: Sequence[str]) -> pl.DataFrame:
        """No rows of the columns `names`."""
        return Rows(self.table.slice(0, 0)).frame(names)

    def _series(self, name: str) -> pl.Series:
        if name == SCORE_DATE and self.night is not None and name not in self.table.schema.names:
            return pl.repeat(self.night, self.height, dtype=pl.Date, eager=True)
        series = pl.Series(self.table.column(name))
        return series.cast(pl.String) if series.dtype == pl.Categorical else series

    def _column(self, name: str, encoding: Encoding) -> Vector:
        array = self.table.column(name)
        if name not in encoding.levels or not _is_dictionary(array):
            return np.ascontiguousarray(encode_column(pl.Series(array), encoding.levels.get(name)))
        values, codes = array.dictionary.to_pylist(), encoding.codes[name]
        # The last entry stands for a missing value.
        table = np.array([*(codes.get(value, np.nan) for value in values), np.nan])
        return np.asarray(table[array.indices.fill_null(len(values)).to_numpy()])


def files_of(features: Features) -> tuple[Path, ...]:
    """The files, in the order of their rows."""
    return (features,) if isinstance(features, Path) else features


def read_rows(
    features: Features, texts: Sequence[str], columns: Sequence[str] | None = None,
    groups: Sequence[int] | None = None, night: date | None = None,
) -> Iterator[Rows]:  # fmt: skip
    """The batches of one file, or of several, in order, the next one read while one is worked on.

    `texts` come as codes. `groups`: only these row groups, of one file. `night`: of rows that do not say theirs.
    """
    batches = (
        batch for one in files_of(features) for batch in read_arrow(one, BATCH_ROWS, columns, groups, texts)
    )  # fmt: skip
    with closing(read_ahead(batches, waiting=1)) as ahead:
        for batch in ahead:
            yield Rows(batch, night)


def _is_dictionary(array: Any) -> bool:
    return hasattr(array, "dictionary")
