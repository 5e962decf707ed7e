"""The rules each dataset of a pipeline is judged by: what the spec declares and what it implies.

Added here: the rules of a new dataset. Not here: how a rule is evaluated.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import polars as pl

from nightscore.sources.columns import COLUMN_TYPES, UNREADABLE
from nightscore.spec.datasets import clean_dataset, features_dataset, labels_dataset, predictions_dataset
from nightscore.spec.expectations import Between, Expectation, ExpectationBase, InSet, NotNull, RowCount, Unique
from nightscore.spec.pipeline import Pipeline

_VERSION = 1  # raised when the same rules would be judged differently, so that old verdicts are not taken over
_ANY = pl.Unknown()
_FEATURE_TYPES: dict[str, pl.DataType] = {
    "float": pl.Float64(),
    "integer": pl.Int64(),
    "category": pl.String(),
    "boolean": pl.Boolean(),
}


class Varies(ExpectationBase):
    """The column has at least two different values; implied for scores, so not part of the spec."""

    type: Literal["varies"] = "varies"
    column: str


Rule = Expectation | Varies


@dataclass(frozen=True)
class Rules:
    """What a dataset is judged by. In `schema`, `pl.Unknown()` stands for any type; `filled` columns have a value."""

    dataset: str
    schema: dict[str, pl.DataType]
    key: tuple[str, ...]
    expectations: tuple[Rule, ...]
    empty: Literal["allow", "block"]
    max_quarantine_share: float
    extra_columns: bool = False
    filled: tuple[str, ...] = ()
    filled_severity: Literal["block", "warn"] = "block"


def source_rules(pipeline: Pipeline, name: str) -> Rules:
    """The rules for the rows of source `name` as delivered; judged, they are the clean dataset.

    A repeated key is set aside unless the spec says otherwise.
    """
    source = pipeline.sources[name]
    schema = {column.name: COLUMN_TYPES[column.type] for column in source.columns}
    declared = any(isinstance(one, Unique) and set(one.columns) == set(source.key) for one in source.expectations)
    implied = () if declared else (Unique(type="unique", columns=source.key, severity="quarantine"),)
    return Rules(
        clean_dataset(pipeline.name, name), schema | {UNREADABLE: pl.String()}, source.key,
        (*implied, *source.expectations), source.empty, source.max_quarantine_share,
    )  # fmt: skip


def feature_rules(pipeline: Pipeline, night: date) -> Rules:
    """The rules for a night's features; a night may be empty only where every source may be.

    A feature without any value blocks, but only warns while the first nights have no full history behind them.
    """
    keys = _key_schema(pipeline)
    warming_up = night < pipeline.score_dates.start + timedelta(days=pipeline.features.lookback_days)
    features = {column.name: _FEATURE_TYPES[column.type] for column in pipeline.features.columns}
    filled = tuple(column.name for column in pipeline.features.columns if not column.may_be_null)
    allowed = all(source.empty == "allow" for source in pipeline.sources.values())
    return Rules(
        features_dataset(pipeline.name), keys | features, tuple(keys),
        (*_identified_by(keys), *pipeline.features.expectations),
        "allow" if allowed else "block", pipeline.features.max_quarantine_share, filled=filled,
        filled_severity="warn" if warming_up else "block",
    )  # fmt: skip


def label_rules(pipeline: Pipeline) -> Rules:
    """The rules for the labels that became known on a night; early nights have none, so empty is allowed."""
    keys, label = _key_schema(pipeline), pipeline.label.column
    expectations: list[Rule] = [*_identified_by([*keys, label], keys)]
    binary = pipeline.task == "binary"
    finite = Between(type="between", column=label, reason="a label is finite")
    expectations.append(InSet(type="in_set", column=label, values=(0, 1)) if binary else finite)
    schema = keys | {label: _ANY}
    return Rules(labels_dataset(pipeline.name), schema, tuple(keys), tuple(expectations), "allow", 0.0, True)


def prediction_rules(pipeline: Pipeline, expected_rows: int) -> Rules:
    """The rules for a night's predictions, which are as many as its feature rows; columns beside the score are free."""
    keys = _key_schema(pipeline)
    low, high = pipeline.prediction_range
    expectations: list[Rule] = [
        RowCount(type="row_count", min=expected_rows, max=expected_rows),
        *_identified_by([*keys, "score"], keys),
        Between(type="between", column="score", min=low, max=high, reason="a score is finite and within its range"),
    ]
    if expected_rows >= max(2, pipeline.monitoring.min_rows) and pipeline.training.algorithm.type != "constant":
        expectations.append(Varies(column="score"))
    return Rules(
        predictions_dataset(pipeline.name), keys | {"score": pl.Float64()}, tuple(keys),
        (*expectations, *pipeline.publish.expectations), "block" if expected_rows else "allow", 0.0, True,
    )  # fmt: skip


def rules_hash(rules: Rules) -> str:
    """SHA-256 of all that can change a verdict (so not the reasons in words)."""
    content = {
        "version": _VERSION,
        "dataset": rules.dataset,
        "schema": {name: str(dtype) for name, dtype in rules.schema.items()},
        "key": rules.key,
        "expectations": [one.model_dump(mode="json", exclude={"reason"}) for one in rules.expectations],
        "empty": rules.empty,
        "max_quarantine_share": rules.max_quarantine_share,
        "extra_columns": rules.extra_columns,
        "filled": rules.filled,
        "filled_severity": rules.filled_severity,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _identified_by(filled: Iterable[str], key: Iterable[str] | None = None) -> tuple[NotNull, Unique]:
    columns = tuple(filled)
    unique = columns if key is None else tuple(key)
    return NotNull(type="not_null", columns=columns), Unique(type="unique", columns=unique)


def _key_schema(pipeline: Pipeline) -> dict[str, pl.DataType]:
    return {"score_date": pl.Date()} | {name: _type_in_sources(pipeline, name) for name in pipeline.entity.key}


def _type_in_sources(pipeline: Pipeline, name: str) -> pl.DataType:
    declared = {column.type for source in pipeline.sources.values() for column in source.columns if column.name == name}
    return COLUMN_TYPES[declared.pop()] if len(declared) == 1 else _ANY
