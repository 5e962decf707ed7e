"""The predictions of a night: the champion's scores, decided, ranked, gated, with a receipt."""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine
from orchestration.run_tags import changeset_of


def build_predictions(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset of a pipeline's predictions."""
    key = key_of(pipeline, "predictions")
    spec = daily_spec(
        pipeline, "predictions", f"Scores and decisions: {pipeline.description}",
        deps=[key_of(pipeline, "features"), key_of(pipeline, "model")], kinds={pipeline.training.algorithm.type},
    )  # fmt: skip
    gate = dg.AssetCheckSpec("gate", asset=key, blocking=True, description="finite, in range, accounted for")

    @dg.multi_asset(name=f"{pipeline.name}__predictions", specs=[spec], check_specs=[gate], backfill_policy=POLICY)
    def predictions_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.scoring.night import score_nights
        from nightscore.scoring.staging import stage_predictions

        workspace, nights, run_id = engine.workspace(), nights_of(context), context.run.run_id
        changeset = changeset_of(context.run.tags)
        with mapped_failures(context, workspace, pipeline.name, [] if changeset else nights):
            if changeset:
                outcomes = stage_predictions(workspace, pipeline, changeset, nights, run_id)
            else:
                outcomes = score_nights(workspace, pipeline, nights, run_id)
        yield from report(context, key, outcomes, "gate")

    return predictions_asset
