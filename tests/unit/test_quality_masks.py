"""Which rows offend, and the rules a pipeline implies, without Great Expectations."""

import math
from datetime import date
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter

from nightscore.quality.masks import checks_of, offending
from nightscore.quality.rules import (
    Rules,
    feature_rules,
    label_rules,
    prediction_rules,
    rules_hash,
    source_rules,
)
from nightscore.spec.expectations import Expectation
from nightscore.spec.pipeline import Pipeline

PIPELINE = Pipeline.model_validate(
    {
        "name": "demo", "description": "d", "owner": "team:x", "task": "binary",
        "entity": {"name": "person", "key": ["person", "region"]},
        "score_dates": {"start": "2013-01-01", "timezone": "UTC"},
        "sources": {
            "people": {
                "type": "file", "path": "p.csv", "key": ["person"], "event_date": "day", "empty": "allow",
                "columns": [{"name": "person", "type": "integer"}, {"name": "seen", "type": "timestamp"}],
                "expectations": [{"type": "unique", "columns": ["person"], "severity": "quarantine", "reason": "key"}],
            }
        },
        "features": {"model": "f", "columns": [{"name": "age", "type": "float"}, {"name": "kind", "type": "category"}]},
        "label": {"model": "l", "column": "bought", "horizon_days": 1},
        "training": {"window_days": 30, "algorithm": {"type": "linear"}},
        "decision": {"rule": {"type": "threshold", "value": 0.5}},
    }
)  # fmt: skip


def parsed(*expectations: dict[str, Any]) -> tuple[Expectation, ...]:
    return tuple(TypeAdapter(Expectation).validate_python(one) for one in expectations)


MASKS: list[tuple[dict[str, Any], pl.Series, list[bool]]] = [
    ({"type": "not_null", "columns": ["x"]}, pl.Series([1.0, None, math.nan]), [False, True, False]),
    ({"type": "between", "column": "x", "min": 0.5}, pl.Series([0, 1, None]), [True, False, False]),
    ({"type": "between", "column": "x", "min": 0}, pl.Series([0.0, math.nan, math.inf]), [False, True, True]),
    ({"type": "between", "column": "x", "max": 2**60}, pl.Series([2**60, 2**60 + 1]), [False, True]),
    ({"type": "in_set", "column": "x", "values": ["a"]}, pl.Series(["a", "b", None]), [False, True, False]),
    ({"type": "in_set", "column": "x", "values": [1]}, pl.Series([True, False, None]), [False, True, False]),
    ({"type": "matches", "column": "x", "pattern": "a|b"}, pl.Series(["ab", "ca", None]), [False, True, False]),
    ({"type": "unique", "columns": ["x"]}, pl.Series([1, 1, 2, None, None]), [True, True, False, False, False]),
    ({"type": "row_count", "min": 9}, pl.Series([1, 2]), [False, False]),
]


@pytest.mark.parametrize(("expectation", "values", "expected"), MASKS)
def test_a_mask_marks_the_offending_rows(expectation: dict[str, Any], values: pl.Series, expected: list[bool]) -> None:
    (check,) = checks_of(parsed(expectation))
    assert offending(pl.DataFrame({"x": values}), check).to_list() == expected


def test_volume_comes_first_then_completeness_and_every_name_is_its_own() -> None:
    between = {"type": "between", "column": "x", "min": 1}
    rules = parsed(
        between, between | {"severity": "warn"}, {"type": "not_null", "columns": ["x", "y"]}, {"type": "row_count"}
    )
    assert [check.name for check in checks_of(rules)] == [
        "row_count", "not_null(x)", "not_null(y)", "between(x)", "between(x) #2",
    ]  # fmt: skip


def test_a_quarantine_takes_every_offending_row_aside_whatever_share_suffices() -> None:
    one = {"type": "not_null", "columns": ["x"], "mostly": 0.5}
    checks = checks_of(parsed(one, one | {"severity": "quarantine"}))
    assert [check.mostly for check in checks] == [0.5, 1.0]


RULES: list[tuple[Rules, str, dict[str, pl.DataType], list[str], str]] = [
    (
        source_rules(PIPELINE, "people"), "demo.clean.people",
        {"person": pl.Int64(), "seen": pl.Datetime("us", "UTC"), "unreadable": pl.String()},
        ["unique(person)"], "allow",
    ),
    (
        feature_rules(PIPELINE, date(2013, 4, 1)), "demo.features",
        {
            "score_date": pl.Date(), "person": pl.Int64(), "region": pl.Unknown(), "age": pl.Float64(),
            "kind": pl.String(),
        },
        [
            "not_null(score_date)", "not_null(person)", "not_null(region)",
            "unique(score_date, person, region)",
        ], "allow",
    ),
    (
        label_rules(PIPELINE), "demo.labels",
        {"score_date": pl.Date(), "person": pl.Int64(), "region": pl.Unknown(), "bought": pl.Unknown()},
        [
            "not_null(score_date)", "not_null(person)", "not_null(region)", "not_null(bought)",
            "unique(score_date, person, region)", "in_set(bought)",
        ], "allow",
    ),
    (
        prediction_rules(PIPELINE, 20), "demo.predictions",
        {"score_date": pl.Date(), "person": pl.Int64(), "region": pl.Unknown(), "score": pl.Float64()},
        [
            "row_count", "not_null(score_date)", "not_null(person)", "not_null(region)", "not_null(score)",
            "unique(score_date, person, region)", "between(score)", "varies(score)",
        ], "block",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "dataset", "schema", "names", "empty"), RULES)
def test_a_pipeline_says_what_each_dataset_is_judged_by(
    rules: Rules, dataset: str, schema: dict[str, pl.DataType], names: list[str], empty: str
) -> None:
    found = [check.name for check in checks_of(rules.expectations)]
    assert (rules.dataset, rules.schema, found, rules.empty) == (dataset, schema, names, empty)


def test_the_hash_of_rules_follows_what_changes_a_verdict_and_not_the_words() -> None:
    reworded, stricter = PIPELINE.model_dump(), PIPELINE.model_dump()
    reworded["sources"]["people"]["expectations"][0]["reason"] = "other words"
    stricter["sources"]["people"]["expectations"][0]["severity"] = "block"
    hashes = [
        rules_hash(source_rules(Pipeline.model_validate(spec), "people"))
        for spec in (PIPELINE.model_dump(), reworded, stricter)
    ]
    assert (hashes[0] == hashes[1], hashes[0] == hashes[2]) == (True, False)
