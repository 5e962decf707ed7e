"""The training job of a pipeline: training set and model version for one night."""

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.run_tags import PIPELINE_TAG


def build_training_job(pipeline: Pipeline, model: dg.AssetsDefinition) -> dg.Definitions:
    """Train a version; `as_of` in the run configuration says for which night. The model's drill is another job's."""
    job = dg.define_asset_job(
        f"{pipeline.name}_train", selection=dg.AssetSelection.assets(model).without_checks(),
        description="Fit, evaluate and register a model version", executor_def=dg.in_process_executor,
        tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])
