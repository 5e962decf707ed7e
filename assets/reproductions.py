"""Model versions made again: one partition a version, on demand; and the drill, a check of the model on a schedule.

Added here: another sight of reproduction in Dagster. Not here: reproducing (`nightscore/reproduction`).
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.naming import key_of
from nightscore.catalog.models import ModelVersion, list_versions
from nightscore.catalog.reproductions import Reproduction
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import EXIT_CODE, mapped_failures
from orchestration.partitions import versions_of
from orchestration.resources import Engine
from orchestration.run_tags import USER_TAG

NOT_EQUAL = 5
"""What the command line exits with when something was made again and is not equal."""


def build_reproduction(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset whose partition "7" says that version 7 was trained again and came out the same."""
    spec = dg.AssetSpec(
        key_of(pipeline, "reproduction"), deps=[key_of(pipeline, "model")], kinds={"python"},
        partitions_def=versions_of(pipeline), group_name=pipeline.name, owners=[pipeline.owner],
        description="A model version trained again from its capsule and snapshot, and compared with the first time",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__reproduction", specs=[spec])
    def reproduction_asset(context: dg.AssetExecutionContext, engine: Engine) -> dg.MaterializeResult:
        from nightscore.registry.versions import require_version
        from nightscore.reproduction.versions import reproduce_version

        workspace, asked_by = engine.workspace(), context.run.tags.get(USER_TAG, "dagster")
        with mapped_failures(context, workspace, pipeline.name, []):
            version = require_version(workspace, pipeline.name, int(context.partition_key))
            made = reproduce_version(workspace, version, asked_by, context.run.run_id)
        if made.outcome != "reproduced":
            raise _not_equal(version, made)
        return dg.MaterializeResult(asset_key=spec.key, metadata=_facts(version, made))

    return reproduction_asset


def build_drill(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """The check `reproduces` of the model; it blocks nothing and has no result while there is nothing to drill."""
    spec = dg.AssetCheckSpec(
        "reproduces", asset=key_of(pipeline, "model"), blocking=False,
        description="An old night and an old version, chosen by lot, come out the same when they are made again",
    )  # fmt: skip

    # A check without a result is an error unless it may be left out.
    @dg.multi_asset_check(name=f"{pipeline.name}__drill", specs=[spec], can_subset=True)
    def drill(context: dg.AssetCheckExecutionContext, engine: Engine) -> Iterator[dg.AssetCheckResult]:
        from nightscore.reproduction.drill import run_drill

        workspace, run_id = engine.workspace(), context.run.run_id
        offer_versions(context.instance, workspace, pipeline)
        with mapped_failures(context, workspace, pipeline.name, []):
            result = run_drill(workspace, pipeline.name, run_id, pipeline.schedule.drill_budget_minutes * 60, run_id)
        if result.is_empty:
            context.log.warning(f"there is nothing to drill: {'; '.join(result.skipped)}")
        else:
            yield _judged(spec, result)

    return drill


def offer_versions(instance: dg.DagsterInstance, workspace: Workspace, pipeline: Pipeline) -> None:
    """Make a partition of every version in the catalog; those that are there stay."""
    with workspace.engine.connect() as connection:
        keys = [str(one.version) for one in list_versions(connection, pipeline.name)]
    if keys:
        instance.add_dynamic_partitions(str(versions_of(pipeline).name), keys)


def _facts(version: ModelVersion, made: Reproduction) -> dict[str, Any]:
    """Metadata of one attempt at a version; what there is none of has no entry."""
    facts = {
        "version": version.name, "outcome": made.outcome, "level": made.level, "seconds": made.seconds,
        "first_difference": made.first_difference, "capsule": version.capsule_md5,
        "manifest_sha256": version.manifest_sha256, "snapshot": version.snapshot_md5,
        "function_hash": version.function_hash, "function_hash_again": made.report.get("function_sha256"),
        "provenance": dict(version.provenance or {}),
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def _not_equal(version: ModelVersion, made: Reproduction) -> dg.Failure:
    message = f"{made.name} was made again and is not equal: {made.first_difference}"
    return dg.Failure(message, metadata=_facts(version, made) | {EXIT_CODE: NOT_EQUAL}, allow_retries=False)


def _judged(spec: dg.AssetCheckSpec, result: Any) -> dg.AssetCheckResult:
    """The drill as a check: an error for a break, a warning where the budget left nothing to attempt."""
    severity = dg.AssetCheckSeverity.ERROR if result.attempts else dg.AssetCheckSeverity.WARN
    metadata: dict[str, Any] = {
        "streak": result.streak, "still_broken": dg.MetadataValue.json(list(result.standing)), "seed": result.seed,
        "seconds": sum(one.seconds for one in result.attempts), "attempts": _table(result.attempts),
        "skipped": dg.MetadataValue.json(list(result.skipped)),
    }  # fmt: skip
    return dg.AssetCheckResult(
        asset_key=spec.asset_key, check_name=spec.name, passed=result.passed, severity=severity, metadata=metadata
    )


def _table(attempts: tuple[Reproduction, ...]) -> dg.TableMetadataValue:
    types = {"subject": "string", "outcome": "string", "level": "string", "seconds": "float",
             "first_difference": "string"}  # fmt: skip
    records = [
        dg.TableRecord({"subject": one.name} | {name: getattr(one, name) for name in types if name != "subject"})
        for one in attempts
    ]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(*column) for column in types.items()]))
