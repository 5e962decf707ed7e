"""What peers share: from their frames to the model's matrix, and from scores to a file of predictions.

Runs in every environment, on numpy, pandas and pyarrow alone. Added here: what two peers need. Not here: a peer.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.bench.work import BATCH_ROWS, FEATURES, KEY, LEVELS, THRESHOLD, TOP_SHARE, Task

Values = npt.NDArray[np.float64]
Predict = Callable[[Values], Values]


def matrix_of_frame(frame: pd.DataFrame) -> Values:
    """The matrix (rows, features) of a pandas frame; nulls and unknown levels are NaN."""
    matrix = np.empty((len(frame), len(FEATURES)))
    for at, name in enumerate(FEATURES):
        column = frame[name]
        if name in LEVELS:
            codes = np.asarray(pd.Categorical(column, categories=list(LEVELS[name])).codes)
            matrix[:, at] = np.where(codes < 0, np.nan, codes)
        else:
            matrix[:, at] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return matrix


def matrix_of_batch(batch: pa.RecordBatch) -> Values:
    """The matrix (rows, features) of an Arrow batch whose categories are dictionaries."""
    matrix = np.empty((batch.num_rows, len(FEATURES)))
    for at, name in enumerate(FEATURES):
        column = batch.column(name)
        matrix[:, at] = _codes(column, LEVELS[name]) if name in LEVELS else column.to_numpy(zero_copy_only=False)
    return matrix


def _codes(column: pa.DictionaryArray, levels: tuple[str, ...]) -> Values:
    places = {level: float(at) for at, level in enumerate(levels)}
    table = np.array([places.get(level, np.nan) for level in column.dictionary.to_pylist()])
    return table[column.indices.to_numpy(zero_copy_only=False)]


def score_in_batches(task: Task, predict: Predict) -> None:
    """Stream the files through `predict` in bounded memory, then rank and write; rows lie in the order of their key."""
    keys, scores = [], []
    files = [str(path) for path in task.work.files]
    for batch in ds.dataset(files, format="parquet").to_batches(columns=[KEY, *FEATURES], batch_size=BATCH_ROWS):
        keys.append(batch.column(KEY).to_numpy())
        scores.append(np.asarray(predict(matrix_of_batch(batch)), dtype=np.float64))
    write_ranked(np.concatenate(keys), np.concatenate(scores), task.target)


def write_ranked(keys: npt.NDArray[np.int64], scores: Values, target: Path) -> None:
    """Key, score, decision, rank, decile and top k as one file; ties go to the earlier row."""
    rows = len(scores)
    ranks = np.empty(rows, dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, rows + 1)
    write(keys, scores, ranks, target)


def write(keys: npt.NDArray[np.int64], scores: Values, ranks: npt.NDArray[np.int64], target: Path) -> None:
    """The six columns that readers want."""
    rows = len(scores)
    columns = {
        KEY: keys, "score": scores, "decision": scores >= THRESHOLD, "rank": ranks,
        "decile": (10 * ranks + rows - 1) // rows, "topk": ranks <= rows // TOP_SHARE,
    }  # fmt: skip
    pq.write_table(pa.table(columns), target, compression="zstd", compression_level=1)
