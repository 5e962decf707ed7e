"""The gate with the real Great Expectations: what blocks, what is set aside, and that no value leaves in a report."""

import json
import math
from datetime import UTC, date, datetime
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nightscore.errors import AccountingError, SpecError
from nightscore.quality.gate import GateReport, Rules, gate
from nightscore.quality.masks import checks_of, offending
from nightscore.quality.rules import Varies
from nightscore.quality.suites import judge
from nightscore.spec.expectations import Expectation

NIGHT = date(2013, 4, 1)
MARKER = "zebra4711"
SCHEMA: dict[str, pl.DataType] = {"id": pl.Int64(), "name": pl.String(), "age": pl.Int64(), "pay": pl.Float64()}
AGE: dict[str, Any] = {"type": "between", "column": "age", "min": 0, "max": 120, "severity": "quarantine"}


def rules_of(*expectations: dict[str, Any], **changes: Any) -> Rules:
    parsed = tuple(TypeAdapter(Expectation).validate_python(one) for one in expectations)
    base: dict[str, Any] = {
        "dataset": "people", "schema": SCHEMA, "key": ("id",), "expectations": parsed, "empty": "block",
        "max_quarantine_share": 0.5,
    }  # fmt: skip
    return Rules(**base | changes)


def people(**changes: list[Any]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {
        "id": [1, 2, 3, 4], "name": ["ann", "bob", "cid", "dee"], "age": [30, 40, 50, 60],
        "pay": [1000.0, 2000.0, 3000.0, None],
    }  # fmt: skip
    return pl.DataFrame(columns | changes, schema=SCHEMA)


def counts(report: GateReport) -> tuple[bool, int, int, int]:
    return report.passed, report.rows_in, report.rows_out, report.rows_quarantined


def failed(report: GateReport) -> dict[str, int]:
    return {one.name: one.unexpected for one in report.results if not one.passed}


def test_a_negative_age_is_set_aside_with_its_reason() -> None:
    gated = gate(people(age=[30, -5, 50, None]), rules_of(AGE), NIGHT)
    assert (counts(gated.report), failed(gated.report)) == ((True, 4, 3, 1), {"between(age)": 1})
    assert gated.quarantined.rows() == [(2, "bob", -5, 2000.0, "between(age)")]
    assert gated.accepted.columns == list(SCHEMA)


CASES: list[tuple[dict[str, list[Any]], dict[str, Any], str, int]] = [
    ({"pay": [1.0, 999999999.0, math.nan, None]}, {"type": "between", "column": "pay", "max": 1e6}, "between(pay)", 2),
    ({"pay": [1.0, math.inf, -math.inf, 2.0]}, {"type": "between", "column": "pay"}, "between(pay)", 2),
    ({"pay": [None] * 4}, {"type": "not_null", "columns": ["pay"], "mostly": 0.25}, "not_null(pay)", 4),
    ({"id": [1, 2, 2, None]}, {"type": "unique", "columns": ["id"]}, "unique(id)", 2),
    ({"id": [1, 2, 2, 2], "age": [1, 5, 5, None]}, {"type": "unique", "columns": ["id", "age"]}, "unique(id, age)", 2),
    ({}, {"type": "in_set", "column": "name", "values": ["ann", "bob", "cid"]}, "in_set(name)", 1),
    ({}, {"type": "in_set", "column": "age", "values": [30, 40]}, "in_set(age)", 2),
    ({"pay": [0.0, -0.0, 1.0, 2.0]}, {"type": "in_set", "column": "pay", "values": [0, 1]}, "in_set(pay)", 1),
    ({"pay": [0.0, -0.0, 1.0, 2.0]}, {"type": "unique", "columns": ["pay"]}, "unique(pay)", 2),
    ({}, {"type": "matches", "column": "name", "pattern": "[a-c]|x"}, "matches(name)", 1),
    ({"name": ["1", "xa", "a\n", None]}, {"type": "matches", "column": "name", "pattern": "(a)$"}, "matches(name)", 2),
    ({}, {"type": "matches", "column": "name", "pattern": "(?i)^(A|B)|CID"}, "matches(name)", 1),
    ({}, {"type": "row_count", "min": 5}, "row_count", 0),
    ({"age": [2**62 + 1, None, 1, 2]}, {"type": "between", "column": "age", "max": 2**62}, "between(age)", 1),
]


@pytest.mark.parametrize(("data", "expectation", "name", "unexpected"), CASES)
def test_a_failed_blocking_expectation_blocks_the_night(
    data: dict[str, list[Any]], expectation: dict[str, Any], name: str, unexpected: int
) -> None:
    report = gate(people(**data), rules_of(expectation), NIGHT).report
    assert (counts(report), failed(report)) == ((False, 4, 4, 0), {name: unexpected})
    assert [reason.startswith(f"{name}: ") for reason in report.reasons] == [True]


def test_a_warning_is_recorded_and_lets_everything_through() -> None:
    report = gate(people(age=[-5] * 4), rules_of(AGE | {"severity": "warn"}), NIGHT).report
    assert (counts(report), failed(report), report.reasons) == ((True, 4, 4, 0), {"between(age)": 4}, ())


def test_a_wrong_schema_blocks_with_every_difference_named_and_nothing_else_judged() -> None:
    frame = people().rename({"name": "full_name"}).with_columns(pl.col("age").cast(pl.String))
    report = gate(frame, rules_of(AGE), NIGHT).report
    assert report.reasons == ("schema: age is String, expected Int64; full_name is not declared; name is missing",)
    assert [one.name for one in report.results] == ["schema"]


@pytest.mark.parametrize(
    ("empty", "exempt", "passed"), [("allow", False, True), ("block", True, True), ("block", False, False)]
)
def test_an_empty_night_passes_only_where_allowed(empty: str, exempt: bool, passed: bool) -> None:
    rules = rules_of({"type": "row_count", "min": 3}, AGE, empty=empty)
    gated = gate(people().clear(), rules, NIGHT, exempt_empty=exempt)
    assert counts(gated.report) == (passed, 0, 0, 0)
    assert gated.report.reasons == (() if passed else ("not_empty: no rows, expected some",))


def test_a_quarantine_above_its_share_blocks_and_names_the_worst_expectations() -> None:
    rules = rules_of(AGE, {"type": "not_null", "columns": ["pay"], "severity": "quarantine"}, max_quarantine_share=0.5)
    gated = gate(people(age=[-1, -2, 3, -4]), rules, NIGHT)
    assert counts(gated.report) == (False, 4, 1, 3)
    assert gated.report.reasons == (
        "quarantine_share: 3 of 4 rows, 75.00% set aside, limit 50.00%, most by between(age) (3), not_null(pay) (1)",
    )
    found = gated.quarantined["quarantine_reason"].to_list()
    assert found == ["between(age)", "between(age)", "not_null(pay); between(age)"]


def test_a_night_whose_every_row_is_set_aside_is_blocked_whatever_the_share() -> None:
    gated = gate(people(age=[-1] * 4), rules_of(AGE, max_quarantine_share=1.0), NIGHT)
    assert (counts(gated.report), gated.report.reasons) == (
        (False, 4, 0, 4),
        ("rows_left: 4 of 4 rows, every row was set aside",),
    )


def test_unreadable_rows_are_set_aside_with_their_cells_and_the_column_goes() -> None:
    frame = people().with_columns(pl.Series("unreadable", [None, '{"age": "x"}', None, None], dtype=pl.String))
    gated = gate(frame, rules_of(schema=SCHEMA | {"unreadable": pl.String()}), NIGHT)
    assert gated.accepted.equals(people().filter(pl.col("id") != 2))
    assert gated.quarantined.rows() == [(2, "bob", 40, 2000.0, '{"age": "x"}', "readable")]


def test_no_value_of_the_data_is_in_a_report() -> None:
    expectations: list[dict[str, Any]] = [
        {"type": "in_set", "column": "name", "values": ["ann"]},
        {"type": "matches", "column": "name", "pattern": "^a"},
        {"type": "unique", "columns": ["name"], "severity": "quarantine"},
        {"type": "unique", "columns": ["name", "age"], "severity": "warn"},
        {"type": "between", "column": "pay", "max": 10},
    ]
    frame = people(name=[MARKER] * 4, age=[471147114711] * 4, pay=[98765.4321] * 4)
    text = json.dumps(gate(frame, rules_of(*expectations), NIGHT).report.as_json())
    assert [value for value in (MARKER, "471147114711", "98765") if value in text] == []


def test_row_order_does_not_change_the_report() -> None:
    rules = rules_of(AGE, {"type": "unique", "columns": ["name"], "severity": "quarantine"})
    frame = people(name=["ann", "bob", "ann", "dee"], age=[1, -2, 3, 4])
    assert gate(frame, rules, NIGHT).report == gate(frame.reverse(), rules, NIGHT).report


@pytest.mark.parametrize(("scores", "passed"), [([0.1, 0.1], False), ([0.1, 0.2], True), ([None, 0.1], False)])
def test_a_constant_score_is_found(scores: list[float | None], passed: bool) -> None:
    rules = rules_of(schema={"score": pl.Float64()}, expectations=(Varies(column="score"),))
    assert gate(pl.DataFrame({"score": scores}), rules, NIGHT).report.passed is passed


WRONG_RULES: list[dict[str, Any]] = [
    {"type": "between", "column": "name", "min": 1},
    {"type": "matches", "column": "age", "pattern": "1"},
    {"type": "matches", "column": "name", "pattern": "("},
    {"type": "in_set", "column": "age", "values": ["x"]},
    {"type": "not_null", "columns": ["height"]},
]


@pytest.mark.parametrize("expectation", WRONG_RULES)
def test_an_expectation_that_does_not_fit_the_columns_is_a_spec_error(expectation: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        gate(people(), rules_of(expectation), NIGHT)


def test_rows_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(AccountingError, match="10 in, 8 out"):
        GateReport("people", NIGHT, True, 10, 8, 1, {"late": 2})


PROPERTY_RULES: list[dict[str, Any]] = [
    {"type": "not_null", "columns": ["i", "f", "s", "b", "d", "t"]},
    {"type": "between", "column": "i", "min": -2.5, "max": 2**53},
    {"type": "between", "column": "f", "min": 0},
    {"type": "between", "column": "f", "max": 1.5},
    {"type": "in_set", "column": "i", "values": [0, 1]},
    {"type": "in_set", "column": "f", "values": [0, 1]},
    {"type": "in_set", "column": "s", "values": ["a", ""]},
    {"type": "in_set", "column": "b", "values": [1]},
    {"type": "matches", "column": "s", "pattern": r"\w$|\d"},
    *({"type": "unique", "columns": [name]} for name in "ifsbdt"),
    {"type": "unique", "columns": ["i", "f", "s"]},
    {"type": "unique", "columns": ["b", "d", "t"]},
]
ROW = st.tuples(
    st.none() | st.sampled_from([-3, -2, 0, 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]),
    st.none() | st.sampled_from([0.0, 1.0, 1.5, -1.0, math.inf, -math.inf, math.nan]),
    st.none() | st.sampled_from(["", "a", "b", "a\n", "٣", "é", "\n", "NaN", "None"]),
    st.none() | st.booleans(),
    st.none() | st.sampled_from([date(1, 1, 1), date(2013, 1, 1), date(9999, 12, 31)]),
    st.none() | st.sampled_from([datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 7, 1, 5, tzinfo=UTC)]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_masks_count_what_great_expectations_counts(rows: list[tuple[Any, ...]]) -> None:
    schema = {
        "i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "d": pl.Date, "t": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    checks = checks_of(tuple(TypeAdapter(Expectation).validate_python(one) for one in PROPERTY_RULES))
    ours = {check.name: int(offending(frame, check).sum()) for check in checks}
    theirs = {check.name: one.unexpected for check, one in zip(checks, judge(frame, checks), strict=True)}
    assert ours == theirs


@pytest.mark.parametrize(("severity", "passed"), [("block", False), ("warn", True)])
def test_a_column_without_any_value_is_named(severity: Literal["block", "warn"], passed: bool) -> None:
    rules = rules_of(filled=("age", "pay"), filled_severity=severity)
    report = gate(people(pay=[None] * 4), rules, NIGHT).report
    judged = next(result for result in report.results if result.name == "filled")
    assert (report.passed, judged.passed, judged.detail) == (passed, False, "no row has a value of pay")
