"""One predictor alone: rows in memory, one timed call after a small one to warm up; its figures as a line of JSON.

Run in the environment of the predictor, so nothing but numpy is imported before the choice.
Added here: a predictor. Not here: rounds and ratios (`predicting.py`).
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from benchmarks.bench.work import Task, Work

Values = npt.NDArray[np.float64]
Predict = Callable[[Values], Values]
MATRIX = "matrix.npy"
WARM_ROWS = 5_000
BLOCK_ROWS = 16_384


def lightgbm(work: Work) -> Predict:
    """LightGBM's own."""
    from lightgbm import Booster

    booster = Booster(model_file=work.model)
    return lambda matrix: np.asarray(booster.predict(matrix, num_threads=work.threads))


def kernel(work: Work, instructions: str) -> Predict:
    """Nightscore's kernel by one instruction set, blocks of rows in turn on so many threads."""
    from nightscore.scoring.forest import compile_forest
    from nightscore.scoring.kernel import Kernel

    compiled = Kernel.of(compile_forest(work.model.read_text()), instructions)

    def predict(matrix: Values) -> Values:
        columns = list(matrix.T)
        bounds = [(start, min(start + BLOCK_ROWS, len(matrix))) for start in range(0, len(matrix), BLOCK_ROWS)]
        with ThreadPoolExecutor(work.threads) as threads:
            parts = threads.map(lambda bound: compiled.transform(compiled.add_trees(columns, *bound)), bounds)
            return np.concatenate(list(parts))[:, 0]

    return predict


def load(work: Work, name: str) -> Predict:
    """The predictor of that name; `kernel:<instruction set>` is ours."""
    if name.startswith("kernel:"):
        return kernel(work, name.removeprefix("kernel:"))
    if name == "lleaves":
        from benchmarks.bench.peers import lleaves_batches

        return lleaves_batches.load(work)
    if name == "onnx":
        from benchmarks.bench.peers import onnx_batches

        return onnx_batches.load(work)
    return lightgbm(work)


def main(task: Task) -> None:
    """Load, warm up, time one call; keep the scores."""
    matrix = np.load(task.work.prepared(MATRIX))
    # Ours reads columns, as they come from Parquet; others read rows. Each gets what it reads best.
    matrix = np.asfortranarray(matrix) if task.source.startswith("kernel:") else matrix
    begun = time.perf_counter()
    predict = load(task.work, task.source)
    loaded = time.perf_counter() - begun
    predict(np.asfortranarray(matrix[:WARM_ROWS]) if matrix.flags.f_contiguous else matrix[:WARM_ROWS])
    wall, cpu = time.perf_counter(), time.process_time()
    scores = predict(matrix)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(task.target, np.asarray(scores, dtype=np.float64))
    print(json.dumps({"load_s": loaded, "wall_s": wall, "cpu_s": cpu}))


if __name__ == "__main__":
    main(Task.from_arguments())
