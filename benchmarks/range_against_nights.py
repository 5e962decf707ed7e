"""Features of several nights in one dbt invocation against one invocation a night, on the flights example.

Prints seconds of each repetition and the median ratio; the features of both are compared for equality.
"""

import shutil
import statistics
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter

from nightscore.catalog.postgres import stop_server
from nightscore.features.build import build_features
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.quality.clean import clean_source
from nightscore.settings import Settings
from nightscore.sources.ingest import ingest_source
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.loader import load_spec
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between

NIGHTS = nights_between(date(2013, 2, 1), date(2013, 2, 10))
REPETITIONS = 3


def forget_features(workspace: Workspace, pipeline: Pipeline) -> None:
    """Remove the features' pointers and verdicts, so that they are built and judged anew."""
    with workspace.engine.begin() as connection:
        for dataset in (features_dataset(pipeline.name), labels_dataset(pipeline.name)):
            for table in ("partition_current", "gate_result"):
                connection.exec_driver_sql(f"delete from nightscore.{table} where dataset = %s", (dataset,))


def measure(workspace: Workspace, pipeline: Pipeline, one_by_one: bool) -> tuple[float, list[str]]:
    """Seconds for all nights, and the hashes of their features."""
    forget_features(workspace, pipeline)
    begun = perf_counter()
    for nights in [[night] for night in NIGHTS] if one_by_one else [NIGHTS]:
        build_features(workspace, pipeline, nights, "benchmark")
    seconds = perf_counter() - begun
    made = workspace.lake.require(features_dataset(pipeline.name), NIGHTS)
    return seconds, [version.md5 for version in made]


def main() -> None:
    """Prepare ten nights, measure both ways in turn, print the ratio."""
    home = Path(tempfile.mkdtemp(prefix="nightscore-benchmark-"))
    home.chmod(0o755)
    settings = Settings(home=home)
    pipeline = load_spec(settings.pipelines_path / "flight_delay.yaml")
    workspace = open_workspace(settings)
    try:
        for name in pipeline.sources:
            ingest_source(workspace, pipeline, name, NIGHTS, "benchmark")
            clean_source(workspace, pipeline, name, NIGHTS, "benchmark")
        measure(workspace, pipeline, one_by_one=False)
        pairs = [(measure(workspace, pipeline, True), measure(workspace, pipeline, False)) for _ in range(REPETITIONS)]
    finally:
        stop_server(home)
        shutil.rmtree(home)
    assert all(alone[1] == together[1] for alone, together in pairs)
    for alone, together in pairs:
        print(f"one by one {alone[0]:6.2f} s   together {together[0]:6.2f} s   ratio {alone[0] / together[0]:.1f}")
    print(f"median ratio {statistics.median(alone[0] / together[0] for alone, together in pairs):.1f}; equal features")


if __name__ == "__main__":
    main()
