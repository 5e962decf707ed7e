"""Feature frame to float64 matrix: pinned column order, stored category levels, types checked first.

Added here: the encoding of a new feature type. Not here: imputation or scaling, which belong to an algorithm.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.errors import FeatureBuildFailed
from nightscore.spec.pipeline import Pipeline

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Levels = tuple[str, ...] | tuple[int, ...]

SCORE_DATE = "score_date"


@dataclass(frozen=True)
class Encoding:
    """Feature names and types in the model's order, and the sorted training levels of each category column."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    levels: Mapping[str, Levels]

    @property
    def category_indexes(self) -> tuple[int, ...]:
        """Positions of the category columns in the matrix."""
        return tuple(at for at, kind in enumerate(self.types) if kind == "category")

    @cached_property
    def codes(self) -> Mapping[str, Mapping[Any, float]]:
        """The number that stands for each level of each category column."""
        return {name: {level: float(at) for at, level in enumerate(levels)} for name, levels in self.levels.items()}

    def as_json(self) -> list[dict[str, Any]]:
        """One object a column, in order: name, type, and levels of a category."""
        return [self._column_as_json(name, kind) for name, kind in zip(self.names, self.types, strict=True)]

    def _column_as_json(self, name: str, kind: str) -> dict[str, Any]:
        levels = {"levels": list(self.levels[name])} if kind == "category" else {}
        return {"name": name, "type": kind, **levels}

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, Any]]) -> Self:
        """The inverse of `as_json`."""
        columns = tuple(columns)
        return cls(
            names=tuple(column["name"] for column in columns),
            types=tuple(column["type"] for column in columns),
            levels={column["name"]: tuple(column["levels"]) for column in columns if column["type"] == "category"},
        )


@dataclass(frozen=True)
class Examples:
    """What a model is fitted to: `matrix` (rows, features) and `labels` (rows,), sorted by key, and their encoding."""

    matrix: Matrix
    labels: Vector
    encoding: Encoding


def row_key(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns that identify a row over all nights: score date, then the entity key."""
    return (SCORE_DATE, *(name for name in pipeline.entity.key if name != SCORE_DATE))


def fit_encoding(frame: pl.DataFrame, pipeline: Pipeline) -> Encoding:
    """The encoding that `frame` teaches; raises FeatureBuildFailed where a feature is absent or of another type."""
    columns = pipeline.features.columns
    unfitted = Encoding(
        names=pipeline.feature_names,
        types=tuple(column.type for column in columns),
        levels={column.name: () for column in columns if column.type == "category"},
    )
    check_columns(frame, unfitted, (*row_key(pipeline), pipeline.label.column))
    return Encoding(unfitted.names, unfitted.types, {name: _levels(frame[name]) for name in unfitted.levels})


def _levels(column: pl.Series) -> Levels:
    return tuple(column.drop_nulls().unique().sort().to_list())


def encode(frame: pl.DataFrame, encoding: Encoding, others: Iterable[str] = ()) -> Matrix:
    """`frame` as a C-ordered matrix (rows, features) in the encoding's column order, whatever the frame's.

    Categories become the index of their level; booleans 0 or 1; null, NaN and unseen levels NaN. Columns named in
    `others` may stand beside the features. Raises FeatureBuildFailed naming every column that does not fit.
    """
    check_columns(frame, encoding, others)
    matrix = np.empty((frame.height, len(encoding.names)), dtype=np.float64)
    for at, name in enumerate(encoding.names):
        matrix[:, at] = encode_column(frame[name], encoding.levels.get(name))
    check_finite(dict(zip(encoding.names, matrix.T, strict=True)))
    return matrix


def encode_column(column: pl.Series, levels: Levels | None) -> Vector:
    """One column (rows,) of the matrix, its type unchecked; `levels` of a category, in their order."""
    if levels is not None and column.dtype != pl.Null:
        # A narrower integer type than in training could not even be compared with the levels.
        column = column.cast(pl.Int64, strict=False) if column.dtype.is_integer() else column
        codes = np.arange(len(levels), dtype=np.float64)
        column = column.replace_strict(list(levels), codes, default=None, return_dtype=pl.Float64)
    return column.cast(pl.Float64).to_numpy()  # a null becomes NaN


def check_columns(frame: pl.DataFrame, encoding: Encoding, others: Iterable[str] = ()) -> None:
    """Raise FeatureBuildFailed naming every missing, unexpected or wrongly typed column of `frame` at once."""
    unexpected = [name for name in frame.columns if name not in {*encoding.names, *others}]
    found = [*_missing(frame, encoding, unexpected), *(f"column {name} is not a feature" for name in unexpected)]
    found.extend(_wrong_types(frame, encoding))
    if found:
        raise FeatureBuildFailed(
            "encoding features for the model", found, "make the feature SQL and the spec's features.columns agree"
        )


def _missing(frame: pl.DataFrame, encoding: Encoding, unexpected: list[str]) -> Iterator[str]:
    there = set(frame.columns)
    for name in encoding.names:
        if name not in there:
            similar = get_close_matches(name, unexpected, n=1)
            yield f"column {name} is missing" + (f"; was it renamed {similar[0]}?" if similar else "")


def _wrong_types(frame: pl.DataFrame, encoding: Encoding) -> Iterator[str]:
    schema = frame.schema
    for name, kind in zip(encoding.names, encoding.types, strict=True):
        dtype = schema.get(name, pl.Null())
        if dtype != pl.Null and not _fits(dtype, kind, encoding.levels.get(name, ())):
            yield f"column {name} is {dtype}, expected {_expected(kind, encoding.levels.get(name, ()))}"


def _fits(dtype: pl.DataType, kind: str, levels: Levels) -> bool:
    if kind == "boolean":
        return dtype == pl.Boolean
    if kind == "category":
        return (dtype == pl.String and _may_hold(levels, str)) or (dtype.is_integer() and _may_hold(levels, int))
    return dtype.is_integer() or (kind == "float" and dtype.is_float())


def _may_hold(levels: Levels, kind: type) -> bool:
    return all(isinstance(level, kind) for level in levels[:1])


def _expected(kind: str, levels: Levels) -> str:
    if kind == "category":
        return "String or integer levels" if not levels else f"levels of type {type(levels[0]).__name__}"
    return {"float": "a float or integer", "integer": "an integer", "boolean": "Boolean"}[kind]


def check_finite(columns: Mapping[str, Vector]) -> None:
    """Raise FeatureBuildFailed naming every column with infinite values, and how many."""
    infinite = {name: int(np.isinf(column).sum()) for name, column in columns.items()}
    found = [f"column {name} has {count} infinite values" for name, count in infinite.items() if count]
    if found:
        raise FeatureBuildFailed(
            "encoding features for the model", found, "make the feature SQL return null where a value is undefined"
        )
