"""The watch in Dagster: a night is judged before it is published, and what it shows stands beside its thresholds.

Added here: what the UI shows of a judgement. Not here: judging (`nightscore/watch`), or what is known later
(`night_reports.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine

LEVELS = {
    "L1": "faults of the night: rows, keys, nulls, levels, ranges, stale inputs; they hold it back",
    "L2": "the night against the same weekday of the reference",
    "L3": "the trailing week against the reference",
    "L4": "what came true against what was predicted",
}


def build_watch(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset that judges a night's predictions, and moves incidents and retraining on."""
    spec = daily_spec(
        pipeline, "watch", "What a night shows beside the reference of its model; it says what may be published",
        deps=[key_of(pipeline, "predictions")], kinds={"postgres"},
    )  # fmt: skip
    checks = [
        dg.AssetCheckSpec(level, asset=spec.key, blocking=level == "L1", description=about)
        for level, about in LEVELS.items()
    ]

    @dg.multi_asset(name=f"{pipeline.name}__watch", specs=[spec], check_specs=checks, backfill_policy=POLICY)
    def watch_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.monitoring.alerts import deliver_alerts
        from nightscore.monitoring.nights import watch_nights

        workspace, nights, run_id = engine.workspace(), nights_of(context), context.run.run_id
        with mapped_failures(context, workspace, pipeline.name, nights):
            outcomes = watch_nights(workspace, pipeline, nights, run_id)
            if any(one.result == "blocked" for one in outcomes):
                deliver_alerts(workspace)
        yield from _checks(workspace, pipeline, spec.key, outcomes)
        yield from report(context, spec.key, outcomes)

    return watch_asset


def _checks(
    workspace: Workspace, pipeline: Pipeline, key: dg.AssetKey, outcomes: Sequence[NightOutcome]
) -> Iterator[dg.AssetCheckResult]:
    """One result a level over all nights; L2 to L4 only warn."""
    from nightscore.catalog.watch import signals_between

    nights = [one.night for one in outcomes]
    with workspace.engine.connect() as connection:
        signals = signals_between(connection, pipeline.name, min(nights), max(nights))
    for level in LEVELS:
        shown = [one for one in signals if one["level"] == level and one["fires"]]
        passed = not shown if level != "L1" else all(one.result != "blocked" for one in outcomes)
        severity = dg.AssetCheckSeverity.ERROR if level == "L1" else dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            asset_key=key, check_name=level, passed=passed, severity=severity, metadata=_shown(signals, level)
        )


def _cell(value: str | float) -> str | float:
    return round(value, 4) if isinstance(value, float) else value


def _shown(signals: Sequence[Any], level: str) -> dict[str, Any]:
    """What shows, in words, and the figures that came nearest to their thresholds."""
    mine = sorted((one for one in signals if one["level"] == level), key=lambda one: -one["ratio"])
    words = "\n".join(f"- {one['score_date']}: {one['message']}" for one in mine if one["fires"])
    fields = {"score_date": str, "cause": str, "value": float, "threshold": float, "ratio": float}
    records = [dg.TableRecord({name: _cell(kind(one[name])) for name, kind in fields.items()}) for one in mine[:20]]
    columns = [dg.TableColumn(name, "float" if kind is float else "string") for name, kind in fields.items()]
    table = {"nearest": dg.MetadataValue.table(records, dg.TableSchema(columns))} if records else {}
    return {"figures": len(mine), **table, **({"shown": dg.MetadataValue.md(words)} if words else {})}
