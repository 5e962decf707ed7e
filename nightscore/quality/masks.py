"""Which rows offend an expectation, as one polars column of booleans each.

The semantics, which Great Expectations must agree with to the row: nulls are judged by `not_null` only, NaN is a value
that lies in no range, patterns are Python's `re.match`, all copies of a repeated key offend.
Added here: the mask of a new kind. Not here: verdicts.
"""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from nightscore.errors import SpecError
from nightscore.quality.rules import Rule
from nightscore.spec.expectations import Between, InSet, Matches, NotNull, RowCount, Unique

_INT64 = (-(2**63), 2**63 - 1)
_FLOAT = (-sys.float_info.max, sys.float_info.max)
_ORDER = {"row_count": 0, "not_null": 1}


@dataclass(frozen=True)
class Check:
    """One expectation over columns judged at once, under a name that is unique in its report."""

    name: str
    rule: Rule
    columns: tuple[str, ...]

    @property
    def mostly(self) -> float:
        """The share of good rows that suffices; a quarantine takes every offending row aside."""
        return 1.0 if self.rule.severity == "quarantine" else getattr(self.rule, "mostly", 1.0)


def checks_of(rules: tuple[Rule, ...]) -> tuple[Check, ...]:
    """Volume first, then completeness (a check a column), then the rest in the declared order."""
    found: dict[str, Check] = {}
    for rule in sorted(rules, key=lambda one: _ORDER.get(one.type, 2)):
        for columns in _column_groups(rule):
            plain = f"{rule.type}({', '.join(columns)})" if columns else rule.type
            again = sum(name == plain or name.startswith(f"{plain} #") for name in found)
            name = f"{plain} #{again + 1}" if again else plain
            found[name] = Check(name, rule, columns)
    return tuple(found.values())


def _column_groups(rule: Rule) -> Iterator[tuple[str, ...]]:
    if isinstance(rule, RowCount):
        yield ()
    elif isinstance(rule, NotNull):
        yield from ((column,) for column in rule.columns)
    else:
        yield rule.columns if isinstance(rule, Unique) else (rule.column,)


def offending(frame: pl.DataFrame, check: Check) -> pl.Series:
    """One boolean a row, True where the row offends; all False where no row can offend.

    Raises SpecError when the expectation cannot be asked of the column's type.
    """
    rule = check.rule
    if isinstance(rule, NotNull):
        return frame[check.columns[0]].is_null()
    if isinstance(rule, Unique):
        key = frame.select(check.columns)
        return key.is_duplicated() & key.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    if isinstance(rule, Between):
        return _outside(frame[rule.column], *bounds(rule, frame[rule.column].dtype))
    if isinstance(rule, InSet):
        column = frame[rule.column]
        return (~column.is_in(members(rule, column.dtype))).fill_null(False)
    if isinstance(rule, Matches):
        return _unmatched(frame[rule.column], rule)
    return pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)


def accepted_rows(frame: pl.DataFrame, rules: tuple[Rule, ...]) -> pl.DataFrame:
    """The rows that a gate which passed has let in: those that no expectation sets aside."""
    aside = [offending(frame, check) for check in checks_of(rules) if check.rule.severity == "quarantine"]
    return frame.filter(~pl.any_horizontal(aside)) if aside else frame


def bounds(rule: Between, dtype: pl.DataType) -> tuple[float, float]:
    """Both bounds in the column's own type, so that no digit is lost; an open bound is the last finite value."""
    if not dtype.is_numeric():
        raise _unfit(rule, rule.column, f"is {dtype}", "a number")
    limits = _INT64 if dtype.is_integer() else _FLOAT
    low = limits[0] if rule.min is None else max(rule.min, limits[0])
    high = limits[1] if rule.max is None else min(rule.max, limits[1])
    return (math.ceil(low), math.floor(high)) if dtype.is_integer() else (low, high)


def members(rule: InSet, dtype: pl.DataType) -> list[str | int | float | bool]:
    """The members of the set in the column's own type."""
    wanted = str if dtype == pl.String else int if dtype.is_numeric() or dtype == pl.Boolean else None
    if wanted is None or not all(isinstance(value, wanted) for value in rule.values):
        raise _unfit(rule, rule.column, f"is {dtype}", "text or a number, of the same type as the set")
    if dtype == pl.Boolean:
        return [bool(value) for value in rule.values]
    return [float(value) for value in rule.values] if dtype.is_float() else list(rule.values)


def pattern(rule: Matches) -> re.Pattern[str]:
    """The compiled pattern; raises SpecError when it is not a regular expression."""
    try:
        return re.compile(rule.pattern)
    except re.error as error:
        raise _unfit(rule, rule.column, f"has the pattern {rule.pattern!r} ({error})", "a regular expression") from None


def _outside(column: pl.Series, low: float, high: float) -> pl.Series:
    within = column.is_between(low, high)
    if column.dtype.is_float():
        within = within & column.is_not_nan()
    return (~within).fill_null(False)


def _unmatched(column: pl.Series, rule: Matches) -> pl.Series:
    if column.dtype != pl.String:
        raise _unfit(rule, rule.column, f"is {column.dtype}", "text")
    match = pattern(rule).match
    bad = [value for value in column.unique().drop_nulls() if not match(value)]
    return column.is_in(pl.Series(bad, dtype=pl.String).implode()).fill_null(False)


def _unfit(rule: Rule, column: str, found: str, expected: str) -> SpecError:
    return SpecError(
        f"judging {rule.type}({column})", f"column {column} {found}", f"expect {expected}, or correct the expectation"
    )
