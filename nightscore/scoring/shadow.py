"""The shadow of a night: while a rollout runs, its version scores every row too, where no reader sees it.

What it gives passes the gates of predictions; a shadow that is held back tells of itself and holds nothing back.
Added here: what is kept of a shadow. Not here: what readers see (`night.py`), or how both are compared (`monitoring`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.outcomes import NightOutcome, record_accounts
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import account_of, admit, outcome_of
from nightscore.quality.rules import prediction_rules
from nightscore.registry.versions import open_capsule
from nightscore.scoring.arms import Arms
from nightscore.scoring.crew import crew_of_version, read_crew
from nightscore.scoring.execution import Execution, open_execution
from nightscore.scoring.predictions import predict_night
from nightscore.scoring.receipts import recipe_of
from nightscore.spec.datasets import features_dataset, shadow_dataset
from nightscore.spec.pipeline import Pipeline


def score_shadows(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Score `nights` with the version of the running rollout; nothing without one."""
    version = read_crew(workspace, pipeline).challenger
    if version is None:
        return []
    features = workspace.lake.require(features_dataset(pipeline.name), nights)
    with open_execution(workspace) as execution:
        return [_score(workspace, pipeline, version, one, execution, run_id) for one in features]


def _score(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, features: PartitionVersion,
    execution: Execution, run_id: str,
) -> NightOutcome:  # fmt: skip
    night, dataset = features.score_date, shadow_dataset(pipeline.name)
    recipe, standing = recipe_of(pipeline, version, features), workspace.lake.current(dataset, night, night)
    if night in standing and standing[night].fingerprint == recipe:
        return NightOutcome(dataset, night, "reused", standing[night].rows)
    rules = replace(prediction_rules(pipeline, features.rows), dataset=dataset)
    path = workspace.lake.store.verified_path(features.md5)
    arms = Arms(version.version, open_capsule(workspace, version))
    score = execution.of(crew_of_version(version), features)
    scored = predict_night(pipeline, arms, path, workspace.settings.threads, score=score)
    content = workspace.lake.put_batches(scored.batches(), rules.key)
    admission = admit(workspace, pipeline.name, rules, night, content, None, run_id)
    record_accounts(workspace, [account_of(admission)], run_id)
    if admission.accepted is None:
        return outcome_of(admission, [])
    made = candidate(dataset, night, admission.accepted, admission.rows_out, recipe, standing, [features])
    workspace.lake.commit([made], run_id)
    return outcome_of(admission, [made])
