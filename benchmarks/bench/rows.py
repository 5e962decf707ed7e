"""Made-up rows of the reference work: deterministic, part by part, whatever the number of parts in memory.

Added here: the shape of a column. Not here: files and models (`data.py`).
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.bench.work import FEATURES, FLOATS, INTEGERS, KEY, LEVELS, NULL_SHARE, WITH_NULLS

SEED = 20260115
TRAINING_SEED = 7
Values = npt.NDArray[np.float64]


def make_rows(first: int, rows: int, seed: int, part: int = 0) -> pl.DataFrame:
    """`rows` rows with keys from `first` on: Float32, Int32 and Categorical columns as a feature job would leave them.

    Of floats a third are normal, a third skewed, a third rounded to two places, which makes ties.
    """
    random = np.random.default_rng([seed, part])
    columns = {KEY: pl.Series(np.arange(first, first + rows, dtype=np.int64))}
    for at, name in enumerate(FLOATS):
        values = _floats(random, rows, at % 3).astype(np.float32)
        columns[name] = pl.Series(values)
        if name in WITH_NULLS:
            missing = pl.Series(random.random(rows) < NULL_SHARE)
            columns[name] = columns[name].zip_with(~missing, pl.Series([None], dtype=pl.Float32))
    for at, name in enumerate(INTEGERS):
        columns[name] = pl.Series(random.integers(0, 10 ** (at % 3 + 1), rows, dtype=np.int32))
    for name, levels in LEVELS.items():
        codes = (len(levels) * random.random(rows) ** 1.5).astype(np.uint32)
        columns[name] = pl.Series(levels).gather(codes).cast(pl.Categorical)
    return pl.DataFrame(columns)


def _floats(random: np.random.Generator, rows: int, shape: int) -> Values:
    if shape == 0:
        return random.standard_normal(rows)
    return random.exponential(1.0, rows) if shape == 1 else np.round(random.normal(0, 3, rows), 2)


def matrix_of(frame: pl.DataFrame) -> Values:
    """The model's matrix (rows, features), C-ordered; nulls are NaN, levels are their places."""
    matrix = np.empty((frame.height, len(FEATURES)))
    for at, name in enumerate(FEATURES):
        column = frame[name]
        if name in LEVELS:
            column = column.cast(pl.String).cast(pl.Enum(LEVELS[name])).to_physical()
        matrix[:, at] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return matrix


def labels_of(matrix: Values, seed: int) -> Values:
    """Labels (rows,) that lean on every feature, on a few interactions and on chance; about a third are 1."""
    random = np.random.default_rng([seed, 1])
    known = np.nan_to_num(matrix)
    scaled = (known - known.mean(axis=0)) / known.std(axis=0)
    first_level = len(FEATURES) - len(LEVELS)
    merit = 0.25 * scaled[:, :first_level] @ random.normal(size=first_level)
    for at, levels in enumerate(LEVELS.values()):
        merit += 0.5 * random.normal(size=len(levels))[known[:, first_level + at].astype(np.int64)]
    merit += 0.4 * scaled[:, 5] * scaled[:, 6] + 0.5 * np.sin(2 * scaled[:, 9]) - 0.3 * np.isnan(matrix[:, 0])
    return (merit - 0.8 + random.logistic(size=len(merit)) > 0).astype(np.float64)
