"""lleaves: the model compiled by LLVM beforehand, then Arrow batches. `prepare` compiles, which is not timed."""

import sys

import lleaves

from benchmarks.bench.peers.frames import Predict, score_in_batches
from benchmarks.bench.work import Task, Work

COMPILED = "lleaves.bin"


def prepare(work: Work) -> None:
    """Compile the model and keep it."""
    lleaves.Model(model_file=str(work.model)).compile(cache=str(work.prepared(COMPILED)))


def load(work: Work) -> Predict:
    """The compiled model's scores."""
    model = lleaves.Model(model_file=str(work.model))
    model.compile(cache=str(work.prepared(COMPILED)))
    return lambda matrix: model.predict(matrix, n_jobs=work.threads)


if __name__ == "__main__":
    task = Task.from_arguments()
    prepare(task.work) if "prepare" in sys.argv else score_in_batches(task, load(task.work))
