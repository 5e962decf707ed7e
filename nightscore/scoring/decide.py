"""From scores to what readers act on: rank, decile, decision and the rule that made it.

Added here: a kind of decision rule. Not here: gates on scores, or which columns are published.
"""

from collections.abc import Iterator, Mapping

import polars as pl
from polars.exceptions import PolarsError

from nightscore.errors import SpecError
from nightscore.quality.rules import feature_rules
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import BusinessRule, Decision, Threshold

SCORE, PROBABILITY = "score", "probability"
DECISION_COLUMNS: Mapping[str, type[pl.DataType]] = {
    "decision": pl.Boolean,
    "decision_reason": pl.String,
    "rank": pl.Int64,
    "decile": pl.Int64,
}
"""What a decision adds."""


def check_decision(pipeline: Pipeline) -> None:
    """Raise SpecError naming every business rule that cannot be applied to the columns that the spec declares."""
    declared = feature_rules(pipeline, pipeline.first_night).schema
    check_rules(pipeline, {name: pl.Null() if dtype == pl.Unknown() else dtype for name, dtype in declared.items()})


def check_rules(pipeline: Pipeline, columns: Mapping[str, pl.DataType]) -> None:
    """Raise SpecError naming every business rule that cannot be applied to `columns` (a frame's schema) and scores."""
    empty = pl.DataFrame(schema={**columns, SCORE: pl.Float64, PROBABILITY: pl.Float64})
    found = [reason for rule in pipeline.decision.business_rules for reason in _mistakes(rule, empty)]
    taken = sorted({*DECISION_COLUMNS, SCORE, PROBABILITY} & set(columns))
    found.extend(f"column {name} is made by the decision and cannot be a feature or a key" for name in taken)
    if found:
        raise SpecError(
            f"checking the decision of {pipeline.name}",
            found,
            "use SQL conditions over key columns, features and score",
        )


def _mistakes(rule: BusinessRule, empty: pl.DataFrame) -> Iterator[str]:
    where = f"business rule {rule.name} ({rule.when})"
    try:
        condition = pl.sql_expr(rule.when)
        unknown = sorted(set(condition.meta.root_names()) - set(empty.columns))
        if unknown:
            yield f"{where} names {', '.join(unknown)}, which is not one of {', '.join(empty.columns)}"
            return
        dtype = empty.select(condition).dtypes[0]
    except PolarsError as error:
        yield f"{where} is not valid: {str(error).splitlines()[0]}"
        return
    if dtype != pl.Boolean:
        yield f"{where} gives {dtype}, expected true or false"


def decide_ranked(rows: pl.DataFrame, decision: Decision, night_rows: int) -> pl.DataFrame:
    """`rows` (of a night of so many, with `rank` already) with decile, decision and its reason; rules are checked.

    `decile` 1 holds the highest ranks. `decision_reason` is the rule's type or the business rule's name.
    """
    decile = (10 * pl.col("rank") + night_rows - 1) // max(night_rows, 1)
    verdict, reason = _decision(decision)
    return rows.with_columns(
        decile.cast(pl.Int64).alias("decile"), verdict.alias("decision"), reason.alias("decision_reason")
    )


def _merit() -> pl.Expr:
    """What thresholds and ranks go by. polars takes NaN for the largest number; one that is none must never lead."""
    return pl.coalesce(PROBABILITY, SCORE).fill_nan(None)


def _decision(decision: Decision) -> tuple[pl.Expr, pl.Expr]:
    rule = decision.rule
    merit = _merit()
    verdict = merit >= rule.value if isinstance(rule, Threshold) else (pl.col("rank") <= rule.k) & merit.is_not_null()
    verdict, reason = verdict.fill_null(False), pl.lit(rule.type)
    for business in decision.business_rules:
        holds = pl.sql_expr(business.when).fill_null(False)
        verdict = pl.when(holds).then(pl.lit(business.decision)).otherwise(verdict)
        reason = pl.when(holds).then(pl.lit(business.name)).otherwise(reason)
    return verdict, reason
