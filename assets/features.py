"""Features and labels: the pipeline's dbt models over the clean partitions, one invocation for the whole run."""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of, table_schema
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, history_mapping, nights_of
from orchestration.resources import Engine


def build_features(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The assets `features` and `labels`, made together."""
    keys = {"features": key_of(pipeline, "features"), "labels": key_of(pipeline, "labels")}
    about = "complete, unique, typed as declared, plausible in size"
    checks = [dg.AssetCheckSpec("gate", asset=key, blocking=True, description=about) for key in keys.values()]

    @dg.multi_asset(
        name=f"{pipeline.name}__features", specs=_specs(pipeline), check_specs=checks, backfill_policy=POLICY
    )
    def feature_assets(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.features.build import build_features as build

        workspace, nights = engine.workspace(), nights_of(context)
        with mapped_failures(context, workspace, pipeline.name, nights):
            outcomes = build(workspace, pipeline, nights, context.run.run_id)
        for dataset, name in ((labels_dataset(pipeline.name), "labels"), (features_dataset(pipeline.name), "features")):
            yield from report(context, keys[name], [one for one in outcomes if one.dataset == dataset], "gate")

    return feature_assets


def _specs(pipeline: Pipeline) -> list[dg.AssetSpec]:
    history = history_mapping(pipeline)
    deps = [
        dg.AssetDep(key_of(pipeline, f"clean_{name}"), partition_mapping=history if source.cadence == "daily" else None)
        for name, source in pipeline.sources.items()
    ]
    columns = [(column.name, column.type, column.description) for column in pipeline.features.columns]
    about = f"One row a {pipeline.entity.name}, made only of what the night knew"
    label = pipeline.label.description or pipeline.label.column
    return [
        daily_spec(
            pipeline, "features", about, deps=deps, kinds={"dbt", "duckdb"}, metadata=table_schema(columns)
        ),
        daily_spec(pipeline, "labels", f"By the night that knew them: {label}", deps=deps, kinds={"dbt", "duckdb"}),
    ]  # fmt: skip
