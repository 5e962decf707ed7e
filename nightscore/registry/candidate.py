"""A candidate: what this checkout's spec, SQL and code would make, tried on a small window and judged in memory.

No version is registered, no alias moves and nothing is published; the catalog keeps the measured fit, of kind ci.
Added here: a step of trying a checkout. Not here: the verdict (`gate.py`), other unseen scores (`unseen.py`), or how it
is told (`nightscore/reports/ci.py`).
"""

import getpass
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import polars as pl

from nightscore.catalog.experiments import TrainingRun, record_training_run
from nightscore.catalog.models import ModelVersion, alias_holder
from nightscore.catalog.partitions import PartitionVersion
from nightscore.errors import FeatureBuildFailed
from nightscore.features.dbt import RanNode, run_dbt
from nightscore.features.scratch import open_scratch
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import require_alias
from nightscore.registry.families import family_of
from nightscore.registry.gate import Verdict, judge
from nightscore.registry.names import CHAMPION
from nightscore.registry.provenance import find_provenance
from nightscore.registry.unseen import (
    CHALLENGER_SCORE,
    CHAMPION_SCORE,
    PREDICTION,
    PairedRows,
    UnseenScorer,
    open_scorer,
)
from nightscore.settings import Settings
from nightscore.sources.columns import COLUMN_TYPES
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Algorithm, Constant
from nightscore.training.fit import HELD_OUT_PROBABILITY, HELD_OUT_SCORE, Trained, train
from nightscore.training.matrix import SCORE_DATE, row_key
from nightscore.training.training_set import join_labels, training_window

KIND = "ci"
WINDOW = 3
"""Score dates of the small window, in multiples of those that the gate compares, where the spec learns from more."""
_BASELINE_MAX_GAIN = 1.0
"""No model gains more than all of a loss: how much better than a baseline a model is says nothing of a leak."""


@dataclass(frozen=True)
class Candidate:
    """A model of the small window, which `pipeline` describes, with the labelled rows it was made of and measured on.

    `frame`: key, features and label of the window. `left_out`: dates that could not teach, and why.
    """

    pipeline: Pipeline
    as_of: date
    frame: pl.DataFrame
    trained: Trained
    left_out: dict[date, str]
    seconds: float


@dataclass(frozen=True)
class Opponent:
    """What a candidate was compared with; `said` is how people call it, `why` is empty for the champion."""

    said: str
    version: ModelVersion | None
    is_refresh: bool
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """The gate's verdict on a candidate, its reasons worded for the opponent it met."""

    opponent: Opponent
    verdict: Verdict

    @property
    def reasons(self) -> list[str]:
        """The verdict's reasons; where a baseline stood in for the champion, they say so."""
        if self.opponent.version is not None:
            return list(self.verdict.reasons)
        return [reason.replace("the champion", self.opponent.said) for reason in self.verdict.reasons]


def compile_sql(settings: Settings, pipeline: Pipeline) -> list[RanNode]:
    """Compile the pipeline's models, make them from sources without rows, and run their unit tests; says what ran.

    DuckDB binds every column and dbt enforces the contracts. Raises FeatureBuildFailed with every failed node.
    """
    night = pipeline.score_dates.start
    variables = {"start_date": night, "end_date": night, "horizon_days": pipeline.label.horizon_days}
    command = ["build", "--select", f"nightscore.{pipeline.name}", "--exclude-resource-type", "test"]
    parent = settings.home_path / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-") as folder:
        files = {name: {night: _write_empty(pipeline, name, Path(folder))} for name in pipeline.sources}
        with open_scratch(settings, files, Path(folder)) as (path, connection):
            environment = {
                "NIGHTSCORE_SCRATCH": str(path), "NIGHTSCORE_DUCKDB_MEMORY": settings.memory_limit,
                "NIGHTSCORE_DUCKDB_THREADS": str(settings.threads),
            }  # fmt: skip
            ran = run_dbt(settings, "features", command, variables, environment)
            _require_columns(pipeline, connection)
    return ran


def _require_columns(pipeline: Pipeline, connection: Any) -> None:
    """FeatureBuildFailed names what the spec declares and the SQL does not make."""
    key, label = row_key(pipeline), pipeline.label
    declared = {
        pipeline.features.model: dict.fromkeys((*key, *pipeline.feature_names)),
        label.model: dict.fromkeys((*key, "known_on", label.column)),
    }
    made = {model: set(connection.table(f'features."{model}"').columns) for model in declared}
    missing = [
        f"{model} has no column {name}"
        for model, names in declared.items()
        for name in names
        if name not in made[model]
    ]
    if missing:
        raise FeatureBuildFailed(f"Compiling {pipeline.name}", missing, "make the SQL and the spec agree")


def _write_empty(pipeline: Pipeline, source: str, folder: Path) -> Path:
    schema = {column.name: COLUMN_TYPES[column.type] for column in pipeline.sources[source].columns}
    path = folder / f"{source}.parquet"
    pl.DataFrame(schema=schema).write_parquet(path)
    return path


