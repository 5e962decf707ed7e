"""From specs to Dagster definitions, explicitly: every asset, job, schedule and sensor is named here.

Added here: the wiring of a new kind of asset or job. Not here: how one is made (`assets/`, `jobs/`, `sensors/`).
"""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from assets.clean import build_clean
from assets.features import build_features
from assets.marts import build_marts
from assets.model import build_model
from assets.predictions import build_predictions
from assets.published import build_published
from assets.sources import build_source
from jobs.nightly import build_history_job, build_nightly_job, build_schedule
from jobs.training import build_training_job
from nightscore.spec.pipeline import Pipeline
from orchestration.resources import Engine
from sensors.run_failures import unexplained_failures


def build_definitions(pipelines: Mapping[str, Pipeline], manifest: Path) -> dg.Definitions:
    """The definitions of all pipelines and of the marts over them."""
    parts = [_build_pipeline(pipeline) for pipeline in pipelines.values()]
    marts = build_marts(list(pipelines.values()), manifest)
    shared = dg.Definitions(assets=[marts], resources={"engine": Engine()}, sensors=[unexplained_failures])
    return dg.Definitions.merge(*parts, shared)


def _build_pipeline(pipeline: Pipeline) -> dg.Definitions:
    inputs = [make(pipeline, name) for name in pipeline.sources for make in (build_source, build_clean)]
    features, model = build_features(pipeline), build_model(pipeline)
    outputs = [build_predictions(pipeline), build_published(pipeline)]
    nightly = build_nightly_job(pipeline, [*inputs, features, *outputs])
    history = build_history_job(pipeline, [*inputs, features])
    return dg.Definitions(
        assets=[*inputs, features, model, *outputs],
        jobs=[nightly, history, build_training_job(pipeline, model)],
        schedules=[build_schedule(pipeline, nightly)],
    )
