"""Ray Data: `map_batches` over an actor a core, each with the model. Key, score and decision; nobody ranks."""

import logging

import lightgbm
import numpy as np
import pyarrow as pa
import ray

from benchmarks.bench.peers.frames import matrix_of_frame
from benchmarks.bench.work import BATCH_ROWS, FEATURES, KEY, THRESHOLD, Task


class Scorer:
    """One actor's model."""

    def __init__(self, model_file: str) -> None:
        self.booster = lightgbm.Booster(model_file=model_file)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score a batch; `batch_format="pandas"` would give Arrow-backed columns, which cost more."""
        scores = np.asarray(self.booster.predict(matrix_of_frame(batch.to_pandas()), num_threads=1))
        return pa.table({KEY: batch[KEY], "score": scores, "decision": scores >= THRESHOLD})


def run(task: Task) -> None:
    """Start a cluster of this machine's cores, score, stop it."""
    ray.init(
        num_cpus=task.work.threads + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        object_store_memory=2 << 30,
    )  # fmt: skip
    rows = ray.data.read_parquet([str(path) for path in task.work.files], columns=[KEY, *FEATURES])
    scored = rows.map_batches(
        Scorer, fn_constructor_args=(str(task.work.model),), batch_format="pyarrow", batch_size=BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(size=task.work.threads),
    )  # fmt: skip
    scored.write_parquet(str(task.target))
    ray.shutdown()


if __name__ == "__main__":
    run(Task.from_arguments())
