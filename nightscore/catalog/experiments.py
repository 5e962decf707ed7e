"""Experiments: searches for settings, and every fit that was measured, with its data, code and author.

Added here: queries on `study` and `training_run`. Not here: running a trial (`nightscore/registry/studies.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import study, training_run


@dataclass(frozen=True)
class Study:
    """One search; `space` says what was searched and on which folds, `study_id` is None until it is stored.

    `trials` and `minutes`: the budget that it was opened with.
    """

    pipeline: str
    as_of: date
    fingerprint: str
    space: Mapping[str, Any]
    trials: int
    minutes: float
    created_by: str
    created_at: datetime
    study_id: int | None = None


@dataclass(frozen=True)
class TrainingRun:
    """One measured fit; `kind` is train, trial or ci, `training_run_id` is None until it is stored."""

    pipeline: str
    kind: str
    study_id: int | None
    number: int | None
    as_of: date
    version: int | None
    status: str
    algorithm: str
    parameters: Mapping[str, Any]
    snapshot_md5: str
    metrics: Mapping[str, Any]
    seconds: float
    code_sha256: str
    provenance: Mapping[str, Any]
    created_by: str
    run_id: str
    at: datetime
    training_run_id: int | None = None


def find_or_open_study(connection: sa.Connection, wanted: Study) -> Study:
    """The study of this pipeline and fingerprint: the one that stands, else `wanted`, stored now."""
    values = {name: value for name, value in vars(wanted).items() if name != "study_id"}
    opened = insert(study).values(values | {"space": dict(wanted.space)}).on_conflict_do_nothing().returning(study)
    standing = sa.select(study).where(study.c.pipeline == wanted.pipeline, study.c.fingerprint == wanted.fingerprint)
    row = connection.execute(opened).mappings().first() or connection.execute(standing).mappings().one()
    return Study(**row)


def find_study(connection: sa.Connection, study_id: int) -> Study | None:
    """One study, or None."""
    row = connection.execute(sa.select(study).where(study.c.study_id == study_id)).mappings().first()
    return None if row is None else Study(**row)


def list_studies(connection: sa.Connection, pipeline: str | None = None, limit: int = 100) -> list[Study]:
    """The newest studies first, of one pipeline or of all."""
    query = sa.select(study).order_by(study.c.study_id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(study.c.pipeline == pipeline)
    return [Study(**row) for row in connection.execute(query).mappings()]


def record_training_run(connection: sa.Connection, run: TrainingRun) -> int | None:
    """Append a run and return its id; None for a trial that another process has stored already."""
    values = {name: value for name, value in vars(run).items() if name != "training_run_id"}
    documents = {name: dict(values[name]) for name in ("parameters", "metrics", "provenance")}
    appended = insert(training_run).values(values | documents)
    # Only the number of a trial within its study can meet another row.
    once = appended.on_conflict_do_nothing(constraint="training_run_once_a_trial")
    stored: int | None = connection.scalar(once.returning(training_run.c.training_run_id))
    return stored


def runs_of_study(connection: sa.Connection, study_id: int) -> list[TrainingRun]:
    """Every trial of a study, by number."""
    query = sa.select(training_run).where(training_run.c.study_id == study_id).order_by(training_run.c.number)
    return [TrainingRun(**row) for row in connection.execute(query).mappings()]


def list_training_runs(
    connection: sa.Connection, pipeline: str | None = None, kind: str | None = None, limit: int = 100
) -> list[TrainingRun]:
    """The newest runs first, of one pipeline or of all, of one kind or of any."""
    query = sa.select(training_run).order_by(training_run.c.training_run_id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(training_run.c.pipeline == pipeline)
    if kind is not None:
        query = query.where(training_run.c.kind == kind)
    return [TrainingRun(**row) for row in connection.execute(query).mappings()]


def find_run(connection: sa.Connection, training_run_id: int) -> TrainingRun | None:
    """One run, or None."""
    query = sa.select(training_run).where(training_run.c.training_run_id == training_run_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else TrainingRun(**row)
