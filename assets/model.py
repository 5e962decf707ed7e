"""The training set and the model version: made for one night, from what was mature by then."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from assets.naming import key_of
from assets.reproductions import offer_versions
from nightscore.catalog.models import ModelVersion
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import mapped_failures
from orchestration.resources import Engine


class TrainingConfig(dg.Config):
    """For which night to train (the first with a full window when absent), why, and whether to keep the wheels."""

    as_of: str | None = None
    purpose: str = "trained by hand"
    store_wheels: bool = False


def build_model(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The assets `training_set` and `model`, made together."""
    training_set, model = key_of(pipeline, "training_set"), key_of(pipeline, "model")

    @dg.multi_asset(name=f"{pipeline.name}__model", specs=_specs(pipeline))
    def model_assets(
        context: dg.AssetExecutionContext, config: TrainingConfig, engine: Engine
    ) -> Iterator[dg.MaterializeResult]:
        from nightscore.registry.register import train_version
        from nightscore.reproduction.wheels import store_wheels

        workspace = engine.workspace()
        as_of = date.fromisoformat(config.as_of) if config.as_of else pipeline.first_night
        with mapped_failures(context, workspace, pipeline.name, []):
            trained = train_version(workspace, pipeline, as_of, config.purpose, context.run.run_id)
            if config.store_wheels:
                store_wheels(workspace, trained.version)
        offer_versions(context.instance, workspace, pipeline)
        yield dg.MaterializeResult(asset_key=training_set, metadata=trained.training_set_facts)
        yield dg.MaterializeResult(asset_key=model, metadata=trained.model_facts | _charts(pipeline, trained.version))

    return model_assets


def _charts(pipeline: Pipeline, version: ModelVersion) -> dict[str, dg.MetadataValue[Any]]:
    """Learning curve, importance and reliability, those that the version has."""
    from nightscore.reports.charts import as_markdown_image, calibration_chart, importance_chart, learning_curve_chart

    metrics, titles = version.metrics, {one.name: one.title for one in pipeline.features.columns}
    drawn = {
        "learning curve": learning_curve_chart(metrics.get("curve")),
        "importance": importance_chart(metrics.get("importance", {}), titles),
        "reliability": calibration_chart(metrics.get("reliability")),
    }
    return {f"chart/{name}": dg.MetadataValue.md(as_markdown_image(svg, name)) for name, svg in drawn.items() if svg}


def _specs(pipeline: Pipeline) -> list[dg.AssetSpec]:
    shared = {"group_name": pipeline.name, "owners": [pipeline.owner]}
    deps = [key_of(pipeline, "features"), key_of(pipeline, "labels")]
    algorithm = pipeline.training.algorithm.type
    return [
        dg.AssetSpec(
            key_of(pipeline, "training_set"), deps=deps, kinds={"parquet"},
            description=f"The mature score dates of the last {pipeline.training.window_days} days, with labels",
            **shared,
        ),
        dg.AssetSpec(
            key_of(pipeline, "model"), deps=[key_of(pipeline, "training_set")], kinds={algorithm},
            description="A model version: a verified capsule in the registry", **shared,
        ),
    ]  # fmt: skip
