"""A stored table is judged as its rows would be in one frame: same report, same rows, and both still count twice."""

import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nightscore.errors import AccountingError, SpecError
from nightscore.lake.objects import StoredObject
from nightscore.lake.parquet import write_parquet
from nightscore.lake.workspace import Workspace
from nightscore.quality import admission, stored
from nightscore.quality import gate as gates
from nightscore.quality.admission import Admission, admit, put_sorted
from nightscore.quality.counts import Counts
from nightscore.quality.gate import gate, gate_file
from nightscore.quality.masks import checks_of, offending
from nightscore.quality.report import GatedFile
from nightscore.quality.rules import Rules
from nightscore.quality.suites import Judgement, judge, judge_counts
from nightscore.spec.expectations import Expectation
from tests.unit.test_quality_counts import ROW, SCHEMA, rules_of, whole_counts

NIGHT = date(2013, 4, 1)
# Great Expectations takes a second an example, so a failing one is shown as it is.
SLOW = settings(
    max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


def people(rows: int, **changes: Any) -> pl.DataFrame:
    columns = {"id": np.arange(rows), "age": np.arange(rows) % 90, "pay": np.arange(rows) / 7, "unreadable": None}
    schema = {"id": pl.Int64, "age": pl.Int64, "pay": pl.Float64, "unreadable": pl.String}
    return pl.DataFrame(columns | changes, schema=schema)


def people_rules(*expectations: dict[str, Any], **changes: Any) -> Rules:
    base = {"unique": {"type": "unique", "columns": ["id"]}}
    parsed = tuple(TypeAdapter(Expectation).validate_python(one) for one in (*base.values(), *expectations))
    schema: dict[str, Any] = {"id": pl.Int64(), "age": pl.Int64(), "pay": pl.Float64(), "unreadable": pl.String()}
    rules = Rules("people", schema, ("id",), parsed, "block", 0.5, filled=("pay",))
    return replace(rules, **changes)


AGE = {"type": "between", "column": "age", "min": 10, "severity": "quarantine"}


def stored_at(folder: Path, frame: pl.DataFrame, key: tuple[str, ...] = ("id",)) -> Path:
    path = folder / "rows.parquet"
    write_parquet(frame, key, path)
    return path


def assert_judged_alike(path: Path, rules: Rules, batch_rows: int) -> GatedFile:
    judged, whole = gate_file(path, rules, NIGHT, batch_rows=batch_rows), gate(pl.read_parquet(path), rules, NIGHT)
    assert judged.report == whole.report
    assert pl.concat(judged.accepted()).equals(whole.accepted)
    assert pl.concat(judged.quarantined()).equals(whole.quarantined)
    return judged


@SLOW
@given(rows=st.lists(ROW, max_size=20), batch_rows=st.integers(1, 7))
def test_any_file_is_judged_as_its_frame(tmp_path: Path, rows: list[tuple[Any, ...]], batch_rows: int) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    assert_judged_alike(stored_at(tmp_path, frame, ("i", "s")), rules_of(), batch_rows)


@SLOW
@given(rows=st.lists(ROW, min_size=1, max_size=30), mostly=st.sampled_from([0.25, 0.5, 2 / 3, 1.0]))
def test_great_expectations_judges_our_counts_as_it_judges_the_rows(rows: list[tuple[Any, ...]], mostly: float) -> None:
    frame, rules = pl.DataFrame(rows, schema=SCHEMA, orient="row"), rules_of()
    expectations = tuple(
        one.model_copy(update={"severity": "block", **({"mostly": mostly} if hasattr(one, "mostly") else {})})
        for one in rules.expectations
    )
    checks = checks_of(expectations)
    assert judge_counts(frame.schema, whole_counts(frame, checks, rules), checks) == judge(frame, checks)


OTHER_REPORTS: list[tuple[Rules, pl.DataFrame]] = [
    (people_rules(AGE, schema={"id": pl.Int64()}), people(20)),
    (people_rules(AGE), people(0)),
    (people_rules(AGE, empty="allow"), people(0)),
    (people_rules(AGE), people(20, unreadable=[None, "{}"] * 10)),
    (people_rules(), people(20, unreadable=[None, "{}"] * 10)),
    (people_rules(expectations=()), people(20, unreadable=[None, "{}"] * 10)),
    (people_rules(AGE | {"min": 100}), people(20)),
    (people_rules(), people(20, pay=None)),
    (people_rules({"type": "row_count", "max": 19}), people(20)),
]


@pytest.mark.parametrize(("rules", "frame"), OTHER_REPORTS)
def test_schemas_empty_nights_and_unreadable_rows_are_told_alike(
    tmp_path: Path, rules: Rules, frame: pl.DataFrame
) -> None:
    assert_judged_alike(stored_at(tmp_path, frame), rules, 7)


@pytest.mark.parametrize("where", [131_070, 131_071, 299_998])
def test_one_repeated_key_among_300_000_rows_blocks(tmp_path: Path, where: int) -> None:
    ids = np.arange(300_000)
    ids[where + 1] = ids[where]
    judged = gate_file(stored_at(tmp_path, people(300_000, id=ids)), people_rules(), NIGHT)
    assert judged.report.reasons == ("unique(id): 2 of 300000 rows, expected no repeated key",)


SINGLE_FAULTS: list[tuple[str, Any, dict[str, Any]]] = [
    ("age", -1, {"type": "between", "column": "age", "min": 0}),
    ("age", None, {"type": "not_null", "columns": ["age"]}),
    ("age", 99, {"type": "in_set", "column": "age", "values": list(range(90))}),
    ("pay", math.nan, {"type": "between", "column": "pay"}),
]


@pytest.mark.parametrize(("column", "value", "expectation"), SINGLE_FAULTS)
def test_one_bad_row_among_300_000_blocks(tmp_path: Path, column: str, value: Any, expectation: dict[str, Any]) -> None:
    frame = people(300_000).with_columns(pl.when(pl.col("id") != 123_457).then(column).otherwise(value).alias(column))
    report = gate_file(stored_at(tmp_path, frame), people_rules(expectation), NIGHT).report
    assert [(one.name, one.unexpected) for one in report.results if not one.passed] == [
        (f"{expectation['type']}({column})", 1)
    ]


def test_a_rule_that_does_not_fit_the_columns_is_a_spec_error(tmp_path: Path) -> None:
    path = stored_at(tmp_path, people(20))
    for expectation in ({"type": "not_null", "columns": ["x"]}, {"type": "matches", "column": "age", "pattern": "1"}):
        with pytest.raises(SpecError):
            gate_file(path, people_rules(expectation), NIGHT)


def test_great_expectations_contradicting_the_masks_on_the_sample_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lenient(frame: pl.DataFrame, check: Any) -> pl.Series:
        mask = offending(frame, check)
        return mask & False if check.name == "between(age)" else mask

    monkeypatch.setattr(gates, "offending", lenient)
    monkeypatch.setattr(stored, "offending", lenient)
    with pytest.raises(AccountingError, match=r"between\(age\): Great Expectations counts \d+ rows, the mask 0"):
        gate_file(stored_at(tmp_path, people(300_000)), people_rules(AGE), NIGHT)


def test_great_expectations_judging_other_counts_than_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(schema: pl.Schema, counts: Counts, checks: Any) -> list[Judgement]:
        return [replace(one, unexpected=1) for one in judge_counts(schema, counts, checks)]

    monkeypatch.setattr(gates, "judge_counts", wrong)
    with pytest.raises(AccountingError, match="counts 1 rows, the mask 0"):
        gate_file(stored_at(tmp_path, people(20)), people_rules(), NIGHT)


def admitted(workspace: Workspace, frame: pl.DataFrame, rules: Rules) -> tuple[StoredObject, Admission]:
    content = workspace.lake.put(frame, rules.key)
    return content, admit(workspace, "people", rules, NIGHT, content, None, "run")


def facts(admission: Admission) -> dict[str, Any]:
    verdict = admission.verdict
    return {"report": verdict.report, "accepted": verdict.accepted_md5, "quarantined": verdict.quarantined_md5}


BIG = people(1000, unreadable=[None] * 999 + ["{}"])
ADMITTED: list[tuple[Rules, pl.DataFrame]] = [
    (people_rules(AGE), BIG),
    (people_rules(AGE, max_quarantine_share=0.0), BIG),
    (people_rules({"type": "unique", "columns": ["age"], "severity": "quarantine"}, max_quarantine_share=1.0), BIG),
    (people_rules(key=("age",)), BIG),
    (people_rules(schema={"id": pl.Int64(), "age": pl.Int64(), "pay": pl.Float64()}), BIG.drop("unreadable")),
]


@pytest.mark.parametrize(("rules", "frame"), ADMITTED)
def test_a_large_table_is_admitted_as_the_same_objects(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, rules: Rules, frame: pl.DataFrame
) -> None:
    _, whole = admitted(workspace, frame, rules)
    monkeypatch.setattr(admission, "WHOLE_ROWS", 500)
    monkeypatch.setattr(admission, "passed_verdict", lambda *_: None)
    monkeypatch.setattr(admission, "gate", None)
    content, streamed = admitted(workspace, frame, rules)
    assert facts(streamed) == facts(whole)
    same = "unreadable" not in rules.schema
    assert (streamed.verdict.accepted_md5 == content.md5) is same


def test_rows_whose_key_repeats_are_stored_as_if_sorted_whole(workspace: Workspace) -> None:
    frame = people(20, id=[3, 3, None, *range(10, 27)])
    assert put_sorted(workspace.lake, lambda: frame.iter_slices(4), ("id",)) == workspace.lake.put(frame, ("id",))
