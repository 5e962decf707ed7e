"""What came true of published score dates: labels as they were known by a night, and which dates are mature.

A date is due when its label's horizon has passed; it is mature once enough of its rows are labelled, provisional
before, and closed as insufficient where that has not come `monitoring.outcomes.wait_days` later. A label that a person
gave takes the place of the delivered one, and says so in `label_source`.
Added here: a rule of which labels count, and what the state machine reads of them. Not here: figures that are kept
(`performance.py`), or what follows from them (`levels.py`, `retraining.py`).
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.outcomes import Delivery, deliveries, end_of_night, feedback_labels
from nightscore.catalog.publications import Publication, current_publications
from nightscore.lake.workspace import Workspace
from nightscore.measures.control import fit_cusum
from nightscore.measures.metrics import Vector
from nightscore.measures.paired import losses
from nightscore.registry.capsule import Capsule
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from nightscore.training.matrix import SCORE_DATE, row_key
from nightscore.watch.evidence import Freshness, LabelArrival, MatureOutcomes, Residual

SOURCE, DELIVERED, FEEDBACK = "label_source", "delivered", "feedback:"
SCORED = ("score", "probability", "decision", "model_version", "arm")
"""The columns beside the key that figures of a model need."""
LOOKBACK = 3
"""Calendar days that are looked through for mature dates, in multiples of those that are wanted."""
PART_ROWS = 2_000_000
"""Published rows that are in memory at once where each date is looked at by itself."""
NORMAL_NIGHTS = 60
"""Nights before tonight that show how late labels normally are."""
RARE_SHARE = 0.05
"""Of those nights: so many of the latest are not what is normal."""
_KNOWN_ON, _GIVEN, _ID = "_known_on", "_given", "_id"

Maturity = Literal["mature", "provisional", "insufficient"]


@dataclass(frozen=True)
class Cohort:
    """One published score date with rows as it stands on a night: how many of them are labelled, and what it is."""

    score_date: date
    rows: int
    labelled: int
    maturity: Maturity


def due_on(pipeline: Pipeline, score_date: date) -> date:
    """The first night on which all labels of `score_date` should be known."""
    return score_date + timedelta(days=max(1, pipeline.label.horizon_days))


def newest_due(pipeline: Pipeline, night: date) -> date:
    """The newest score date that is due on `night`."""
    return night - timedelta(days=max(1, pipeline.label.horizon_days))


def closes_on(pipeline: Pipeline, score_date: date) -> date:
    """The night from which on labels of `score_date` that have not come are no longer waited for."""
    return due_on(pipeline, score_date) + timedelta(days=pipeline.monitoring.outcomes.wait_days)


def maturity_of(pipeline: Pipeline, score_date: date, rows: int, labelled: int, night: date) -> Maturity:
    """What a score date with `rows` of which `labelled` have a label is on `night`."""
    if night < due_on(pipeline, score_date):
        return "provisional"
    if rows and labelled >= pipeline.label.min_coverage * rows:
        return "mature"
    return "insufficient" if night >= closes_on(pipeline, score_date) else "provisional"


def published_between(workspace: Workspace, pipeline: Pipeline, first: date, last: date) -> dict[date, Publication]:
    """What readers see of the score dates from `first` to `last` that have rows."""
    with workspace.engine.connect() as connection:
        found = current_publications(connection, pipeline.name, first, last)
    return {night: one for night, one in found.items() if one.rows}


def published_nights(
    workspace: Workspace, pipeline: Pipeline, nights: Iterable[date], known_on: date, columns: Sequence[str] = ()
) -> pl.DataFrame:
    """Every row that readers see of `nights`, by key, with the label that was known by the night `known_on`.

    The label (Float64, under its own name) and `label_source` ('delivered', 'feedback:<id>') are null where none was.
    `columns`: those that are needed beside the key; all by default. Nights that are not published have no rows.
    """
    wanted = sorted(set(nights))
    published = published_between(workspace, pipeline, wanted[0], wanted[-1]) if wanted else {}
    standing = {night: published[night] for night in wanted if night in published}
    if not standing:
        return _no_rows(pipeline)
    predictions = _predictions(workspace, pipeline, standing, columns)
    known = _delivered(workspace, pipeline, list(standing), known_on, predictions)
    joined = predictions.join(known, on=row_key(pipeline), how="left")
    return _corrected(workspace, pipeline, joined, list(standing), known_on).sort(row_key(pipeline))


def published_rows(workspace: Workspace, pipeline: Pipeline, night: date, columns: Sequence[str]) -> pl.DataFrame:
    """The rows of `published_nights` of one night, without labels, which are not looked for."""
    published = published_between(workspace, pipeline, night, night)
    if not published:
        return _no_rows(pipeline).drop(pipeline.label.column, SOURCE)
    # The score date is one, and a sort by few columns finds out sooner that there is nothing to do.
    return _predictions(workspace, pipeline, published, columns).sort(row_key(pipeline)[1:] or SCORE_DATE)


def labelled_nights(
    workspace: Workspace, pipeline: Pipeline, nights: Iterable[date], known_on: date, columns: Sequence[str] = ()
) -> pl.DataFrame:
    """Those rows of `published_nights` that had a label by the night `known_on`."""
    rows = published_nights(workspace, pipeline, nights, known_on, columns)
    return rows.filter(pl.col(pipeline.label.column).is_not_null())


def labelled_by_part(
    workspace: Workspace, pipeline: Pipeline, published: Mapping[date, Publication], known_on: date,
    columns: Sequence[str] = (),
) -> Iterator[tuple[dict[date, int], pl.DataFrame]]:  # fmt: skip
    """The rows of `labelled_nights` of all dates of `published`, in the order of time and some whole dates at a time.

    With each part its dates and their published rows: together 2,000,000 at most, or one date.
    """
    part: dict[date, int] = {}
    for day, one in sorted(published.items()):
        if part and sum(part.values()) + one.rows > PART_ROWS:
            yield part, labelled_nights(workspace, pipeline, part, known_on, columns)
            part = {}
        part[day] = one.rows
    if part:
        yield part, labelled_nights(workspace, pipeline, part, known_on, columns)


def cohorts(pipeline: Pipeline, published: Mapping[date, int], labelled: pl.DataFrame, night: date) -> list[Cohort]:
    """How the score dates of `published` (date → rows) stand on `night`, in the order of time."""
    counts = dict(labelled.group_by(SCORE_DATE).len().iter_rows()) if labelled.height else {}
    return [
        Cohort(day, rows, counts.get(day, 0), maturity_of(pipeline, day, rows, counts.get(day, 0), night))
        for day, rows in sorted(published.items())
    ]


def mature_rows(
    workspace: Workspace, pipeline: Pipeline, night: date, days: int, columns: Sequence[str] = SCORED
) -> pl.DataFrame:
    """The labelled rows of the newest `days` score dates that are mature on `night`; of fewer where there are fewer.

    Dates are looked for in three times as many calendar days, and the days that labels are waited for.
    """
    waited, last = pipeline.monitoring.outcomes.wait_days, newest_due(pipeline, night)
    first = max(last - timedelta(days=LOOKBACK * days + waited - 1), pipeline.score_dates.start)
    published = published_between(workspace, pipeline, first, last) if first <= last else {}
    candidates = sorted(published)[-(days + waited) :]
    rows = labelled_nights(workspace, pipeline, candidates, night, columns)
    standing = cohorts(pipeline, {day: published[day].rows for day in candidates}, rows, night)
    mature = [one.score_date for one in standing if one.maturity == "mature"][-days:]
    return rows.filter(pl.col(SCORE_DATE).is_in(mature))


def delivered_labels(
    workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], known_on: date
) -> pl.LazyFrame | None:
    """Key, label and `_known_on` of the label partitions up to `known_on`, before the dates of `nights` were closed."""
    partitions = workspace.lake.current(labels_dataset(pipeline.name), min(nights), known_on)
    label = pl.col(pipeline.label.column).cast(pl.Float64)
    parts = [
        workspace.lake.scan([one]).select(*row_key(pipeline), label, pl.lit(night, pl.Date).alias(_KNOWN_ON))
        for night, one in partitions.items()
        if one.rows
    ]
    if not parts:
        return None
    open_days = closes_on(pipeline, known_on) - known_on
    in_time = pl.col(_KNOWN_ON) <= pl.col(SCORE_DATE) + pl.lit(open_days)
    return pl.concat(parts).filter(pl.col(SCORE_DATE).is_in(nights), in_time, label.is_finite())


@dataclass(frozen=True)
class HeldOut:
    """What the held-out dates of a version showed: daily residuals, loss, and the mean label, its constant."""

    residuals: Mapping[date, float]
    loss: float
    constant: float


def held_out_outcomes(pipeline: Pipeline, capsule: Capsule) -> HeldOut | None:
    """Of the scores that the version's capsule keeps; None where it keeps none."""
    rows = capsule.held_out()
    if rows is None or not rows.height:
        return None
    labels = rows[capsule.label].cast(pl.Float64).to_numpy()
    shown = rows["_score" if pipeline.task == "regression" else "_probability"].to_numpy()
    residuals = _daily_residuals(rows[SCORE_DATE], labels, shown)
    return HeldOut(residuals, float(losses(pipeline.task, labels, shown).mean()), float(labels.mean()))


