"""Nightscore's own run of the reference work, as a night does it after its features are there.

Added here: another way in. Not here: peers (`peers/`).
"""

from datetime import date

from benchmarks.bench.work import DAY, KEY, Task
from nightscore.lake.parquet import write_batches
from nightscore.registry.capsule import read_capsule
from nightscore.scoring.arms import Arms
from nightscore.scoring.files import score_files
from nightscore.scoring.predictions import predict_night
from nightscore.spec.loader import load_spec


def from_lake(task: Task) -> None:
    """From a features partition to a predictions partition, which carries its content hash."""
    pipeline, arms = load_spec(task.work.spec), Arms(1, read_capsule(task.work.capsule))
    night = predict_night(pipeline, arms, task.work.partition, task.work.threads)
    write_batches(night.batches(), ("score_date", KEY), task.target)


def from_files(task: Task) -> None:
    """From the same 16 files that peers read."""
    work, arms = task.work, Arms(1, read_capsule(task.work.capsule))
    score_files(load_spec(work.spec), arms, work.files, date.fromisoformat(DAY), task.target, work.threads)


if __name__ == "__main__":
    given = Task.from_arguments()
    from_files(given) if given.source == "files" else from_lake(given)
