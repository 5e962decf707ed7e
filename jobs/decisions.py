"""The decision job of a pipeline: approve, undo or discard a changeset from the UI, with a reason."""

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.run_tags import PIPELINE_TAG


def build_decision_job(pipeline: Pipeline, changesets: dg.AssetsDefinition) -> dg.Definitions:
    """Decide on a changeset; its run configuration says which, what and why."""
    job = dg.define_asset_job(
        f"{pipeline.name}_decide", selection=dg.AssetSelection.assets(changesets),
        description="Approve, undo or discard a changeset; readers see all of it or nothing",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])
