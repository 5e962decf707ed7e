"""Reading and writing alone: every column is read in batches, a float stands for the score, nothing is ranked.

No scorer of these files can be faster by much; it is the floor of the comparison.
"""

import numpy as np
import pyarrow.dataset as ds

from benchmarks.bench.peers.frames import write
from benchmarks.bench.work import BATCH_ROWS, FEATURES, FLOATS, KEY, Task


def run(task: Task) -> None:
    """Read and write."""
    keys, scores = [], []
    files = [str(path) for path in task.work.files]
    for batch in ds.dataset(files, format="parquet").to_batches(columns=[KEY, *FEATURES], batch_size=BATCH_ROWS):
        keys.append(batch.column(KEY).to_numpy())
        scores.append(batch.column(FLOATS[-1]).to_numpy())
    key = np.concatenate(keys)
    write(key, np.concatenate(scores).astype(np.float64), np.arange(1, len(key) + 1), task.target)


if __name__ == "__main__":
    run(Task.from_arguments())