def shown_values(rows: pl.DataFrame) -> Vector:
    """The probability (rows,) of published rows, or the score of a regression, or where there is no probability."""
    return rows.select(pl.coalesce("probability", "score")).to_series().to_numpy()


def mature_outcomes(
    workspace: Workspace, pipeline: Pipeline, champion: ModelVersion, capsule: Capsule, night: date,
    window_days: int = 28,
) -> MatureOutcomes | None:  # fmt: skip
    """What came true of the champion's rows on the newest `window_days` mature score dates; None without any.

    The loss is log loss in nats, of a regression the squared error; the constant is the mean held-out label.
    """
    mature = mature_rows(workspace, pipeline, night, window_days)
    rows = mature.filter(
        (pl.col("model_version") == champion.version) & pl.coalesce("probability", "score").is_finite()
    )
    if not rows.height:
        return None
    labels, held_out = rows[pipeline.label.column].to_numpy(), held_out_outcomes(pipeline, capsule)
    daily = _daily_residuals(rows[SCORE_DATE], labels, shown_values(rows))
    usual = held_out.residuals if held_out else {}
    cusum = fit_cusum(usual.values())
    constant = np.full(len(labels), held_out.constant if held_out else np.nan)
    return MatureOutcomes(
        residuals=tuple(Residual(day=day, mean=mean) for day, mean in daily.items()),
        residual_target=float(np.mean(list(usual.values()))) if usual else 0.0,
        residual_sd=cusum.sd if cusum else None,
        days=len(daily),
        positives=int((labels == 1).sum()) if pipeline.task == "binary" else None,
        loss="log loss" if pipeline.task == "binary" else "squared error",
        champion_loss=float(losses(pipeline.task, labels, shown_values(rows)).mean()),
        constant_loss=float(losses(pipeline.task, labels, constant).mean()) if held_out else None,
        held_out_loss=held_out.loss if held_out else None,
    )


