"""Features and labels as a pure function: the pipeline's SQL, files of clean partitions, and the nights wanted.

It knows no catalog, so a night of the past is computed by the same lines as tonight's.
Added here: what SQL is run with. Not here: which files a night may read (`inputs.py`), or commits (`build.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.errors import FeatureBuildFailed
from nightscore.features.dbt import run_dbt
from nightscore.features.scratch import Files, open_scratch, read_night
from nightscore.settings import Settings
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline

Tables = dict[str, dict[date, pl.DataFrame]]
"""Dataset → night → rows, sorted by key."""


@dataclass(frozen=True)
class BuiltTables:
    """The features and labels of a build, still in its scratch database."""

    pipeline: Pipeline
    connection: Any

    @property
    def datasets(self) -> tuple[str, str]:
        """Features, labels."""
        return features_dataset(self.pipeline.name), labels_dataset(self.pipeline.name)

    def read(self, dataset: str, night: date) -> Iterator[pl.DataFrame]:
        """The rows of one night in order of their key, before any gate, in batches; at least one, maybe empty.

        Raises FeatureBuildFailed naming every declared feature that the SQL does not make.
        """
        key = ("score_date", *self.pipeline.entity.key)
        if dataset == features_dataset(self.pipeline.name):
            columns = self._declared([*dict.fromkeys([*key, *self.pipeline.feature_names])])
            return read_night(self.connection, self.pipeline.features.model, columns, "score_date", night, key)
        table = self.pipeline.label.model
        return read_night(self.connection, table, self._columns(table), "known_on", night, key)

    def _declared(self, wanted: list[str]) -> list[str]:
        model = self.pipeline.features.model
        there = self._columns(model)
        missing = [f"column {name} is missing from its result" for name in wanted if name not in there]
        if missing:
            remedy = "make the SQL and the spec's features.columns agree"
            raise FeatureBuildFailed(f"Building {model}", missing, remedy)
        return wanted

    def _columns(self, table: str) -> list[str]:
        return list(self.connection.table(f'features."{table}"').columns)


@contextmanager
def build_tables(
    settings: Settings, pipeline: Pipeline, files: Files, readable: Path, nights: Sequence[date]
) -> Iterator[BuiltTables]:
    """Build the features of `nights`, and the labels that became known on them; they are there until the end.

    `files` lie in the folder `readable`. Raises FeatureBuildFailed with every failed model and test.
    """
    variables = {"start_date": min(nights), "end_date": max(nights), "horizon_days": pipeline.label.horizon_days}
    command = ["build", "--select", f"nightscore.{pipeline.name}", "--exclude-resource-type", "unit_test"]
    with open_scratch(settings, files, readable) as (path, connection):
        environment = {
            "NIGHTSCORE_SCRATCH": str(path), "NIGHTSCORE_DUCKDB_MEMORY": settings.memory_limit,
            "NIGHTSCORE_DUCKDB_THREADS": str(settings.threads),
        }  # fmt: skip
        run_dbt(settings, "features", command, variables, environment)
        yield BuiltTables(pipeline, connection)


def compute_features(
    settings: Settings, pipeline: Pipeline, files: Files, readable: Path, nights: Sequence[date]
) -> Tables:
    """All that `build_tables` gives, as frames in memory."""
    with build_tables(settings, pipeline, files, readable, nights) as built:
        return {name: {night: pl.concat(built.read(name, night)) for night in nights} for name in built.datasets}
