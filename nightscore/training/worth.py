"""Is it worth a model? What the model gains over the rule, or the best baseline, in loss and in the spec's costs.

Added here: another measure of worth. Not here: whether a version may replace another (`nightscore/registry`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.bootstrap import Codes, percentile_interval, resample_dates
from nightscore.measures.paired import compare_by_date, losses
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Costs
from nightscore.training.evaluate import CONFIDENCE, Scored, dates_of, decide_rows, labels_of
from nightscore.training.matrix import Vector

RESAMPLES = 2000


def measure_worth(frame: pl.DataFrame, scored: Mapping[str, Scored], pipeline: Pipeline) -> dict[str, Any] | None:
    """What the first of `scored`, the model, gains over the best rule among the others, else the best of them.

    `gain` is paired evidence over dates; `value`, per decision, is there with `decision.costs`. None without any
    baseline. `frame` holds score_date and label of the scored rows, sorted by key.
    """
    labels, dates = labels_of(frame, pipeline), dates_of(frame)
    lost = {name: losses(pipeline.task, labels, one.probabilities) for name, one in scored.items()}
    model, *baselines = lost
    if not baselines:
        return None
    rules = [name for name in baselines if name.split("_")[0] == "rule"]
    against = min(rules or baselines, key=lambda name: float(lost[name].mean()))
    costs = pipeline.decision.costs
    return {
        "against": against,
        "metric": "log_loss" if pipeline.task == "binary" else "mse",
        "gain": compare_by_date(lost[against], lost[model], dates, CONFIDENCE).as_json(),
        "value": None if costs is None else _value(
            costs,
            _row_costs(costs, labels, frame, scored[model], pipeline),
            _row_costs(costs, labels, frame, scored[against], pipeline),
            dates,
        ),
    }  # fmt: skip


def worth_line(metrics: Mapping[str, Any]) -> str:
    """One plain sentence: is it worth a model? `metrics` as in `Trained.metrics`."""
    worth = metrics.get("worth")
    if worth is None:
        return "Nobody can say whether it is worth a model: there is no baseline to compare it with."
    gain, against = worth["gain"], f"the {worth['against']} baseline"
    if gain["gain"] is None or gain["lower"] is None or gain["upper"] is None:
        return f"Not enough evidence whether it is worth a model: {gain['dates']} held-out dates against {against}."
    verdict = "It is worth a model" if gain["lower"] > 0 else "It is not worth a model" if gain["upper"] < 0 else (
        "It is not shown to be worth a model")  # fmt: skip
    loss = {"log_loss": "log loss", "mse": "squared error"}[worth["metric"]]
    more = "less" if gain["gain"] >= 0 else "more"
    bounds = f"gain between {gain['lower']:.1%} and {gain['upper']:.1%}"
    return f"{verdict}: {abs(gain['gain']):.1%} {more} {loss} than {against} ({bounds}){_value_clause(worth['value'])}."


def _value_clause(value: Mapping[str, Any] | None) -> str:
    if value is None or value["gain"]["value"] is None:
        return ""
    gain, unit = value["gain"], f" {value['unit']}" if value["unit"] else ""
    bounds = "" if gain["lower"] is None else f" (between {gain['lower']:.4g} and {gain['upper']:.4g})"
    return f", and {gain['value']:+.4g}{unit} of value per decision{bounds}"


def _row_costs(costs: Costs, labels: Vector, frame: pl.DataFrame, scored: Scored, pipeline: Pipeline) -> Vector:
    """What each row's decision (rows,) cost; right ones cost nothing."""
    decided, positive = decide_rows(frame, scored, pipeline), labels == 1
    return np.asarray((decided & ~positive) * costs.false_alarm + (~decided & positive) * costs.miss)


def _value(costs: Costs, model: Vector, baseline: Vector, dates: Codes) -> dict[str, Any]:
    rows, saved = np.bincount(dates), np.bincount(dates, weights=baseline - model)
    weights = resample_dates(len(rows), RESAMPLES if len(rows) > 1 else 0, seed=0)
    gain = percentile_interval(float(saved.sum() / rows.sum()), weights @ saved / (weights @ rows), CONFIDENCE)
    return {
        "unit": costs.unit,
        "model": -float(model.mean()),
        "baseline": -float(baseline.mean()),
        "gain": gain.as_json(),
    }
