"""The lines of a report: what each count means under the rules, in words for an operator.

Added here: the line of a new kind. Not here: counting (`counts.py`), asking Great Expectations (`suites.py`).
"""

from collections.abc import Mapping, Sequence

import polars as pl

from nightscore.quality.counts import Counts
from nightscore.quality.masks import Check
from nightscore.quality.report import ExpectationResult
from nightscore.quality.rules import Rules, Varies
from nightscore.quality.suites import Judgement
from nightscore.sources.columns import UNREADABLE
from nightscore.spec.expectations import Between, InSet, Matches, NotNull, RowCount, Unique

_NAMED = 3  # expectations named when a quarantine is too large


def schema_verdict(schema: Mapping[str, pl.DataType], rows: int, rules: Rules) -> ExpectationResult:
    """Whether the columns found are those declared."""
    differences = [f"{name} is missing" for name in rules.schema if name not in schema]
    for name, found in schema.items():
        expected = rules.schema.get(name)
        if expected is None and not rules.extra_columns:
            differences.append(f"{name} is not declared")
        elif expected is not None and expected not in (pl.Unknown(), found):
            differences.append(f"{name} is {found}, expected {expected}")
    detail = "; ".join(sorted(differences)) or "as declared"
    return ExpectationResult("schema", "block", not differences, rows, 0, detail)


def emptiness_verdict(rules: Rules, exempt: bool) -> ExpectationResult:
    """Whether a night may have no rows."""
    allowed = exempt or rules.empty == "allow"
    detail = "this night may be empty" if allowed else "no rows, expected some"
    return ExpectationResult("not_empty", "block", allowed, 0, 0, detail)


def row_verdicts(
    counts: Counts, checks: Sequence[Check], judgements: Sequence[Judgement], rules: Rules
) -> list[ExpectationResult]:
    """All lines about a table with rows; `judgements` are those of Great Expectations, in the order of `checks`."""
    results = [
        ExpectationResult(
            check.name, check.rule.severity, judgement.passed, counts.rows, counts.offending[check.name], _detail(check)
        )
        for check, judgement in zip(checks, judgements, strict=True)
    ]
    return [*_readable(counts, rules), *results, *_filled(counts, rules), *_quarantine(counts, rules)]


def _readable(counts: Counts, rules: Rules) -> list[ExpectationResult]:
    if UNREADABLE not in rules.schema:
        return []
    count, detail = counts.aside["readable"], "expected cells of the declared types"
    return [ExpectationResult("readable", "quarantine", count == 0, counts.rows, count, detail)]


def _filled(counts: Counts, rules: Rules) -> list[ExpectationResult]:
    if not rules.filled:
        return []
    hollow = [name for name in rules.filled if not counts.filled[name]]
    detail = f"no row has a value of {', '.join(hollow)}" if hollow else "every column has a value in some row"
    return [ExpectationResult("filled", rules.filled_severity, not hollow, counts.rows, 0, detail)]


def _quarantine(counts: Counts, rules: Rules) -> list[ExpectationResult]:
    if not counts.aside:
        return []
    count, rows = counts.set_aside, counts.rows
    by_count = sorted(((number, name) for name, number in counts.aside.items()), key=lambda one: (-one[0], one[1]))
    top = ", ".join(f"{name} ({number})" for number, name in by_count[:_NAMED] if number)
    limit = rules.max_quarantine_share
    detail = f"{count / rows:.2%} set aside, limit {limit:.2%}" + (f", most by {top}" if top else "")
    results = [ExpectationResult("quarantine_share", "block", count / rows <= limit, rows, count, detail)]
    if count == rows and rules.empty == "block":
        results.append(ExpectationResult("rows_left", "block", False, rows, count, "every row was set aside"))
    return results


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
