"""Figures of the model that a night adds: by score date as labels come, over windows of mature dates, and estimated.

A figure is kept with the night that it was known on, and only when it is not what was known before, so that what was
believed on any night can be read again. Estimates without labels are information: nothing follows from them.
Added here: a figure of predictions or of labels. Not here: which labels count (`outcomes.py`), figures that the spec
declares (`business.py`), or what follows from a figure (`levels.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from nightscore.catalog.metrics import Maturity, MetricValue, metrics_between, record_metrics
from nightscore.catalog.models import ModelVersion
from nightscore.lake.workspace import Workspace
from nightscore.measures.bootstrap import Interval
from nightscore.measures.cbpe import estimate_performance
from nightscore.measures.metrics import Mask, Metrics, binary_metrics, regression_metrics
from nightscore.measures.realised import (
    EqualMaturity,
    KnownFigure,
    Performance,
    Predicted,
    Realised,
    Terms,
    curves_at_equal_maturity,
    realised_performance,
)
from nightscore.monitoring.outcomes import (
    FEEDBACK,
    SCORED,
    SOURCE,
    Cohort,
    closes_on,
    cohorts,
    held_out_outcomes,
    labelled_by_part,
    mature_rows,
    published_between,
    published_rows,
    shown_values,
)
from nightscore.registry.versions import open_capsule, require_version
from nightscore.spec.datasets import shadow_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Threshold
from nightscore.training.evaluate import dates_of
from nightscore.training.matrix import SCORE_DATE, row_key

MODEL, CONSTANT, CHALLENGER = "model", "constant", "challenger"
EXCESS_LOSS, ESTIMATE_ERROR = "excess_loss", "estimate_error:"
SPARE_NIGHTS = 7
"""Nights that may be left out without a score date being forgotten as provisional."""


def record_performance(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> list[MetricValue]:
    """Keep what is known on `night` and was not before; returns it.

    Scope `model`: every figure of each score date whose labels are still awaited. `window`: metrics named
    `<predictor>:<metric>:<dates>` over the newest mature dates. `estimate`: tonight's, and for dates that have matured
    `estimate_error:<metric>`, estimated less realised.
    """
    by_date = list(_figures_by_date(workspace, pipeline, night))
    windows = list(_figures_of_windows(workspace, pipeline, night))
    estimates = list(_estimates(workspace, pipeline, night))
    errors = list(_estimate_errors(workspace, pipeline, [one for one in by_date if one.maturity == "mature"]))
    return record_changes(workspace, pipeline, night, [*by_date, *windows, *estimates, *errors], run_id)


def record_changes(
    workspace: Workspace, pipeline: Pipeline, night: date, figures: Sequence[MetricValue], run_id: str
) -> list[MetricValue]:
    """Keep those of `figures`, all known on `night`, that are not what was known already; returns them."""
    if not figures:
        return []
    dates = [one.score_date for one in figures]
    with workspace.engine.begin() as connection:
        known = {
            (one.score_date, one.scope, one.metric): one
            for one in metrics_between(connection, pipeline.name, min(dates), max(dates))
            if one.known_on <= night
        }
        new = [one for one in figures if not _is_known(one, known.get((one.score_date, one.scope, one.metric)))]
        record_metrics(connection, new, run_id, workspace.clock.now())
    return new


def performance_curve(connection: sa.Connection, pipeline: str, metric: str, days_after: int) -> EqualMaturity:
    """A metric of every score date as it was known `days_after` days later; dates younger than that are left out."""
    stored = metrics_between(connection, pipeline, date.min, date.max)
    until = max((one.known_on for one in stored), default=None)
    figures = [
        KnownFigure(one.score_date, one.known_on, one.value)
        for one in stored
        if one.scope == "model" and one.metric == metric
    ]
    found = curves_at_equal_maturity(figures, [days_after], until)
    return found[0] if found else EqualMaturity(days_after, ())


def awaited_nights(pipeline: Pipeline, night: date) -> tuple[date, date]:
    """The first and the last score date whose labels may have changed what is known of them on `night`."""
    open_days = closes_on(pipeline, night) - night
    return max(pipeline.score_dates.start, night - open_days - timedelta(days=SPARE_NIGHTS)), night


def _is_known(new: MetricValue, known: MetricValue | None) -> bool:
    return known is not None and replace(new, known_on=known.known_on) == known


def _figures_by_date(workspace: Workspace, pipeline: Pipeline, night: date) -> Iterator[MetricValue]:
    published = published_between(workspace, pipeline, *awaited_nights(pipeline, night))
    for counts, rows in labelled_by_part(workspace, pipeline, published, night, SCORED):
        for cohort in cohorts(pipeline, counts, rows, night):
            if cohort.labelled or cohort.maturity == "insufficient":
                yield from _figures_of(pipeline, cohort, rows.filter(pl.col(SCORE_DATE) == cohort.score_date), night)


def _figures_of(pipeline: Pipeline, cohort: Cohort, rows: pl.DataFrame, night: date) -> Iterator[MetricValue]:
    """Of one score date; an insufficient one has no values."""
    enough = cohort.maturity != "insufficient"
    versions = sorted(rows["model_version"].unique().to_list())
    detail = {
        "scored": cohort.rows,
        "feedback": int(rows[SOURCE].str.starts_with(FEEDBACK).sum()),
        "versions": versions,
    }
    for name, value in _metrics(pipeline, rows if enough else rows.clear()).items():
        yield MetricValue(
            pipeline.name, cohort.score_date, night, "model", name, value, cohort.labelled, cohort.maturity,
            model_version=versions[0] if len(versions) == 1 else None, detail=detail,
        )  # fmt: skip


def _metrics(pipeline: Pipeline, rows: pl.DataFrame) -> Metrics:
    labels, shown = rows[pipeline.label.column].to_numpy(), shown_values(rows)
    if pipeline.task == "regression":
        return regression_metrics(labels, shown)
    return binary_metrics(labels, shown, _decided(rows["decision"]))


def _decided(decision: pl.Series) -> Mask:
    return decision.cast(pl.Boolean).fill_null(False).to_numpy()


@dataclass(frozen=True)
class _Rivals:
    """What the model is shown beside: its constant, its held-out figures, and the scores of a rollout by key."""

    version: ModelVersion
    constant: float
    held_out: Mapping[str, float | None]
    shadow: pl.DataFrame | None


def _figures_of_windows(workspace: Workspace, pipeline: Pipeline, night: date) -> Iterator[MetricValue]:
    windows = pipeline.monitoring.outcomes.windows
    mature = mature_rows(workspace, pipeline, night, max(windows))
    if not mature.height:
        return
    rivals = _rivals(workspace, pipeline, mature)
    dates = mature[SCORE_DATE].unique().sort()
    for days in sorted(set(windows)):
        rows = mature.filter(pl.col(SCORE_DATE).is_in(dates[-days:].implode()))
        found = _performance(pipeline, rows, rivals)
        span = {"window": days, "first": str(rows[SCORE_DATE].min()), "last": str(rows[SCORE_DATE].max())}
        shown = ((MODEL, found.model), (CONSTANT, found.constant), (CHALLENGER, found.challenger))
        for predictor, one in shown:
            if one is not None:
                beside = rivals.held_out if predictor == MODEL else {}
                yield from _window_values(pipeline, predictor, one, span, beside, rivals.version.version, night)


def _rivals(workspace: Workspace, pipeline: Pipeline, rows: pl.DataFrame) -> _Rivals:
    """Of the version that scored the newest of `rows`, its own arm and not that of a rollout."""
    newest = rows.sort(SCORE_DATE, pl.col("arm") == "champion")["model_version"][-1]
    version = require_version(workspace, pipeline.name, newest)
    held_out = held_out_outcomes(pipeline, open_capsule(workspace, version))
    own = version.metrics.get("algorithms", {}).get(version.metrics.get("algorithm"), {})
    constant = held_out.constant if held_out else np.nan
    return _Rivals(version, constant, own.get("overall", {}), _shadow(workspace, pipeline, rows))


def _shadow(workspace: Workspace, pipeline: Pipeline, rows: pl.DataFrame) -> pl.DataFrame | None:
    """Key, value and decision of the newest version that scored the dates of `rows` in the shadow."""
    dates = rows[SCORE_DATE].unique().sort().to_list()
    there = workspace.lake.current(shadow_dataset(pipeline.name), dates[0], dates[-1])
    wanted = [*row_key(pipeline), "score", "probability", "decision", "model_version"]
    parts = [workspace.lake.scan([one]).select(wanted) for one in there.values() if one.rows]
    if not parts:
        return None
    scored = pl.concat(parts).collect().sort(SCORE_DATE)
    newest = scored.filter(pl.col("model_version") == scored["model_version"][-1])
    value = pl.coalesce("probability", "score").alias("_value")
    return newest.select(*row_key(pipeline), value, pl.col("decision").alias("_decision"))


def _performance(pipeline: Pipeline, rows: pl.DataFrame, rivals: _Rivals) -> Performance:
    rule, outcomes = pipeline.decision.rule, pipeline.monitoring.outcomes
    challenger = None
    if rivals.shadow is not None:
        beside = rows.join(rivals.shadow, on=row_key(pipeline), how="left", maintain_order="left")
        values = beside["_value"].fill_null(float("nan")).to_numpy()
        challenger = Predicted(values, _decided(beside["_decision"]))
    return realised_performance(
        pipeline.task, dates_of(rows), rows[pipeline.label.column].to_numpy(),
        Predicted(shown_values(rows), _decided(rows["decision"])), rivals.constant,
        isinstance(rule, Threshold) and rivals.constant >= rule.value, challenger,
        Terms(min_days=outcomes.min_days, min_positives=outcomes.min_positives),
    )  # fmt: skip


def _window_values(
    pipeline: Pipeline, predictor: str, found: Realised, span: Mapping[str, Any],
    held_out: Mapping[str, float | None], version: int, night: date,
) -> Iterator[MetricValue]:  # fmt: skip
    """Of one predictor over one window, with bounds; without values where there is not enough evidence."""
    enough = not isinstance(found.figures, str)
    figures = dict(_unknown(pipeline) if isinstance(found.figures, str) else found.figures)
    if found.excess_loss is not None:
        unknown = Interval(None, None, None)
        figures[EXCESS_LOSS] = unknown if isinstance(found.excess_loss, str) else found.excess_loss
    detail = {**span, "predictor": predictor, "days": found.days, "positives": found.positives}
    maturity: Maturity = "mature" if enough else "insufficient"
    for name, one in figures.items():
        yield MetricValue(
            pipeline.name, date.fromisoformat(span["last"]), night, "window", f"{predictor}:{name}:{span['window']}",
            one.value, found.rows, maturity, one.lower, one.upper, version if predictor == MODEL else None,
            {**detail, "metric": name, "held_out": held_out.get(name)},
        )  # fmt: skip


def _unknown(pipeline: Pipeline) -> Mapping[str, Interval]:
    empty = np.zeros(0)
    names = regression_metrics(empty, empty) if pipeline.task == "regression" else _binary_names()
    return dict.fromkeys(names, Interval(None, None, None))


def _binary_names() -> Iterable[str]:
    empty = np.zeros(0)
    return binary_metrics(empty, empty, np.zeros(0, np.bool_))


def _estimates(workspace: Workspace, pipeline: Pipeline, night: date) -> Iterator[MetricValue]:
    """CBPE of tonight's rows, of binary tasks only."""
    if pipeline.task != "binary":
        return
    rows = published_rows(workspace, pipeline, night, SCORED)
    if not rows.height:
        return
    versions = sorted(rows["model_version"].unique().to_list())
    found = estimate_performance(shown_values(rows), _decided(rows["decision"]), rows["score"].to_numpy())
    for name, value in found.metrics.items():
        yield MetricValue(
            pipeline.name, night, night, "estimate", name, value, found.rows, "estimate",
            model_version=versions[0] if len(versions) == 1 else None, detail={"versions": versions},
        )  # fmt: skip


def _estimate_errors(
    workspace: Workspace, pipeline: Pipeline, realised: Sequence[MetricValue]
) -> Iterator[MetricValue]:
    """How far the estimate of each date lay from what came true of it."""
    if not realised:
        return
    dates = [one.score_date for one in realised]
    with workspace.engine.connect() as connection:
        stored = metrics_between(connection, pipeline.name, min(dates), max(dates), "estimate")
    estimated = {(one.score_date, one.metric): one.value for one in stored if one.known_on <= realised[0].known_on}
    for one in realised:
        guess = estimated.get((one.score_date, one.metric))
        if guess is not None and one.value is not None:
            yield replace(
                one, scope="estimate", metric=f"{ESTIMATE_ERROR}{one.metric}", value=guess - one.value,
                detail={"estimated": guess, "realised": one.value},
            )  # fmt: skip
