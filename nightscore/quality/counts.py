"""What a table's rows come to: every figure that a verdict needs, counted in one pass over batches of any size.

A whole frame is one batch. Masks say which rows offend; here they are only added up.
Added here: a figure that a verdict needs. Not here: which rows offend (`masks.py`), or what that means (`verdicts.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from nightscore.quality.masks import Check
from nightscore.quality.rules import Rules, Varies
from nightscore.sources.columns import UNREADABLE
from nightscore.spec.expectations import RowCount

REASON = "quarantine_reason"

Masks = Mapping[str, pl.Series]
"""One boolean a row by the name of a check: whether the row offends it."""


@dataclass(frozen=True)
class Counts:
    """Rows of a table; `offending`, `judged` (no null in the check's columns) and `varied` by the check's name.

    `aside` says for each cause how many rows it sets aside, `set_aside` how many rows have a cause or more; `filled`
    how many rows have a value in a column.
    """

    rows: int
    offending: Mapping[str, int]
    judged: Mapping[str, int]
    varied: Mapping[str, bool]
    filled: Mapping[str, int]
    aside: Mapping[str, int]
    set_aside: int

    def holds(self, check: Check) -> bool | None:
        """Whether an expectation about the whole table holds; None of one that speaks of rows."""
        rule = check.rule
        if isinstance(rule, RowCount):
            return (rule.min or 0) <= self.rows <= (self.rows if rule.max is None else rule.max)
        return self.varied[check.name] if isinstance(rule, Varies) else None


def count(parts: Iterable[tuple[pl.DataFrame, Masks]], checks: Sequence[Check], rules: Rules) -> Counts:
    """The figures of all parts, each a batch of rows with the masks of `checks` over it."""
    rows = set_aside = 0
    offending, judged, filled, aside = (Counter[str]() for _ in range(4))
    values = {check.name: pl.Series([]) for check in checks if isinstance(check.rule, Varies)}
    for batch, masks in parts:
        rows += batch.height
        offending.update({check.name: int(masks[check.name].sum()) for check in checks})
        judged.update({check.name: _complete_rows(batch, check) for check in checks})
        filled.update({name: batch.height - batch[name].null_count() for name in rules.filled})
        causes = set_aside_by(batch, masks, checks, rules)
        aside.update({name: int(mask.sum()) for name, mask in causes.items()})
        set_aside += int(_any_of(causes).sum()) if causes else 0
        values |= {check.name: _two_of(values[check.name], batch, check) for check in checks if check.name in values}
    varied = {name: len(found) > 1 for name, found in values.items()}
    return Counts(rows, offending, judged, varied, filled, aside, set_aside)


def set_aside_by(frame: pl.DataFrame, masks: Masks, checks: Sequence[Check], rules: Rules) -> Masks:
    """The masks of all that sets rows of `frame` aside, by its name in a report."""
    aside = {check.name: masks[check.name] for check in checks if check.rule.severity == "quarantine"}
    return {"readable": frame[UNREADABLE].is_not_null()} | aside if UNREADABLE in rules.schema else aside


def split(frame: pl.DataFrame, aside: Masks) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `frame` let in (without `unreadable`), and those set aside with the names of all causes."""
    named: list[pl.Expr] = [pl.when(mask).then(pl.lit(name)) for name, mask in aside.items()]
    flags = named or [pl.lit(None, dtype=pl.String)]
    marked = frame.with_columns(pl.concat_str(flags, separator="; ", ignore_nulls=True).replace("", None).alias(REASON))
    quarantined = marked.filter(pl.col(REASON).is_not_null())
    return marked.filter(pl.col(REASON).is_null()).drop(REASON, UNREADABLE, strict=False), quarantined


def _any_of(masks: Masks) -> pl.Series:
    """One boolean a row: whether any of the masks, at least one, is true."""
    return pl.DataFrame(dict(masks)).select(pl.any_horizontal(pl.all())).to_series()


def _complete_rows(batch: pl.DataFrame, check: Check) -> int:
    hollow = [name for name in check.columns if batch[name].null_count()]
    if len(hollow) < 2:
        return batch.height - (batch[hollow[0]].null_count() if hollow else 0)
    return batch.select(hollow).drop_nulls().height


def _two_of(found: pl.Series, batch: pl.DataFrame, check: Check) -> pl.Series:
    """Two different values of the column, if it has as many; more than that nobody asks."""
    if len(found) > 1:
        return found
    fresh = batch[check.columns[0]].drop_nulls().unique()
    return (pl.concat([found, fresh]) if len(found) else fresh).unique().head(2)
