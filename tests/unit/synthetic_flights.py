"""A small world of flights for tests of training and scoring: seeded, with nulls, categories and a real signal."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from nightscore.spec.pipeline import Pipeline

CARRIERS = ("AA", "B6", "DL", "UA", "WN")
LIGHTGBM = {"type": "lightgbm", "trees": 25, "leaves": 15, "learning_rate": 0.1, "min_rows_in_leaf": 20}
LINEAR = {"type": "linear"}
CONSTANT = {"type": "constant"}
ALGORITHMS = {"lightgbm": LIGHTGBM, "linear": LINEAR, "constant": CONSTANT}


def make_pipeline(algorithm: str = "lightgbm", task: str = "binary", **sections: Any) -> Pipeline:
    """A pipeline over the columns of `make_flights`; `sections` replace whole sections of the spec."""
    return Pipeline.model_validate({**_spec(ALGORITHMS[algorithm], task), **sections})


def training_section(**settings: Any) -> dict[str, Any]:
    """The `training` section of `make_pipeline`, with `settings` changed."""
    base = {"window_days": 40, "holdout_days": 8, "min_rows": 500, "algorithm": LIGHTGBM}
    return {**base, "baselines": [LINEAR, CONSTANT], **settings}


def _spec(algorithm: dict[str, Any], task: str) -> dict[str, Any]:
    return {
        "name": "flights",
        "description": "late flights of a made-up airport",
        "owner": "team:tests",
        "task": task,
        "entity": {"name": "flight", "key": ["carrier", "flight"]},
        "score_dates": {"start": "2013-01-01", "timezone": "America/New_York"},
        "sources": {"flights": {"type": "file", "path": "flights.csv", "key": ["flight"], "cadence": "snapshot",
                                "columns": [{"name": "flight", "type": "integer"}]}},
        "features": {"model": "features", "columns": [
            {"name": "carrier", "type": "category", "segment": True},
            {"name": "hour", "type": "integer"},
            {"name": "wind", "type": "float"},
            {"name": "weekend", "type": "boolean", "segment": True},
            {"name": "gate", "type": "category"},
        ]},
        "label": {"model": "labels", "column": "label", "horizon_days": 1},
        "training": training_section(algorithm=algorithm),
        "decision": {"rule": {"type": "threshold", "value": 0.4 if task == "binary" else 30.0}},
    }  # fmt: skip


def make_flights(dates: int = 40, rows_per_date: int = 150, seed: int = 7, task: str = "binary") -> pl.DataFrame:
    """Rows sorted by (score_date, carrier, flight); `label` is 0/1, or minutes for regression."""
    rng = np.random.default_rng(seed)
    n = dates * rows_per_date
    carrier, hour = rng.integers(0, len(CARRIERS), n), rng.integers(5, 24, n)
    wind, gate = rng.gamma(2.0, 5.0, n), rng.integers(1, 12, n)
    day = np.repeat(np.arange(dates), rows_per_date)
    signal = 0.3 * (carrier - 2) + 0.1 * (hour - 14) + 0.05 * (wind - 10) - 0.8
    label = (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    minutes = 20 + 15 * signal + rng.normal(0, 5, n)
    wind[rng.random(n) < 0.1] = np.nan
    return pl.DataFrame({
        "score_date": [date(2013, 1, 1) + timedelta(days=int(at)) for at in day],
        "carrier": [CARRIERS[at] for at in carrier],
        "flight": np.tile(np.arange(rows_per_date), dates),
        "hour": hour,
        "wind": pl.Series(wind).fill_nan(None),
        "weekend": day % 7 >= 5,
        "gate": gate,
        "label": label if task == "binary" else minutes,
    }).sort("score_date", "carrier", "flight")  # fmt: skip
