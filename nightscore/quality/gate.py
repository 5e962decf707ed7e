"""The gate: rows and their rules in, a verdict with the accepted and the quarantined rows out.

The schema is judged first (nothing else can be asked of a wrong one), then emptiness, volume, completeness, the rest.
Great Expectations gives the verdicts, polars masks say which rows; both must count alike: over all rows of a frame, and
over a sample of a file, of whose rows Great Expectations is given the counts.
Added here: a step of judging. Not here: storing verdicts or rows (`admission.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from nightscore.errors import AccountingError, SpecError
from nightscore.quality.counts import Counts, count, set_aside_by, split
from nightscore.quality.masks import Check, checks_of, offending
from nightscore.quality.report import ExpectationResult, Gated, GatedFile, GateReport
from nightscore.quality.rules import Rules, feature_rules, label_rules, prediction_rules, rules_hash, source_rules
from nightscore.quality.stored import BATCH_ROWS, JudgedFile, Sample, StoredTable
from nightscore.quality.suites import Judgement, judge, judge_counts
from nightscore.quality.verdicts import emptiness_verdict, row_verdicts, schema_verdict
from nightscore.sources.columns import UNREADABLE

__all__ = [
    "WHOLE_ROWS",
    "ExpectationResult",
    "GateReport",
    "Gated",
    "GatedFile",
    "Rules",
    "feature_rules",
    "gate",
    "gate_file",
    "label_rules",
    "prediction_rules",
    "rules_hash",
    "source_rules",
]

WHOLE_ROWS = 200_000
"""Rows up to which Great Expectations counts all for itself. It takes 7 to 12 CPU-µs and .7 KB a row of 30 columns: two
seconds here, where nobody would gain by less, but a minute and 7 GB for 10 M rows."""


def gate(frame: pl.DataFrame, rules: Rules, night: date, exempt_empty: bool = False) -> Gated:
    """Judge `frame`, the candidate rows of `night`; `exempt_empty` lets a night without rows pass in any case.

    A blocked candidate's rows are split as well, for inspection. Raises SpecError when the rules cannot be asked of
    the columns, AccountingError when Great Expectations and the masks count differently.
    """
    final = _final_verdicts(frame.schema, frame.height, rules, exempt_empty)
    if final:
        return Gated(_report(rules, night, frame.height, 0, final), *split(frame, {}))
    checks = _checks_fit_for(frame.columns, rules)
    masks = {check.name: offending(frame, check) for check in checks}
    counts = count([(frame, masks)], checks, rules)
    results = _judge(frame.schema, counts, checks, rules, judge(frame, checks))
    report = _report(rules, night, frame.height, counts.set_aside, results)
    return Gated(report, *split(frame, set_aside_by(frame, masks, checks, rules)))


def gate_file(
    path: Path, rules: Rules, night: date, exempt_empty: bool = False, batch_rows: int = BATCH_ROWS
) -> GatedFile:
    """Judge the Parquet file at `path` as `gate` judges a frame, in one pass and bounded memory.

    Great Expectations is given the counts of all rows, and counts a sample for itself; raises what `gate` raises.
    """
    table = StoredTable.open(path, batch_rows)
    final = _final_verdicts(table.schema, table.rows, rules, exempt_empty)
    if final:
        judged = JudgedFile(table, (), rules, {}, by_row=False)
        return GatedFile(_report(rules, night, table.rows, 0, final), judged.accepted, judged.quarantined)
    checks = _checks_fit_for(list(table.schema), rules)
    judged = JudgedFile.prepare(table, checks, rules)
    sample = Sample(table.rows)
    counts = count(sample.take(judged.masked(checks)), checks, rules)
    _require_agreement_on(sample.rows(), checks, rules)
    results = _judge(table.schema, counts, checks, rules, judge_counts(table.schema, counts, checks))
    report = _report(rules, night, table.rows, counts.set_aside, results)
    return GatedFile(report, judged.accepted, judged.quarantined)


def _final_verdicts(
    schema: Mapping[str, pl.DataType], rows: int, rules: Rules, exempt_empty: bool
) -> list[ExpectationResult]:
    """The lines of a report that ends before any row is looked at; none where rows have to be judged."""
    fit = schema_verdict(schema, rows, rules)
    if not fit.passed:
        return [fit]
    return [] if rows else [fit, emptiness_verdict(rules, exempt_empty)]


def _checks_fit_for(columns: Sequence[str], rules: Rules) -> tuple[Check, ...]:
    checks = checks_of(rules.expectations)
    absent = [f"{check.name} asks for {name}" for check in checks for name in check.columns if name not in columns]
    if absent:
        known = ", ".join(name for name in columns if name != UNREADABLE)
        raise SpecError(f"judging {rules.dataset}", absent, f"name one of the columns {known}")
    return checks


def _judge(
    schema: Mapping[str, pl.DataType], counts: Counts, checks: Sequence[Check], rules: Rules,
    judgements: Sequence[Judgement],
) -> list[ExpectationResult]:  # fmt: skip
    _require_agreement(counts, checks, judgements)
    return [schema_verdict(schema, counts.rows, rules), *row_verdicts(counts, checks, judgements, rules)]


def _require_agreement_on(sample: pl.DataFrame, checks: Sequence[Check], rules: Rules) -> None:
    masks = {check.name: offending(sample, check) for check in checks}
    _require_agreement(count([(sample, masks)], checks, rules), checks, judge(sample, checks))


def _require_agreement(counts: Counts, checks: Sequence[Check], judgements: Sequence[Judgement]) -> None:
    differences = [
        difference
        for check, judgement in zip(checks, judgements, strict=True)
        if (difference := _difference(counts, check, judgement))
    ]
    if differences:
        raise AccountingError(
            "counting offending rows twice", differences, "the expectation means different things to both; reword it"
        )


def _difference(counts: Counts, check: Check, judgement: Judgement) -> str | None:
    holds, counted = counts.holds(check), counts.offending[check.name]
    if holds is not None and holds != judgement.passed:
        return f"{check.name}: Great Expectations says {judgement.passed}, polars {not judgement.passed}"
    if holds is None and judgement.unexpected != counted:
        return f"{check.name}: Great Expectations counts {judgement.unexpected} rows, the mask {counted}"
    return None


def _report(rules: Rules, night: date, rows: int, set_aside: int, results: Sequence[ExpectationResult]) -> GateReport:
    passed = all(one.passed for one in results if one.severity == "block")
    return GateReport(rules.dataset, night, passed, rows, rows - set_aside, set_aside, {}, tuple(results))
