"""Figures that a spec declares in SQL over published rows and outcomes, and what a night cost in seconds.

A figure that fails says which one, in which file, and what to do; it holds no night back. SQL runs in a database that
can read nothing but the rows it is given.
Added here: a figure that is not of the model. Not here: what the SQL may say (`nightscore/spec/metric_rules.py`), or
figures of the model (`performance.py`).
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from threading import Timer
from typing import Any

import polars as pl
import structlog

from nightscore.catalog.metrics import MetricValue
from nightscore.catalog.nights import StepTime, steps_of_run
from nightscore.errors import NightscoreError, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.outcomes import cohorts, labelled_by_part, published_between, published_nights
from nightscore.monitoring.performance import awaited_nights, record_changes
from nightscore.settings import Settings
from nightscore.sources.parts import sandbox
from nightscore.spec.metric_rules import RELATION, query_of
from nightscore.spec.outcomes import BusinessMetric
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE

SECONDS, SECONDS_PER_MILLION, ALL_STEPS = "seconds:", "seconds_per_million:", "all"
TIME_LIMIT_SECONDS = 60.0
"""For one metric of one score date: a query that joins all rows with all others must not hold a night back."""


def record_business_metrics(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> list[MetricValue]:
    """Keep the declared figures that are known on `night` and were not before; returns them.

    Those over predictions are tonight's, those over outcomes of each mature date whose labels may still change. One
    that fails is kept without a value, its error under `detail`, and logged.
    """
    found = [*_over_predictions(workspace, pipeline, night), *_over_outcomes(workspace, pipeline, night)]
    return record_changes(workspace, pipeline, night, found, run_id)


def record_costs(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> list[MetricValue]:
    """Keep what the steps of `run_id` cost that made `night`: seconds a night, and seconds per million rows.

    Metrics are named `seconds:<step>` and `seconds_per_million:<step>`; the step `all` stands for their sum.
    """
    with workspace.engine.connect() as connection:
        steps = [one for one in steps_of_run(connection, run_id) if one.pipeline == pipeline.name and one.made]
    found = list(_costs(pipeline, [one for one in steps if one.first_date <= night <= one.last_date], night))
    return record_changes(workspace, pipeline, night, found, run_id)


def compute_metric(pipeline: Pipeline, metric: BusinessMetric, rows: pl.DataFrame, settings: Settings) -> float | None:
    """The one number that `metric` gives of `rows`; None where that is null, infinite or no number, as of 0 / 0.

    Raises SpecError where its SQL fails, takes too long, or gives anything but one number.
    """
    import duckdb

    try:
        with _locked_database(rows, settings) as connection:
            return _one_number(connection.execute(query_of(metric)).fetchmany(2))
    except (duckdb.Error, ValueError) as error:
        raise SpecError(
            f"computing the metric {metric.name} of {pipeline.name}",
            str(error).splitlines()[0],
            f"correct metrics.{metric.name} in pipelines/{pipeline.name}.yaml; no night was held back",
        ) from error


@contextmanager
def _locked_database(rows: pl.DataFrame, settings: Settings) -> Iterator[Any]:
    """A database in memory with the table `rows`, which reads no file, and which ends what takes too long."""
    with sandbox() as connection:
        connection.execute(f"set memory_limit = '{settings.memory_limit}'")
        connection.register(RELATION, rows.to_arrow())
        connection.execute("set lock_configuration = true")
        timer = Timer(TIME_LIMIT_SECONDS, connection.interrupt)
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()


def _one_number(found: Sequence[tuple[Any, ...]]) -> float | None:
    if len(found) != 1 or len(found[0]) != 1:
        shape = f"{len(found)} rows" if len(found) != 1 else f"{len(found[0])} columns"
        raise ValueError(f"it gives {'more than one row' if len(found) > 1 else shape}, expected one number")
    value = found[0][0]
    if not isinstance(value, int | float | Decimal | None):
        raise ValueError(f"it gives {type(value).__name__} {str(value)[:20]}, expected one number")
    return float(value) if value is not None and math.isfinite(value) else None


def _over_predictions(workspace: Workspace, pipeline: Pipeline, night: date) -> Iterator[MetricValue]:
    metrics = [one for one in pipeline.metrics if one.over == "predictions"]
    if not metrics or night not in published_between(workspace, pipeline, night, night):
        return
    rows = published_nights(workspace, pipeline, [night], night)
    for metric in metrics:
        yield _figure(workspace, pipeline, metric, rows, night, night)


def _over_outcomes(workspace: Workspace, pipeline: Pipeline, night: date) -> Iterator[MetricValue]:
    metrics = [one for one in pipeline.metrics if one.over == "outcomes"]
    if not metrics:
        return
    published = published_between(workspace, pipeline, *awaited_nights(pipeline, night))
    for counts, rows in labelled_by_part(workspace, pipeline, published, night):
        for cohort in cohorts(pipeline, counts, rows, night):
            if cohort.maturity == "mature":
                there = rows.filter(pl.col(SCORE_DATE) == cohort.score_date)
                for metric in metrics:
                    yield _figure(workspace, pipeline, metric, there, cohort.score_date, night)


def _figure(
    workspace: Workspace, pipeline: Pipeline, metric: BusinessMetric, rows: pl.DataFrame, score_date: date, night: date
) -> MetricValue:
    detail = {"over": metric.over, "unit": metric.unit, "good": metric.good}
    value = None
    try:
        value = compute_metric(pipeline, metric, rows, workspace.settings)
    except NightscoreError as error:
        structlog.get_logger("nightscore").error("metric failed", metric=metric.name, found=error.found)
        detail["error"] = str(error)
    return MetricValue(
        pipeline.name, score_date, night, "business", metric.name, value, rows.height,
        "mature" if metric.over == "outcomes" else "final", detail=detail,
    )  # fmt: skip


def _costs(pipeline: Pipeline, steps: Sequence[StepTime], night: date) -> Iterator[MetricValue]:
    """Steps that a run took several times, such as one for each source, are summed; `all` has the rows of the score."""
    seconds: dict[str, float] = defaultdict(float)
    rows: dict[str, float] = defaultdict(float)
    for one in steps:
        nights = (one.last_date - one.first_date).days + 1
        for step in (one.step, ALL_STEPS):
            seconds[step] += one.seconds / nights
        rows[one.step] += one.rows / nights
    rows[ALL_STEPS] = rows.get("score", 0.0)
    for step, taken in seconds.items():
        figures = {SECONDS: taken} | ({SECONDS_PER_MILLION: 1e6 * taken / rows[step]} if rows[step] else {})
        for name, value in figures.items():
            yield MetricValue(
                pipeline.name, night, night, "cost", f"{name}{step}", value, round(rows[step]), "final"
            )  # fmt: skip