def label_arrival(workspace: Workspace, pipeline: Pipeline, champion: ModelVersion, night: date) -> LabelArrival:
    """Labels of the score dates that the champion has not learnt from and the next training would see.

    `expected` and `arrived` are rows of those that are due; rows are counted as features and labels have them, without
    joining them.
    """
    learnt = champion.metrics["all"]
    window_start = night - timedelta(days=pipeline.training.window_days)
    first = max(date.fromisoformat(learnt["last"]) + timedelta(days=1), window_start)
    last = newest_due(pipeline, night)
    if first > last:
        return LabelArrival(new_mature_share=0.0)
    made = workspace.lake.current(features_dataset(pipeline.name), first, last)
    there = {day: version.rows for day, version in made.items() if version.rows}
    found = delivered_labels(workspace, pipeline, list(there), night) if there else None
    keys = found.select(row_key(pipeline)).unique().collect() if found is not None else _no_rows(pipeline)
    standing = cohorts(pipeline, there, keys, night)
    arrived = [min(one.labelled, one.rows) for one in standing]
    mature = sum(rows for rows, one in zip(arrived, standing, strict=True) if one.maturity == "mature")
    return LabelArrival(
        expected=sum(there.values()), arrived=sum(arrived), new_mature_share=mature / max(learnt["rows"], 1)
    )


def label_freshness(workspace: Workspace, pipeline: Pipeline, night: date) -> Freshness | None:
    """How many days the newest labels lie behind those that are due tonight; None where labels never came.

    Due are labels of score dates with rows, and they have come once they cover `label.min_coverage` of them. The limit
    is the longest that they were behind on the 60 nights before, but for the latest twentieth of them, each as it was
    seen on that night.
    """
    start, horizon = pipeline.score_dates.start, timedelta(days=pipeline.label.horizon_days)
    made = workspace.lake.current(features_dataset(pipeline.name), start, night)
    enough = {day + horizon: math.ceil(pipeline.label.min_coverage * one.rows) for day, one in made.items() if one.rows}
    due = list(enough)
    with workspace.engine.connect() as connection:
        came = deliveries(connection, labels_dataset(pipeline.name), enough)
    age = _days_behind(due, came, night)
    if age is None:
        return None
    before = nights_between(max(start, night - timedelta(days=NORMAL_NIGHTS)), night - timedelta(days=1))
    normal = sorted(days for one in before if (days := _days_behind(due, came, one)) is not None)
    limit = normal[len(normal) - 1 - int(RARE_SHARE * len(normal))] if normal else 0
    return Freshness(name=pipeline.label.column, age_days=age, limit_days=limit, kind="label")


