"""Scores of an earlier night, for rows that are the same to the bit: same entity, same model, same columns.

Two nights are read side by side in the order of their key, in bounded memory; rows are compared by what the model
sees of them, never by a digest. Where our kernel scores, reading the other night costs as much as scoring, so only
slower models ask here.
Added here: another source of known scores. Not here: which night is asked (`night.py`), or scoring (`scores.py`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.lake.parquet import read_batches
from nightscore.scoring.rows import BATCH_ROWS, Rows, read_rows
from nightscore.training.matrix import Encoding, Vector

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EarlierNight:
    """A night that the same version scored alone: its objects in the lake, and what gives their verified paths.

    Verifying reads all bytes, so it is left until somebody wants the rows.
    """

    score_date: date
    features_md5: str
    predictions_md5: str
    path_of: Callable[[str], Path]

    def as_json(self) -> dict[str, str]:
        """What a receipt keeps."""
        return {
            "score_date": str(self.score_date), "features_md5": self.features_md5,
            "predictions_md5": self.predictions_md5,
        }  # fmt: skip


@dataclass
class KnownScores:
    """The rows of an earlier night, handed out in the order of `entity`, the key without the date."""

    night: EarlierNight
    encoding: Encoding
    entity: tuple[str, ...]
    _parts: list["_Part"] = field(default_factory=list)
    _more: Iterator["_Part"] | None = None

    def find(self, rows: Rows, columns: list[Vector]) -> tuple[Mask, Vector]:
        """Which of `rows`, whose keys follow those asked before, are unchanged, and their scores (of the unchanged)."""
        keys = rows.frame(self.entity)
        unchanged, scores = np.zeros(rows.height, dtype=bool), np.empty(rows.height)
        if rows.height:
            self._read_up_to(keys.row(-1))
            for part in self._parts:
                part.compare(keys, columns, unchanged, scores)
            self._parts = [part for part in self._parts if part.last > keys.row(-1)]
        return unchanged, scores[unchanged]

    def _read_up_to(self, key: tuple[Any, ...]) -> None:
        self._more = self._more or self._read()
        while not self._parts or self._parts[-1].last < key:
            part = next(self._more, None)
            if part is None:
                return
            self._parts.append(part)

    def _read(self) -> Iterator["_Part"]:
        categories = [self.encoding.names[at] for at in self.encoding.category_indexes]
        names = list(dict.fromkeys([*self.entity, *self.encoding.names]))
        features = read_rows(
            self.night.path_of(self.night.features_md5), [one for one in categories if one not in self.entity], names
        )
        scored = read_batches(self.night.path_of(self.night.predictions_md5), BATCH_ROWS, [*self.entity, "score"])
        for rows, predictions in zip(features, scored, strict=True):
            keys = rows.frame(self.entity)
            # A night's predictions are its features' rows in their order; anything else is no earlier night of ours.
            assert keys.equals(predictions.select(self.entity))
            if rows.height:
                yield _Part(keys, rows.columns(self.encoding), predictions["score"].to_numpy(), keys.row(-1))


@dataclass(frozen=True)
class _Part:
    """One batch of the earlier night."""

    keys: pl.DataFrame
    columns: list[Vector]
    scores: Vector
    last: tuple[Any, ...]

    def compare(self, keys: pl.DataFrame, columns: list[Vector], unchanged: Mask, scores: Vector) -> None:
        """Mark tonight's rows that are here with the same columns, and fill in their scores."""
        both = keys.with_row_index("now").join(self.keys.with_row_index("then"), on=keys.columns)
        now, then = both["now"].to_numpy(), both["then"].to_numpy()
        same = np.ones(len(now), dtype=bool)
        for ours, theirs in zip(columns, self.columns, strict=True):
            same &= ours[now].view(np.int64) == theirs[then].view(np.int64)
        unchanged[now[same]] = True
        scores[now[same]] = self.scores[then[same]]
