"""The gate: a frame and its rules in, a verdict with the accepted and the quarantined rows out.

The schema is judged first (nothing else can be asked of a wrong one), then emptiness, volume, completeness, the rest.
Great Expectations gives the verdicts, polars masks say which rows; both must count alike.
Added here: a step of judging. Not here: storing verdicts or rows (`admission.py`).
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from nightscore.errors import AccountingError, SpecError
from nightscore.quality.masks import Check, checks_of, holds, offending
from nightscore.quality.report import ExpectationResult, Gated, GateReport
from nightscore.quality.rules import (
    Rules,
    Varies,
    feature_rules,
    label_rules,
    prediction_rules,
    rules_hash,
    source_rules,
)
from nightscore.quality.suites import Judgement, judge
from nightscore.sources.columns import UNREADABLE
from nightscore.spec.expectations import Between, InSet, Matches, NotNull, RowCount, Unique

__all__ = [
    "ExpectationResult",
    "GateReport",
    "Gated",
    "Rules",
    "feature_rules",
    "gate",
    "label_rules",
    "prediction_rules",
    "rules_hash",
    "source_rules",
]

REASON = "quarantine_reason"
_NAMED = 3  # expectations named when a quarantine is too large

Masks = dict[str, pl.Series]


def gate(frame: pl.DataFrame, rules: Rules, night: date, exempt_empty: bool = False) -> Gated:
    """Judge `frame`, the candidate rows of `night`; `exempt_empty` lets a night without rows pass in any case.

    A blocked candidate's rows are split as well, for inspection. Raises SpecError when the rules cannot be asked of
    the columns, AccountingError when Great Expectations and the masks count differently.
    """
    schema = _judge_schema(frame, rules)
    if not schema.passed:
        return _split(frame, rules, night, [schema], {})
    if frame.height == 0:
        return _split(frame, rules, night, [schema, _judge_emptiness(rules, exempt_empty)], {})
    checks = checks_of(rules.expectations)
    _require_columns(checks, frame, rules)
    masks = {check.name: offending(frame, check) for check in checks}
    results = [*_judge_rows(frame, checks, masks), *_judge_filled(frame, rules)]
    aside = {check.name: masks[check.name] for check in checks if check.rule.severity == "quarantine"}
    if UNREADABLE in rules.schema:
        aside = {"readable": frame[UNREADABLE].is_not_null()} | aside
        results.insert(0, _judge_readable(aside["readable"]))
    results.extend(_judge_quarantine(aside, rules, frame.height))
    return _split(frame, rules, night, [schema, *results], aside)


def _judge_schema(frame: pl.DataFrame, rules: Rules) -> ExpectationResult:
    differences = [f"{name} is missing" for name in rules.schema if name not in frame.columns]
    for name, found in frame.schema.items():
        expected = rules.schema.get(name)
        if expected is None and not rules.extra_columns:
            differences.append(f"{name} is not declared")
        elif expected is not None and expected not in (pl.Unknown(), found):
            differences.append(f"{name} is {found}, expected {expected}")
    detail = "; ".join(sorted(differences)) or "as declared"
    return ExpectationResult("schema", "block", not differences, frame.height, 0, detail)


def _judge_emptiness(rules: Rules, exempt: bool) -> ExpectationResult:
    allowed = exempt or rules.empty == "allow"
    detail = "this night may be empty" if allowed else "no rows, expected some"
    return ExpectationResult("not_empty", "block", allowed, 0, 0, detail)


def _judge_filled(frame: pl.DataFrame, rules: Rules) -> list[ExpectationResult]:
    if not rules.filled:
        return []
    counts = frame.select(rules.filled).null_count().row(0, named=True)
    hollow = [name for name in rules.filled if counts[name] == frame.height]
    detail = f"no row has a value of {', '.join(hollow)}" if hollow else "every column has a value in some row"
    return [ExpectationResult("filled", rules.filled_severity, not hollow, frame.height, 0, detail)]


def _judge_readable(unreadable: pl.Series) -> ExpectationResult:
    count = int(unreadable.sum())
    return ExpectationResult(
        "readable", "quarantine", count == 0, len(unreadable), count, "expected cells of the declared types"
    )


def _require_columns(checks: Sequence[Check], frame: pl.DataFrame, rules: Rules) -> None:
    there = set(frame.columns)
    absent = [f"{check.name} asks for {name}" for check in checks for name in check.columns if name not in there]
    if absent:
        known = ", ".join(name for name in frame.columns if name != UNREADABLE)
        raise SpecError(f"judging {rules.dataset}", absent, f"name one of the columns {known}")


def _judge_rows(frame: pl.DataFrame, checks: Sequence[Check], masks: Masks) -> list[ExpectationResult]:
    judgements = judge(frame, checks)
    differences = [
        difference
        for check, judgement in zip(checks, judgements, strict=True)
        if (difference := _difference(frame, check, judgement, int(masks[check.name].sum())))
    ]
    if differences:
        raise AccountingError(
            "counting offending rows twice", differences, "the expectation means different things to both; reword it"
        )
    counts = [int(masks[check.name].sum()) for check in checks]
    return [
        ExpectationResult(check.name, check.rule.severity, judgement.passed, frame.height, count, _detail(check))
        for check, judgement, count in zip(checks, judgements, counts, strict=True)
    ]


def _difference(frame: pl.DataFrame, check: Check, judgement: Judgement, counted: int) -> str | None:
    if isinstance(check.rule, RowCount | Varies):
        if holds(frame, check.rule) == judgement.passed:
            return None
        return f"{check.name}: Great Expectations says {judgement.passed}, polars {not judgement.passed}"
    if judgement.unexpected == counted:
        return None
    return f"{check.name}: Great Expectations counts {judgement.unexpected} rows, the mask {counted}"


def _judge_quarantine(aside: Masks, rules: Rules, rows: int) -> list[ExpectationResult]:
    if not aside:
        return []
    count = int(_any_of(aside).sum())
    by_count = sorted(((int(mask.sum()), name) for name, mask in aside.items()), key=lambda one: (-one[0], one[1]))
    top = ", ".join(f"{name} ({number})" for number, name in by_count[:_NAMED] if number)
    limit = rules.max_quarantine_share
    detail = f"{count / rows:.2%} set aside, limit {limit:.2%}" + (f", most by {top}" if top else "")
    results = [ExpectationResult("quarantine_share", "block", count / rows <= limit, rows, count, detail)]
    if count == rows and rules.empty == "block":
        results.append(ExpectationResult("rows_left", "block", False, rows, count, "every row was set aside"))
    return results


def _any_of(masks: Masks) -> pl.Series:
    return pl.DataFrame(masks).select(pl.any_horizontal(pl.all())).to_series()


def _split(frame: pl.DataFrame, rules: Rules, night: date, results: Sequence[ExpectationResult], aside: Masks) -> Gated:
    named: list[pl.Expr] = [pl.when(mask).then(pl.lit(name)) for name, mask in aside.items()]
    flags = named or [pl.lit(None, dtype=pl.String)]
    marked = frame.with_columns(pl.concat_str(flags, separator="; ", ignore_nulls=True).replace("", None).alias(REASON))
    quarantined = marked.filter(pl.col(REASON).is_not_null())
    accepted = marked.filter(pl.col(REASON).is_null()).drop(REASON, UNREADABLE, strict=False)
    passed = all(one.passed for one in results if one.severity == "block")
    report = GateReport(
        rules.dataset, night, passed, frame.height, accepted.height, quarantined.height, {}, tuple(results)
    )
    return Gated(report, accepted, quarantined)


def _detail(check: Check) -> str:
    share = f" in at least {check.mostly:.4g} of the rows" if check.mostly < 1 else ""
    match check.rule:
        case NotNull():
            return f"expected a value{share}"
        case Between(min=low, max=high) | RowCount(min=low, max=high):
            return f"expected {'' if low is None else f'{low:.12g}'}..{'' if high is None else f'{high:.12g}'}{share}"
        case InSet(values=values):
            return f"expected one of the {len(values)} declared values{share}"
        case Matches(pattern=written):
            return f"expected a match of {written}{share}"
        case Unique():
            return "expected no repeated key"
        case Varies():
            return "expected more than one value"
