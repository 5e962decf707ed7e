"""The training set of a night: the mature score dates of its window, features joined with labels, every row accounted.

Added here: rules of which rows a model may learn from. Not here: fitting (`fit.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from nightscore.catalog.gates import RowAccount
from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.watch import newest_state, newest_watch_verdict
from nightscore.errors import NotEnoughData
from nightscore.lake.fingerprints import fingerprint
from nightscore.lake.objects import StoredObject
from nightscore.lake.outcomes import record_accounts
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.spec.datasets import features_dataset, labels_dataset, training_set_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from nightscore.training.matrix import row_key

HELD_BACK = "the watch held it back"


@dataclass(frozen=True)
class TrainingSet:
    """The rows a model may learn from, what they were made of, and which dates were left out and why."""

    as_of: date
    frame: pl.DataFrame
    stored: StoredObject
    features: Sequence[PartitionVersion]
    labels: Sequence[PartitionVersion]
    account: RowAccount
    left_out: dict[date, str]


def make_training_set(workspace: Workspace, pipeline: Pipeline, as_of: date, run_id: str) -> TrainingSet:
    """Join and commit the training set of night `as_of`; equal content is reused.

    Nights that the watch held back are left out. Raises NotReadable for another date of the window that has not passed
    its gates, NotEnoughData when none is mature or all were held back.
    """
    whole = training_window(pipeline, as_of)
    window = _without_held_back(workspace, pipeline, whole)
    labels_known = [night for night in _label_nights(pipeline, window) if night <= as_of]
    features = workspace.lake.require(features_dataset(pipeline.name), window)
    labels = workspace.lake.require(labels_dataset(pipeline.name), labels_known)
    inputs = (*features, *labels)
    joined = join_labels(pipeline, workspace.lake.scan(features), workspace.lake.scan(labels))
    dataset, rows = training_set_dataset(pipeline.name), joined.frame.height
    stored = workspace.lake.put(joined.frame, row_key(pipeline))
    standing = workspace.lake.current(dataset, as_of, as_of)
    recipe = fingerprint("training set", read=[version.md5 for version in inputs])
    workspace.lake.commit([candidate(dataset, as_of, stored, rows, recipe, standing, inputs)], run_id)
    account = RowAccount(pipeline.name, dataset, as_of, joined.rows_in, rows, 0, joined.excluded)
    record_accounts(workspace, [account], run_id)
    left_out = joined.left_out | dict.fromkeys((night for night in whole if night not in window), HELD_BACK)
    return TrainingSet(as_of, joined.frame, stored, features, labels, account, left_out)


def _without_held_back(workspace: Workspace, pipeline: Pipeline, window: Sequence[date]) -> list[date]:
    held_back = nights_held_back(workspace, pipeline)
    nights = [night for night in window if night not in held_back]
    if not nights:
        raise NotEnoughData(
            f"Choosing the training window of {pipeline.name}",
            f"the watch held back every night from {window[0]} to {window[-1]}",
            f"accept the incidents that are no faults (`nightscore incidents list {pipeline.name}`), or train later",
        )
    return nights


def nights_held_back(workspace: Workspace, pipeline: Pipeline) -> frozenset[date]:
    """Nights with a fault that nobody has called normal or repaired since: no model learns from them."""
    with workspace.engine.connect() as connection:
        state = newest_state(connection, pipeline.name) or {}
        found = [date.fromisoformat(one["night"]) for one in state.get("excluded", ())]
        verdicts = {night: newest_watch_verdict(connection, pipeline.name, night) for night in found}
    return frozenset(night for night, one in verdicts.items() if one is None or not one.passed)


def training_window(pipeline: Pipeline, as_of: date) -> list[date]:
    """The score dates of the window whose label horizon has passed by the night `as_of`."""
    first = max(as_of - timedelta(days=pipeline.training.window_days), pipeline.score_dates.start)
    last = as_of - timedelta(days=max(1, pipeline.label.horizon_days))
    nights = nights_between(first, last)
    if not nights:
        raise NotEnoughData(
            f"Choosing the training window of {pipeline.name} for {as_of}",
            f"no score date from {first} on is mature by then (horizon {pipeline.label.horizon_days} days)",
            f"train for a night from {pipeline.first_night} on",
        )
    return nights


def _label_nights(pipeline: Pipeline, window: Sequence[date]) -> list[date]:
    horizon = timedelta(days=pipeline.label.horizon_days)
    return [night + horizon for night in window]


@dataclass(frozen=True)
class JoinedRows:
    """Rows that a model may learn from, and what became of the others."""

    frame: pl.DataFrame
    rows_in: int
    excluded: dict[str, int]
    left_out: dict[date, str]


def join_labels(pipeline: Pipeline, features: pl.LazyFrame, labels: pl.LazyFrame) -> JoinedRows:
    """Features with their labels, sorted by key, without rows and dates that cannot teach."""
    key = ["score_date", *pipeline.entity.key]
    known = labels.select(*key, pipeline.label.column)
    rows = features.join(known, on=key, how="left").collect().sort(key)
    labelled = pl.col(pipeline.label.column).is_not_null()
    coverage = rows.group_by("score_date").agg(labelled.mean().alias("share")).sort("score_date")
    thin = coverage.filter(pl.col("share") < pipeline.label.min_coverage)
    left_out = {night: f"only {share:.1%} of its rows have labels" for night, share in thin.iter_rows()}
    covered = ~pl.col("score_date").is_in(list(left_out))
    excluded = {
        "date with too few labels": rows.filter(~covered).height,
        "never labelled": rows.filter(covered & ~labelled).height,
    }
    return JoinedRows(rows.filter(labelled & covered), rows.height, excluded, left_out)
