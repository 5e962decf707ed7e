"""From specs to Dagster definitions, explicitly: every asset, job, schedule and sensor is named here.

Added here: the wiring of a new kind of asset or job. Not here: how one is made (`assets/`, `jobs/`, `sensors/`).
"""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from assets.changesets import build_changesets
from assets.clean import build_clean
from assets.features import build_features
from assets.model import build_model
from assets.night_reports import build_night_report
from assets.predictions import build_predictions
from assets.promotion import build_model_decisions, build_promotion
from assets.published import build_published
from assets.reproductions import build_drill, build_reproduction
from assets.restatements import build_restatements
from assets.rollouts import build_rollouts
from assets.sources import build_source
from assets.tuning import build_tuning
from assets.watch import build_watch
from jobs.attempts import build_attempt_job, build_model_decision_job
from jobs.decisions import build_decision_job
from jobs.drill import build_drill_job
from jobs.nightly import build_backfill_job, build_history_job, build_nightly_job
from jobs.training import build_training_job
from jobs.tuning import build_tuning_job
from nightscore.spec.pipeline import Pipeline
from orchestration.resources import Engine
from sensors.alerts import alert_delivery
from sensors.freshness import build_freshness_sensor
from sensors.retraining import build_retraining_sensors
from sensors.run_failures import unexplained_failures


def build_definitions(pipelines: Mapping[str, Pipeline], manifest: Path) -> dg.Definitions:
    """The definitions of all pipelines and of the marts over them."""
    # Importing dagster-dbt takes as long as the rest of the definitions, and one pipeline's runs do without it.
    from assets.marts import build_marts

    parts = [_build_pipeline(pipeline) for pipeline in pipelines.values()]
    all_of_them = list(pipelines.values())
    sensors = [unexplained_failures, alert_delivery, build_freshness_sensor(all_of_them)]
    marts = dg.Definitions(assets=[build_marts(all_of_them, manifest)], sensors=sensors)
    return dg.Definitions.merge(*parts, marts, _shared())


def build_pipeline_definitions(pipeline: Pipeline) -> dg.Definitions:
    """The definitions of one pipeline alone: all that its own jobs need."""
    return dg.Definitions.merge(_build_pipeline(pipeline), _shared())


def _shared() -> dg.Definitions:
    return dg.Definitions(resources={"engine": Engine()})


def _build_pipeline(pipeline: Pipeline) -> dg.Definitions:
    inputs = [make(pipeline, name) for name in pipeline.sources for make in (build_source, build_clean)]
    features, model = build_features(pipeline), build_model(pipeline)
    outputs = [build_predictions(pipeline), build_published(pipeline)]
    reproduction, drill = build_reproduction(pipeline), build_drill(pipeline)
    changesets, restatements = build_changesets(pipeline), build_restatements(pipeline)
    promotion, model_decisions = build_promotion(pipeline), build_model_decisions(pipeline)
    watch, rollouts, night_report = build_watch(pipeline), build_rollouts(pipeline), build_night_report(pipeline)
    night = [*inputs, features, *outputs, watch, restatements, rollouts, night_report]
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[*night, model, promotion, model_decisions, changesets, reproduction], asset_checks=[drill]
        ),
        build_nightly_job(pipeline, night),
        build_history_job(pipeline, [*inputs, features]),
        build_training_job(pipeline, model),
        build_backfill_job(pipeline, outputs),
        build_decision_job(pipeline, changesets),
        build_attempt_job(pipeline, model, promotion),
        build_retraining_sensors(pipeline),
        build_model_decision_job(pipeline, model_decisions),
        build_drill_job(pipeline, drill),
        *_build_tuning(pipeline),
    )


def _build_tuning(pipeline: Pipeline) -> list[dg.Definitions]:
    """Nothing for a spec that declares no search."""
    if pipeline.training.tuning is None:
        return []
    tuning = build_tuning(pipeline)
    return [dg.Definitions(assets=[tuning]), build_tuning_job(pipeline, tuning)]
