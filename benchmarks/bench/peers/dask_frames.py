"""Dask: a worker process a core, a partition a file. Key, score and decision; nobody ranks."""

import dask.dataframe as dd
import lightgbm
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster

from benchmarks.bench.peers.frames import matrix_of_frame
from benchmarks.bench.work import FEATURES, KEY, THRESHOLD, Task


def score(frame: pd.DataFrame, model_file: str) -> pd.DataFrame:
    """One partition's predictions."""
    scores = np.asarray(lightgbm.Booster(model_file=model_file).predict(matrix_of_frame(frame), num_threads=1))
    return pd.DataFrame({KEY: frame[KEY].to_numpy(), "score": scores, "decision": scores >= THRESHOLD})


def run(task: Task) -> None:
    """Start workers, score, stop them."""
    workers = LocalCluster(
        n_workers=task.work.threads, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
    )
    with workers as cluster, Client(cluster):
        rows = dd.read_parquet([str(path) for path in task.work.files], columns=[KEY, *FEATURES])
        meta = {KEY: "int64", "score": "float64", "decision": "bool"}
        scored = rows.map_partitions(score, str(task.work.model), meta=meta)
        scored.to_parquet(str(task.target), compression="zstd", write_index=False)


if __name__ == "__main__":
    run(Task.from_arguments())
