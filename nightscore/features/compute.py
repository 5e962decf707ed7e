"""Features and labels as a pure function: the pipeline's SQL, files of clean partitions, and the nights wanted.

It knows no catalog, so a night of the past is computed by the same lines as tonight's.
Added here: what SQL is run with. Not here: which files a night may read (`inputs.py`), or commits (`build.py`).
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl

from nightscore.errors import FeatureBuildFailed
from nightscore.features.dbt import run_dbt
from nightscore.features.scratch import Files, export_nights, open_scratch
from nightscore.settings import Settings
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline

Tables = dict[str, dict[date, pl.DataFrame]]
"""Dataset → night → rows, sorted by key."""


def compute_features(
    settings: Settings, pipeline: Pipeline, files: Files, readable: Path, nights: Sequence[date]
) -> Tables:
    """The features of `nights`, and the labels that became known on them, before any gate.

    `files` lie in the folder `readable`. Raises FeatureBuildFailed with every failed model and test.
    """
    variables = {"start_date": min(nights), "end_date": max(nights), "horizon_days": pipeline.label.horizon_days}
    key = ["score_date", *pipeline.entity.key]
    command = ["build", "--select", f"nightscore.{pipeline.name}", "--exclude-resource-type", "unit_test"]
    with open_scratch(settings, files, readable) as (path, connection):
        environment = {
            "NIGHTSCORE_SCRATCH": str(path), "NIGHTSCORE_DUCKDB_MEMORY": settings.memory_limit,
            "NIGHTSCORE_DUCKDB_THREADS": str(settings.threads),
        }  # fmt: skip
        run_dbt(settings, "features", command, variables, environment)
        features = export_nights(connection, pipeline.features.model, "score_date", nights, key)
        labels = export_nights(connection, pipeline.label.model, "known_on", nights, key)
    return {
        features_dataset(pipeline.name): {night: _declared(frame, pipeline, key) for night, frame in features.items()},
        labels_dataset(pipeline.name): labels,
    }


def _declared(frame: pl.DataFrame, pipeline: Pipeline, key: Sequence[str]) -> pl.DataFrame:
    wanted = [*dict.fromkeys([*key, *pipeline.feature_names])]
    missing = [f"column {name} is missing from its result" for name in wanted if name not in frame.columns]
    if missing:
        raise FeatureBuildFailed(
            f"Building {pipeline.features.model}", missing, "make the SQL and the spec's features.columns agree"
        )
    return frame.select(wanted)
