"""Reproducing a version against training it, and the cost of a snapshot.

Run on a deployment that has a version: `.venv/bin/python benchmarks/reproduce_against_training.py flight_delay@1`.
Training is what `train_version` does once its training set is made; reproduction is the whole command's work with a
warm environment: verifying, unpacking, laying out, the child process, comparing. Interleaved, three times each.
"""

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from nightscore.lake.objects import ObjectStore
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.registry.capsule import write_capsule
from nightscore.registry.provenance import find_provenance
from nightscore.registry.register import TRAINING_SET_FILE
from nightscore.registry.versions import require_version
from nightscore.reproduction.versions import reproduce_version
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.training.fit import train

ROUNDS = 3
PARTITIONS = 365


def train_once(workspace: Workspace, name: str, training_set: str) -> float:
    """Seconds of one training: read, fit, evaluate, write the capsule."""
    import polars as pl

    pipeline = load_spec(workspace.settings.pipelines_path / f"{name}.yaml")
    begun = perf_counter()
    frame = pl.read_parquet(workspace.lake.store.verified_path(training_set))
    provenance = find_provenance(workspace.settings.root, name)
    with TemporaryDirectory() as folder:
        write_capsule(Path(folder) / "capsule", train(frame, pipeline), "", {}, provenance.files)
    return perf_counter() - begun


def snapshot_once() -> float:
    """Seconds to pin 365 partitions that are in the store."""
    with TemporaryDirectory() as folder:
        store = ObjectStore(Path(folder))
        entries = {f"features/{at:03}.parquet": store.put_bytes(str(at).encode()).md5 for at in range(PARTITIONS)}
        begun = perf_counter()
        store.put_directory(entries)
        return perf_counter() - begun


def main(subject: str) -> None:
    """Measure and print the ratio."""
    workspace = open_workspace(Settings())
    name, _, number = subject.partition("@")
    version = require_version(workspace, name, int(number))
    training_set = workspace.lake.store.read_directory(version.snapshot_md5)[TRAINING_SET_FILE]
    trained, reproduced = [], []
    for _ in range(ROUNDS):
        trained.append(train_once(workspace, name, training_set))
        made = reproduce_version(workspace, version, "benchmark")
        assert made.outcome == "reproduced", made.first_difference
        reproduced.append(made.seconds)
    ratio = median(reproduced) / median(trained)
    print(f"train {median(trained):.2f} s, reproduce {median(reproduced):.2f} s, ratio {ratio:.2f}")
    print(f"snapshot of {PARTITIONS} partitions: {median(snapshot_once() for _ in range(ROUNDS)):.3f} s")


if __name__ == "__main__":
    main(sys.argv[1])
