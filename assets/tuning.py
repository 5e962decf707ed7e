"""Searches for better settings: a materialisation is a study that was run, or one that went on.

Added here: what the UI shows of a study. Not here: the search (`nightscore/training/tuning.py`) or its record.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
import structlog

from assets.naming import key_of
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import mapped_failures
from orchestration.resources import Engine
from orchestration.run_tags import USER_TAG

if TYPE_CHECKING:
    from nightscore.registry.studies import StudyOutcome

STUDY = "study"
"""Metadata of a materialisation: the id of its study."""


class TuningConfig(dg.Config):
    """For which night to tune (the first with a full window when absent), and another budget than the spec's."""

    as_of: str | None = None
    trials: int | None = None
    minutes: float | None = None


def build_tuning(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset `tuning`."""
    spec = dg.AssetSpec(
        key_of(pipeline, "tuning"), deps=[key_of(pipeline, "features"), key_of(pipeline, "labels")],
        group_name=pipeline.name, owners=[pipeline.owner], kinds={"postgres"},
        description="Trials of other settings, measured on dates after those that they were fitted on",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__tuning", specs=[spec])
    def tuning_asset(context: dg.AssetExecutionContext, config: TuningConfig, engine: Engine) -> dg.MaterializeResult:
        from nightscore.registry.studies import run_study, with_budget

        workspace, actor = engine.workspace(), context.run.tags.get(USER_TAG, "dagster")
        as_of = date.fromisoformat(config.as_of) if config.as_of else pipeline.first_night

        def report(line: str) -> None:
            structlog.get_logger("nightscore").info(line)
            context.log.info(line)

        with mapped_failures(context, workspace, pipeline.name, []):
            budgeted = with_budget(pipeline, config.trials, config.minutes)
            outcome = run_study(workspace, budgeted, as_of, actor, context.run.run_id, report)
        return dg.MaterializeResult(asset_key=spec.key, metadata=_facts(outcome))

    return tuning_asset


def _facts(outcome: "StudyOutcome") -> dict[str, Any]:
    choice, study = outcome.choice, outcome.study
    shown = {
        STUDY: study.study_id, "as_of": str(study.as_of), "trials": len(outcome.results),
        "measured_now": outcome.measured, "best_trial": choice.trial.number, "loss": choice.trial.loss,
        "keeps_the_spec": choice.keeps_incumbent, "why": choice.reason,
        "ranking": dg.MetadataValue.md(_markdown(outcome)),
    }  # fmt: skip
    if choice.keeps_incumbent:
        return shown
    return shown | {"settings": dg.MetadataValue.md(f"```yaml\ntraining:\n{outcome.block}```")}


def _markdown(outcome: "StudyOutcome") -> str:
    columns = ("trial", "status", "loss", "standard error", *outcome.varied, "seconds")
    rows = [
        (str(one.number), one.status, _figure(one.loss), _figure(one.standard_error),
         *(str(one.settings[name]) for name in outcome.varied), f"{one.seconds:.1f}")
        for one in outcome.ranking
    ]  # fmt: skip
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
