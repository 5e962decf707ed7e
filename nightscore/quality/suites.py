"""Great Expectations as the judge: checks become a suite, a frame becomes a batch, results become counts.

Of a table too large for that, counts made elsewhere are judged. Results are asked for without sample values, and only
the verdict and the count leave this module.
Added here: the translation of a new kind. Not here: masks, severities, or what a verdict means.
"""

import functools
import re
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import polars.selectors as cs

from nightscore.errors import AccountingError, SpecError
from nightscore.quality.counts import Counts
from nightscore.quality.masks import Check, bounds, members, pattern
from nightscore.quality.rules import Rule, Varies
from nightscore.spec.expectations import Between, InSet, Matches, RowCount, Unique

_COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0, "exclude_unexpected_values": True}
_LEADING_FLAGS = re.compile(r"\(\?[aiLmsux]+\)")
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Judgement:
    """The verdict on one check and the offending rows counted, or None where it speaks of no rows."""

    passed: bool
    unexpected: int | None


def judge(frame: pl.DataFrame, checks: Sequence[Check]) -> list[Judgement]:
    """The judgement of each check over all of `frame` (one row or more), in the order of `checks`.

    Raises SpecError naming every check that could not be evaluated, without the message, which may hold values.
    """
    if not checks:
        return []
    needed = [name for name in frame.columns if any(name in check.columns for check in checks)]
    # Arrow-backed columns keep integers with nulls exact, and null apart from NaN. A frame without columns has no rows.
    chosen = frame.select(needed or frame.columns[:1])
    # To polars -0.0 is 0.0, to Arrow it is no member of a set that holds 0.0.
    unsigned = pl.when(cs.float() == 0.0).then(pl.lit(0.0)).otherwise(cs.float()).name.keep()
    batch = chosen.with_columns(unsigned).to_pandas(use_pyarrow_extension_array=True)
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = _validate(batch, [_translate(check, frame.schema, at) for at, check in enumerate(checks)])
    raised = [check.name for check, result in zip(checks, results, strict=True) if _failed_to_run(result)]
    if raised:
        found = [f"{name} could not be evaluated" for name in raised]
        raise SpecError("judging data", found, "correct the expectation")
    return [Judgement(bool(result.success), result.result.get("unexpected_count")) for result in results]


def judge_counts(schema: pl.Schema, counts: Counts, checks: Sequence[Check]) -> list[Judgement]:
    """The judgement of each check from counts over all rows; Great Expectations looks at no row.

    It is handed the metrics that its expectations name as their dependencies, in place of those of its own engines.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [_validate_counts(_translate(check, schema, at), check, counts) for at, check in enumerate(checks)]
    return [Judgement(bool(result.success), result.result.get("unexpected_count")) for result in results]


def _validate_counts(expectation: Any, check: Check, counts: Counts) -> Any:
    needed = expectation.get_validation_dependencies(runtime_configuration={"result_format": _COUNTS_ONLY})
    metrics = {one.id: _metric(one.metric_name, check, counts) for one in needed.get_metric_configurations()}
    return expectation.metrics_validate(metrics, runtime_configuration={"result_format": _COUNTS_ONLY})


def _metric(name: str, check: Check, counts: Counts) -> object:
    """The value of a metric of Great Expectations; values of the data are never given to it."""
    judged = counts.judged[check.name]
    match name.rpartition("."):
        case ("table", _, "row_count"):
            return counts.rows
        case ("column.distinct_values", _, "count"):
            return 2 if counts.varied[check.name] else min(judged, 1)
        case ("column_values.nonnull", _, "unexpected_count"):
            return counts.rows - judged
        case (_, _, "unexpected_count"):
            return counts.offending[check.name]
        case (_, _, "filtered_row_count"):
            return judged
        case (_, _, "unexpected_values"):
            return []
    raise AccountingError(
        f"judging {check.name}", f"Great Expectations asks for {name}", "pin the version that did not"
    )


@functools.cache
def _whole_frame() -> Any:
    """The one batch definition of this process, in a context that is never written."""
    import great_expectations as gx

    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.variables.analytics_enabled = False
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("whole")


def _validate(batch: Any, expectations: list[Any]) -> list[Any]:
    whole = _whole_frame()
    import great_expectations as gx

    suite = gx.ExpectationSuite(name="gate", expectations=expectations)
    report = whole.get_batch({"dataframe": batch}).validate(suite, result_format=_COUNTS_ONLY)
    return sorted(report.results, key=lambda result: int(result.expectation_config.meta["at"]))


def _failed_to_run(result: Any) -> bool:
    info = result.exception_info or {}
    nested = [one for one in info.values() if isinstance(one, dict)]
    return any(one.get("raised_exception", False) for one in [info, *nested])


def _translate(check: Check, schema: pl.Schema, at: int) -> Any:
    import great_expectations.expectations as gxe

    name, arguments = _named(check, schema)
    return getattr(gxe, name)(**arguments, meta={"at": at})


def _named(check: Check, schema: pl.Schema) -> tuple[str, dict[str, object]]:
    """The class of Great Expectations that says the same as `check`, and its arguments."""
    rule = check.rule
    if isinstance(rule, RowCount):
        return "ExpectTableRowCountToBeBetween", {"min_value": rule.min or 0, "max_value": rule.max}
    if isinstance(rule, Varies):
        return "ExpectColumnUniqueValueCountToBeBetween", {"column": rule.column, "min_value": 2}
    if isinstance(rule, Unique) and len(rule.columns) > 1:
        columns: dict[str, object] = {"column_list": list(rule.columns), "ignore_row_if": "any_value_is_missing"}
        return "ExpectCompoundColumnsToBeUnique", columns
    name, arguments = _of_one_column(rule, schema)
    return name, arguments | {"column": check.columns[0], "mostly": check.mostly}


def _of_one_column(rule: Rule, schema: pl.Schema) -> tuple[str, dict[str, object]]:
    match rule:
        case Between():
            low, high = bounds(rule, schema[rule.column])
            return "ExpectColumnValuesToBeBetween", {"min_value": low, "max_value": high}
        case InSet():
            return "ExpectColumnValuesToBeInSet", {"value_set": members(rule, schema[rule.column])}
        case Matches():
            return "ExpectColumnValuesToMatchRegex", {"regex": _anchored(rule)}
        case Unique():
            return "ExpectColumnValuesToBeUnique", {}
        case _:
            return "ExpectColumnValuesToNotBeNull", {}


def _anchored(rule: Matches) -> str:
    """The pattern as one that is searched for; leading flags stay in front, where Python wants them."""
    written = pattern(rule).pattern
    flags = _LEADING_FLAGS.match(written)
    front = flags.group() if flags else ""
    return rf"{front}\A(?:{written[len(front) :]})"
