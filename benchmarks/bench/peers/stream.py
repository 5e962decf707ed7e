"""Arrow batches and LightGBM: the same in bounded memory."""

import lightgbm

from benchmarks.bench.peers.frames import score_in_batches
from benchmarks.bench.work import Task


def run(task: Task) -> None:
    """Score batch by batch."""
    booster = lightgbm.Booster(model_file=task.work.model)
    score_in_batches(task, lambda matrix: booster.predict(matrix, num_threads=task.work.threads))


if __name__ == "__main__":
    run(Task.from_arguments())
