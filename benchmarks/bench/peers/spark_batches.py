"""Spark: `mapInPandas` on a local session with a core a thread. Key, score and decision; nobody ranks."""

import os
import sys
from collections.abc import Iterator

import lightgbm
import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from benchmarks.bench.peers.frames import matrix_of_frame
from benchmarks.bench.work import BATCH_ROWS, FEATURES, KEY, THRESHOLD, Task


def run(task: Task) -> None:
    """Start a session, score, stop it."""
    model_file = str(task.work.model)

    def score(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        booster = lightgbm.Booster(model_file=model_file)
        for frame in frames:
            scores = np.asarray(booster.predict(matrix_of_frame(frame), num_threads=1))
            yield pd.DataFrame({KEY: frame[KEY].to_numpy(), "score": scores, "decision": scores >= THRESHOLD})

    session = _session(task.work.threads)
    rows = session.read.parquet(*(str(path) for path in task.work.files)).select(KEY, *FEATURES)
    scored = rows.mapInPandas(score, f"{KEY} long, score double, decision boolean")
    scored.write.parquet(str(task.target))
    session.stop()


def _session(threads: int) -> SparkSession:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "4g",
        "spark.log.level": "ERROR",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.parquet.compression.codec": "zstd",
    }
    return SparkSession.builder.master(f"local[{threads}]").config(map=settings).getOrCreate()


if __name__ == "__main__":
    run(Task.from_arguments())
