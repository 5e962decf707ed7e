"""What a rollout, or a new champion, has shown by a night: paired on rows that both versions score, and arm by arm.

Paired evidence is the stronger one, since both versions score every row; the arms show what readers got.
Added here: another figure of a read-out. Not here: what follows from it (`rollouts.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.rollouts import Rollout, events_of_rollout
from nightscore.lake.workspace import Workspace
from nightscore.measures.clustered import compare_arms
from nightscore.measures.paired import losses
from nightscore.registry.families import is_refresh
from nightscore.registry.gate import Verdict, judge
from nightscore.registry.names import CHAMPION
from nightscore.registry.unseen import PairedRows, paired_rows
from nightscore.registry.versions import require_version
from nightscore.spec.datasets import labels_dataset, predictions_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from nightscore.training.matrix import SCORE_DATE, row_key


@dataclass(frozen=True)
class Readout:
    """A verdict as the promotion gate gives it, in a line, and what it rests on."""

    outcome: str
    reason: str
    evidence: Mapping[str, Any]


def read_rollout(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, night: date) -> Readout:
    """Challenger against champion on mature dates since the rollout began, as known on `night`.

    A canary that the gate let through has only to be not worse; a shadow of another recipe has to be better.
    """
    champion = require_version(workspace, pipeline.name, rollout.base_version)
    challenger = require_version(workspace, pipeline.name, rollout.version)
    with workspace.engine.connect() as connection:
        begun: date = events_of_rollout(connection, rollout.rollout_id)[0]["score_date"] + timedelta(days=1)
    rows = _since(paired_rows(workspace, pipeline, champion, challenger, night), begun)
    verdict = judge(_live(pipeline), rows, rollout.kind != "shadow" or is_refresh(champion, challenger))
    arms = {} if rollout.kind == "shadow" else {"arms": compare_published(workspace, pipeline, begun, night)}
    return _readout(verdict, arms | {"rollout": rollout.rollout_id, "since": str(begun), "percent": rollout.percent})


def read_watch(
    workspace: Workspace, pipeline: Pipeline, previous: ModelVersion, champion: ModelVersion, since: date, night: date
) -> Readout:
    """A new champion against the one before it, on mature dates from `since` on."""
    rows = _since(paired_rows(workspace, pipeline, previous, champion, night), since)
    return _readout(judge(_live(pipeline), rows, is_refresh=True), {"since": str(since), "against": previous.name})


def _live(pipeline: Pipeline) -> Pipeline:
    """With no limit of the gain, which is 1 at most: on nights scored before their labels were known it is no leak."""
    return pipeline.model_copy(update={"promotion": pipeline.promotion.model_copy(update={"max_gain": 1.0})})


def _since(rows: PairedRows, first: date) -> PairedRows:
    dates = tuple(day for day in rows.dates if day >= first)
    frame = rows.frame.filter(pl.col(SCORE_DATE) >= first) if rows.frame.width else rows.frame
    return replace(rows, frame=frame, dates=dates)


def _readout(verdict: Verdict, more: Mapping[str, Any]) -> Readout:
    return Readout(verdict.outcome, "; ".join(verdict.reasons), {**verdict.evidence, "gate": verdict.outcome, **more})


def compare_published(workspace: Workspace, pipeline: Pipeline, first: date, night: date) -> dict[str, Any] | None:
    """Mean loss and share of yes decisions of both arms, on mature nights as they were scored; None without both.

    Differences (challenger less champion) have intervals clustered by entity and by date.
    """
    last = night - timedelta(days=max(1, pipeline.label.horizon_days))
    nights = nights_between(first, last) if first <= last else []
    frame = _labelled(workspace, pipeline, nights)
    if frame is None or frame["arm"].n_unique() < 2:
        return None
    labels = frame[pipeline.label.column].cast(pl.Float64).to_numpy()
    shown = frame.select(pl.coalesce("probability", "score")).to_series().to_numpy()
    entity = frame.select(pl.struct(list(pipeline.rollout.entity or pipeline.entity.key))).to_series()
    codes = (_codes(entity), _codes(frame[SCORE_DATE]))
    challenger = (frame["arm"] != CHAMPION).to_numpy()
    figures = {
        "loss": losses(pipeline.task, labels, shown),
        "decided": frame["decision"].cast(pl.Float64).to_numpy(),
        "outcome": labels,
    }  # fmt: skip
    return {name: compare_arms(values, challenger, *codes).as_json() for name, values in figures.items()}


def _codes(values: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    return values.rank("dense").cast(pl.Int64).to_numpy() - 1


def _labelled(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date]) -> pl.DataFrame | None:
    """The current predictions of `nights` that have labels."""
    if not nights:
        return None
    horizon, lake, key = timedelta(days=pipeline.label.horizon_days), workspace.lake, list(row_key(pipeline))
    scored = lake.current(predictions_dataset(pipeline.name), nights[0], nights[-1])
    known = lake.current(labels_dataset(pipeline.name), nights[0] + horizon, nights[-1] + horizon)
    if not scored or not known:
        return None
    wanted = [*key, "score", "probability", "decision", "arm"]
    predictions = pl.concat([lake.scan([one]).select(wanted) for one in scored.values()])
    labels = pl.concat([lake.scan([one]).select(*key, pipeline.label.column) for one in known.values()])
    joined = predictions.join(labels, on=key).filter(pl.col(pipeline.label.column).is_not_null()).collect()
    return joined.sort(key) if joined.height else None