def _days_behind(due: Sequence[date], came: Sequence[Delivery], night: date) -> int | None:
    """As seen on `night`, which lasted until a later partition was made; None before any labels had come."""
    ended = min((one.made for one in came if one.night > night), default=None)
    filled = ((one.night, one.filled) for one in came if one.night <= night)
    newest = max((day for day, at in filled if at is not None and (ended is None or at <= ended)), default=None)
    if newest is None:
        return None
    wanted = max((day for day in due if day <= night), default=newest)
    return max((wanted - newest).days, 0)


def _daily_residuals(dates: pl.Series, labels: Vector, shown: Vector) -> dict[date, float]:
    """The mean of outcome less prediction by score date, in the order of time.

    Added up in the order of the rows: evidence that is gathered again has to be the same to the last bit.
    """
    days = dates.unique().sort()
    codes = dates.replace_strict(days, np.arange(len(days)), return_dtype=pl.Int64).to_numpy()
    totals, rows = np.bincount(codes, labels - shown), np.bincount(codes)
    return dict(zip(days.to_list(), (totals / rows).tolist(), strict=True))


def _no_rows(pipeline: Pipeline) -> pl.DataFrame:
    names = {SCORE_DATE: pl.Date(), "score": pl.Float64(), "probability": pl.Float64(), "decision": pl.Boolean()}
    made_by = {"model_version": pl.Int64(), "arm": pl.String()}
    return pl.DataFrame(schema=names | made_by | {pipeline.label.column: pl.Float64(), SOURCE: pl.String()})


def _predictions(
    workspace: Workspace, pipeline: Pipeline, published: Mapping[date, Publication], columns: Sequence[str]
) -> pl.DataFrame:
    """The very files that were published; a column that an older one lacks is null there."""
    wanted = {*row_key(pipeline), *columns}
    parts = []
    for one in published.values():
        part = pl.scan_parquet(workspace.lake.store.verified_path(one.content_md5))
        names = part.collect_schema().names()
        parts.append(part.select([name for name in names if not columns or name in wanted]))
    return pl.concat(parts, how="diagonal_relaxed").collect()


def _delivered(
    workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], known_on: date, predictions: pl.DataFrame
) -> pl.DataFrame:
    """Key, label and `label_source`: of a key that came twice the newest."""
    key, label = row_key(pipeline), pipeline.label.column
    found = delivered_labels(workspace, pipeline, nights, known_on)
    if found is None:
        known = predictions.select(key).clear().with_columns(pl.lit(None, pl.Float64).alias(label))
    else:
        known = found.sort(_KNOWN_ON).unique(key, keep="last", maintain_order=True).drop(_KNOWN_ON).collect()
    return known.with_columns(pl.lit(DELIVERED).alias(SOURCE))


def _corrected(
    workspace: Workspace, pipeline: Pipeline, rows: pl.DataFrame, nights: Sequence[date], known_on: date
) -> pl.DataFrame:
    """With the newest label that a person had given to a row by then in the place of the delivered one."""
    with workspace.engine.connect() as connection:
        until = end_of_night(connection, pipeline.name, known_on)
        given = feedback_labels(connection, pipeline.name, nights[0], nights[-1], until)
    allowed = [one for one in given if pipeline.task != "binary" or one.label in (0, 1)]
    # Keys are compared as text: JSON does not know all of their types.
    newest = {_texts(pipeline, one.key, one.score_date): (one.label, one.feedback_id) for one in allowed}
    if not newest:
        return rows
    texts = [f"_text_{at}" for at, _ in enumerate(row_key(pipeline))]
    schema = dict.fromkeys(texts, pl.String()) | {_GIVEN: pl.Float64(), _ID: pl.Int64()}
    table = pl.DataFrame([(*key, *value) for key, value in newest.items()], schema=schema, orient="row")
    keyed = rows.with_columns(
        pl.col(name).cast(pl.String).alias(text) for name, text in zip(row_key(pipeline), texts, strict=True)
    )
    joined = keyed.join(table, on=texts, how="left")
    label, corrected = pipeline.label.column, pl.col(_GIVEN).is_not_null()
    source = pl.when(corrected).then(pl.lit(FEEDBACK) + pl.col(_ID).cast(pl.String)).otherwise(SOURCE)
    return joined.with_columns(pl.coalesce(_GIVEN, label).alias(label), source.alias(SOURCE)).drop(*texts, _GIVEN, _ID)


def _texts(pipeline: Pipeline, key: Mapping[str, Any], score_date: date) -> tuple[str, ...]:
    values = [key.get(name) for name in row_key(pipeline)[1:]]
    return (str(score_date), *(one if isinstance(one, str) else json.dumps(one) for one in values))
