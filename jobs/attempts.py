"""The attempt of a pipeline, and the decisions on its versions: train and judge a version; approve, reject, roll back.

Neither has a schedule: when an attempt is worth its cost is a policy of its own.
"""

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.run_tags import PIPELINE_TAG


def build_attempt_job(
    pipeline: Pipeline, model: dg.AssetsDefinition, promotion: dg.AssetsDefinition
) -> dg.Definitions:  # fmt: skip
    """Train a version for a night and let the gate judge it; `as_of` of both steps says for which night."""
    trained = dg.AssetSelection.assets(model).without_checks()
    job = dg.define_asset_job(
        f"{pipeline.name}_attempt", selection=trained | dg.AssetSelection.assets(promotion),
        description="Train a version, judge it against the champion, and do what the spec says follows",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])


def build_model_decision_job(pipeline: Pipeline, decisions: dg.AssetsDefinition) -> dg.Definitions:
    """Decide on a version; its run configuration says which, what and why."""
    job = dg.define_asset_job(
        f"{pipeline.name}_decide_model", selection=dg.AssetSelection.assets(decisions),
        description="Approve, reject, promote or roll back a model version",
        executor_def=dg.in_process_executor, tags={PIPELINE_TAG: pipeline.name},
    )  # fmt: skip
    return dg.Definitions(jobs=[job])
