"""The tuning job of a pipeline: a search for better settings, for one night."""

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.run_tags import PIPELINE_TAG


def build_tuning_job(pipeline: Pipeline, tuning: dg.AssetsDefinition) -> dg.Definitions:
    """Run or go on with a study; its run configuration says for which night, and may give another budget."""
    job = dg.define_asset_job(
        f"{pipeline.name}_tune", selection=dg.AssetSelection.assets(tuning),
        description="Try other settings within the budget of the spec; the spec itself changes by review",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])