def newest_labelled(workspace: Workspace, pipeline: Pipeline) -> date | None:
    """The night that a version can be trained for with the newest labels of the lake; None where there are none."""
    known = workspace.lake.current(labels_dataset(pipeline.name), pipeline.score_dates.start, date.max)
    if not known:
        return None
    horizon = pipeline.label.horizon_days
    return max(known) - timedelta(days=horizon) + timedelta(days=max(1, horizon))


def shrink(pipeline: Pipeline, as_of: date, days: int | None = None, whole: bool = False) -> Pipeline:
    """The pipeline with a training window of the `days` before `as_of`, or as many as trying it needs.

    As many of its dates are held out as the gate compares, if that leaves half of them, or what the spec learns from,
    to learn from. `whole`: learn from no less than the spec does. `min_rows` shrinks with the window.
    """
    training, compared = pipeline.training, pipeline.promotion.dates
    calibrated = training.dates_apart
    embargo = max(1, pipeline.label.horizon_days) - 1
    as_spec = training.window_days + compared - training.holdout_days
    enough = as_spec if whole else WINDOW * compared + calibrated + 2 * embargo
    wanted = days or min(as_spec, enough)
    window = max(2, min(wanted, (as_of - pipeline.score_dates.start).days))
    there = window - embargo
    spare = max((there - calibrated) // 2, there - (training.window_days - training.holdout_days))
    held_out = max(1, min(compared, spare))
    update = {
        "window_days": window, "holdout_days": held_out, "folds": min(training.folds, held_out), "tuning": None,
        "min_rows": max(1, training.min_rows * min(window, training.window_days) // training.window_days),
    }  # fmt: skip
    return pipeline.model_copy(update={"training": training.model_copy(update=update)})


def train_candidate(workspace: Workspace, small: Pipeline, as_of: date, run_id: str) -> Candidate:
    """Train on the window of `small` (see `shrink`) and record the measured fit.

    Raises NotReadable for a date that has not passed its gates, NotEnoughData when too little of it is mature.
    """
    begun = perf_counter()
    window, horizon = training_window(small, as_of), timedelta(days=small.label.horizon_days)
    features = workspace.lake.require(features_dataset(small.name), window)
    labels = workspace.lake.require(labels_dataset(small.name), [night + horizon for night in window])
    joined = join_labels(small, workspace.lake.scan(features), workspace.lake.scan(labels))
    trained = train(joined.frame, small)
    candidate = Candidate(small, as_of, joined.frame, trained, joined.left_out, perf_counter() - begun)
    _record(workspace, candidate, [*features, *labels], run_id)
    return candidate


def _record(workspace: Workspace, candidate: Candidate, read: Sequence[PartitionVersion], run_id: str) -> None:
    small, metrics = candidate.pipeline, candidate.trained.metrics
    snapshot = workspace.lake.store.put_directory({f"{one.dataset}/{one.score_date}.parquet": one.md5 for one in read})
    measured = {name: figures["overall"] for name, figures in metrics["algorithms"].items()}
    run = TrainingRun(
        small.name, KIND, None, None, candidate.as_of, None, "done", metrics["algorithm"],
        small.training.model_dump(mode="json"), snapshot.md5, measured, candidate.seconds, code_hash(),
        find_provenance(workspace.settings.root, small.name).facts, getpass.getuser(), run_id, workspace.clock.now(),
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        record_training_run(connection, run)


def judge_candidate(workspace: Workspace, pipeline: Pipeline, candidate: Candidate) -> Judged:
    """The gate's verdict on a candidate's held-out scores, against the champion's scores of the same rows.

    Where the champion cannot score enough of these dates unseen, or there is none, the best of the spec's baselines
    stands in, under the rules of a new recipe; being better than that says nothing of a champion that there is.
    Raises AliasMissing or CapsuleRejected for a champion that is broken.
    """
    champion = find_champion(workspace, pipeline)
    why = "the deployment has no champion"
    if champion is not None:
        scorer = open_scorer(workspace, champion)
        why = _incomparable(scorer, pipeline)
        if not why:
            rows = _against_champion(scorer, candidate)
            if len(rows.dates) >= pipeline.promotion.min_dates:
                refresh = champion.family is not None and champion.family == family_of(workspace.settings, pipeline)
                return Judged(Opponent(champion.name, champion, refresh), judge(pipeline, rows, refresh))
            why = _too_few(champion, rows, pipeline)
    judged = _judge_against_baseline(pipeline, candidate, why)
    return judged if champion is None else _not_of_champion(judged, champion)


def _not_of_champion(judged: Judged, champion: ModelVersion) -> Judged:
    verdict = judged.verdict
    if not verdict.promotable:
        return judged
    said = f"nothing is known of it against {champion.name}, only against {judged.opponent.said}"
    return replace(judged, verdict=replace(verdict, outcome="not_enough_evidence", reasons=(said, *verdict.reasons)))


def find_champion(workspace: Workspace, pipeline: Pipeline) -> ModelVersion | None:
    """The champion, or None where the alias was never given; AliasMissing where it names no registered version."""
    with workspace.engine.connect() as connection:
        held = alias_holder(connection, pipeline.name, CHAMPION)
    return None if held is None else require_alias(workspace, pipeline.name, CHAMPION)


def _incomparable(scorer: UnseenScorer, pipeline: Pipeline) -> str:
    """Why the champion's scores are of another thing than this checkout's; empty when they are not."""
    name, capsule = scorer.version.name, scorer.capsule
    if scorer.task != pipeline.task or capsule.label != pipeline.label.column:
        return f"{name} predicts something else: {capsule.label} ({scorer.task})"
    if tuple(capsule.key) != row_key(pipeline):
        return f"{name} scores rows of another key: {', '.join(capsule.key)}"
    made = {column.name: column.type for column in pipeline.features.columns}
    needed = zip(capsule.encoding.names, capsule.encoding.types, strict=True)
    lacking = [f"{column} ({kind})" for column, kind in needed if made.get(column) != kind]
    return f"{name} needs features that this checkout does not make: {', '.join(lacking)}" if lacking else ""


def _too_few(champion: ModelVersion, rows: PairedRows, pipeline: Pipeline) -> str:
    there = f"{len(rows.dates)} of the held-out dates are unseen by {champion.name}"
    return f"{there}, at least {pipeline.promotion.min_dates} are needed"


def _against_champion(scorer: UnseenScorer, candidate: Candidate) -> PairedRows:
    """Rows of the held-out dates that the champion has unseen scores of."""
    key = list(row_key(candidate.pipeline))
    nights = _held_out_dates(candidate)
    unseen = [night for night in nights if scorer.source_of(night) is not None]
    parts = [scorer.scores(night, candidate.frame.filter(pl.col(SCORE_DATE) == night)) for night in unseen]
    scores = pl.concat(part.select(*key, PREDICTION) for part in parts) if parts else pl.DataFrame()
    known = set(scorer.capsule.encoding.names)
    new = tuple(name for name in candidate.pipeline.feature_names if name not in known)
    return _pair(candidate, scores, f"no unseen score of {scorer.version.name}", new)


def _judge_against_baseline(pipeline: Pipeline, candidate: Candidate, why: str) -> Judged:
    name, algorithm = _strongest_baseline(candidate)
    training = candidate.pipeline.training.model_copy(update={"algorithm": algorithm, "baselines": ()})
    alone = train(candidate.frame, candidate.pipeline.model_copy(update={"training": training}))
    rows = _pair(candidate, _predictions(alone), f"no score of the {name} baseline", ())
    promotion = pipeline.promotion.model_copy(update={"max_gain": _BASELINE_MAX_GAIN})
    verdict = judge(pipeline.model_copy(update={"promotion": promotion}), rows, is_refresh=False)
    return Judged(Opponent(f"the {name} baseline", None, False, why), verdict)


def _strongest_baseline(candidate: Candidate) -> tuple[str, Algorithm]:
    """The baseline with the smallest loss on the held-out dates, and what it is called; the constant without any."""
    metric = "log_loss" if candidate.pipeline.task == "binary" else "rmse"
    _, *names = measured = candidate.trained.metrics["algorithms"]
    there = list(zip(names, candidate.pipeline.training.baselines, strict=True))
    if not there:
        return "constant", Constant(type="constant")
    return min(
        there, key=lambda one: (measured[one[0]]["overall"][metric] is None, measured[one[0]]["overall"][metric])
    )


def _pair(candidate: Candidate, scores: pl.DataFrame, why_not: str, new_features: tuple[str, ...]) -> PairedRows:
    """The candidate's held-out rows that `scores` (key and `_probability`) has a prediction of, sorted by key."""
    nights = _held_out_dates(candidate)
    if not scores.height:
        return PairedRows(pl.DataFrame(), (), dict.fromkeys(nights, why_not))
    key = list(row_key(candidate.pipeline))
    own = _predictions(candidate.trained).rename({PREDICTION: CHALLENGER_SCORE})
    other = scores.filter(pl.col(PREDICTION).is_finite()).rename({PREDICTION: CHAMPION_SCORE})
    frame = candidate.frame.join(own, on=key).join(other, on=key).sort(key)
    dates = tuple(frame[SCORE_DATE].unique().sort())
    compared = own.filter(pl.col(SCORE_DATE).is_in(dates)).height
    left_out = {night: why_not for night in nights if night not in dates}
    importance = candidate.trained.importance
    return PairedRows(frame, dates, left_out, compared - frame.height, new_features, importance)


def _predictions(trained: Trained) -> pl.DataFrame:
    """Key and prediction of held-out rows: the probability, or for regression the value."""
    column = HELD_OUT_SCORE if trained.pipeline.task == "regression" else HELD_OUT_PROBABILITY
    return trained.held_out.select(*row_key(trained.pipeline), pl.col(column).alias(PREDICTION))


def _held_out_dates(candidate: Candidate) -> list[date]:
    return candidate.trained.held_out[SCORE_DATE].unique().sort().to_list()
