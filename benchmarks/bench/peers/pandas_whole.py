"""pandas and LightGBM, the whole day in one frame: what most nightly jobs look like."""

import lightgbm
import pandas as pd

from benchmarks.bench.peers.frames import matrix_of_frame
from benchmarks.bench.work import FEATURES, KEY, THRESHOLD, TOP_SHARE, Task


def run(task: Task) -> None:
    """Read, score, rank, write."""
    frame = pd.read_parquet(task.work.day, columns=[KEY, *FEATURES])
    booster = lightgbm.Booster(model_file=task.work.model)
    scored = frame[[KEY]].copy()
    scored["score"] = booster.predict(matrix_of_frame(frame), num_threads=task.work.threads)
    scored["decision"] = scored["score"] >= THRESHOLD
    scored["rank"] = scored["score"].rank(method="first", ascending=False).astype("int64")
    scored["decile"] = (10 * scored["rank"] + len(scored) - 1) // len(scored)
    scored["topk"] = scored["rank"] <= len(scored) // TOP_SHARE
    scored.to_parquet(task.target, compression="zstd", index=False)


if __name__ == "__main__":
    run(Task.from_arguments())
