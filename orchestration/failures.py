"""The engine's errors and verdicts in Dagster's terms, in this one place.

Permanent errors and contract violations are not retried, transient ones are. A gated partition is reported as a failed
check and is never recorded as materialised; the readable truth is the catalog's in any case.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from nightscore.catalog.nights import record_night
from nightscore.errors import ContractViolation, GateBlocked, NightscoreError, Transient
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.workspace import Workspace

RETRIES = 3
SECONDS_BETWEEN_RETRIES = 10
EXIT_CODE = "exit_code"
"""Metadata of a failed step: what the command line exits with."""
Event = dg.MaterializeResult | dg.AssetCheckResult | dg.AssetObservation


@contextmanager
def mapped_failures(
    context: dg.AssetExecutionContext, workspace: Workspace, pipeline: str, nights: Sequence[date]
) -> Iterator[None]:
    """Turn the engine's errors into Dagster's, and say in the catalog what became of the nights."""
    try:
        yield
    except Transient as error:
        if context.retry_number < RETRIES:
            raise dg.RetryRequested(RETRIES, SECONDS_BETWEEN_RETRIES) from error
        record_failure(workspace, pipeline, nights, error, context.run.run_id)
        raise _failure(error) from error
    except NightscoreError as error:
        record_failure(workspace, pipeline, nights, error, context.run.run_id)
        raise _failure(error) from error


def record_failure(
    workspace: Workspace, pipeline: str, nights: Sequence[date], error: NightscoreError, run_id: str
) -> None:
    """Mark nights as gated or failed, with the reason that readers of `partition_status` will see."""
    status = "gated" if isinstance(error, ContractViolation) else "failed"
    reason = f"{error.attempted}: {'; '.join(error.found)}"
    with workspace.engine.begin() as connection:
        for night in nights:
            record_night(connection, pipeline, night, status, reason, run_id, workspace.clock.now())


def _failure(error: NightscoreError) -> dg.Failure:
    metadata = {"attempted": error.attempted, "found": "\n".join(error.found), "remedy": error.remedy}
    return dg.Failure(str(error), metadata=metadata | {EXIT_CODE: error.exit_code}, allow_retries=False)


def report(
    context: dg.AssetExecutionContext, key: dg.AssetKey, outcomes: Sequence[NightOutcome], check: str | None = None
) -> Iterator[Event]:
    """Yield one asset's events: its gate's check, its materialisations by night, a Failure when a night is gated.

    Good nights of a range are recorded before the failure is raised, so only the gated ones are left to repair.
    """
    wanted = set(context.partition_keys)
    gated = [one for one in outcomes if one.result == "blocked" and one.night.isoformat() in wanted]
    good = [one for one in outcomes if one.result != "blocked"]
    if check is not None:
        yield _check(key, check, outcomes, gated)
    if gated:
        for one in good:
            context.log_event(dg.AssetMaterialization(key, partition=one.night.isoformat(), metadata=_metadata(one)))
        reasons = [f"{one.night}: {'; '.join(one.reasons)}" for one in gated]
        raise dg.Failure(
            f"{key.to_user_string()} is held back: {' | '.join(reasons)}",
            metadata={EXIT_CODE: GateBlocked.exit_code}, allow_retries=False,
        )  # fmt: skip
    for one in good:
        _record(context, key, one, one.night.isoformat() in wanted)
    yield dg.MaterializeResult(asset_key=key)


def _record(context: dg.AssetExecutionContext, key: dg.AssetKey, one: NightOutcome, asked_for: bool) -> None:
    night = one.night.isoformat()
    if asked_for:
        context.add_asset_metadata(_metadata(one), asset_key=key, partition_key=night)
    else:
        context.log_event(dg.AssetMaterialization(key, partition=night, metadata=_metadata(one)))


def _check(
    key: dg.AssetKey, name: str, outcomes: Sequence[NightOutcome], gated: Sequence[NightOutcome]
) -> dg.AssetCheckResult:
    judged = [one.report for one in outcomes if one.report is not None]
    metadata: dict[str, Any] = {
        "nights": len(outcomes), "judged_now": len(judged), "gated": len(gated),
        "rows_quarantined": sum(int(one["rows_quarantined"]) for one in judged),
    }  # fmt: skip
    if gated:
        metadata["reasons"] = dg.MetadataValue.md("\n".join(f"- {o.night}: {r}" for o in gated for r in o.reasons))
    if judged:
        metadata["expectations"] = _expectations(judged[-1])
    return dg.AssetCheckResult(asset_key=key, check_name=name, passed=not gated, metadata=metadata)


def _expectations(judged: Mapping[str, Any]) -> dg.TableMetadataValue:
    fields = ("name", "severity", "passed", "rows", "unexpected", "detail")
    records = [dg.TableRecord({field: result[field] for field in fields}) for result in judged["results"]]
    types = {"passed": "bool", "rows": "int", "unexpected": "int"}
    columns = [dg.TableColumn(field, types.get(field, "string")) for field in fields]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _metadata(one: NightOutcome) -> dict[str, Any]:
    shown: dict[str, Any] = {"dagster/partition_row_count": one.rows, "result": one.result}
    if one.report is not None:
        shown |= {"rows_in": one.report["rows_in"], "rows_quarantined": one.report["rows_quarantined"]}
    return shown | {name: _value(value) for name, value in one.facts.items()}


def _value(value: object) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value
