"""The fourth step of a night: the champion scores the features, decisions follow, the gate judges, a receipt is made.

Nothing is fitted here. Added here: how predictions become a partition. Not here: the predictions themselves
(`predictions.py`) or what a receipt holds (`receipts.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

import structlog

from nightscore.catalog.partitions import Candidate, PartitionVersion, commit_partitions, versions_by_id
from nightscore.catalog.publications import record_receipt, require_receipt
from nightscore.lake.outcomes import NightOutcome, record_accounts, timed_step
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import account_of, admit, outcome_of
from nightscore.quality.rules import prediction_rules, rules_hash
from nightscore.scoring.crew import Crew, open_arms, read_crew
from nightscore.scoring.engine import KERNEL_ROWS, told
from nightscore.scoring.execution import open_execution
from nightscore.scoring.predictions import Predictions, predict_night
from nightscore.scoring.receipts import Origin, make_receipt, recipe_of, store_origin, summarise
from nightscore.scoring.reuse import EarlierNight
from nightscore.scoring.staging import nights_under_review, stage_restatement
from nightscore.spec.datasets import features_dataset, predictions_dataset
from nightscore.spec.pipeline import Pipeline

EARLIER_DAYS = 7
Standing = Mapping[date, PartitionVersion]


def score_nights(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Score `nights` with the champion, read once and pinned for all of them; unchanged nights are reused.

    While a rollout gives a share of entities to another version, that is read with it, and pinned as well. Nights
    that readers see, and that would be scored otherwise now, are staged in a changeset, unless the spec says that they
    are restated directly.
    """
    with timed_step(workspace, pipeline.name, "score", nights, run_id) as log, open_execution(workspace) as execution:
        crew = read_crew(workspace, pipeline)
        features = workspace.lake.require(features_dataset(pipeline.name), nights)
        dataset = predictions_dataset(pipeline.name)
        standing = workspace.lake.current(dataset, min(nights), max(nights))
        recipes = {version.score_date: recipe_of(pipeline, crew.champion, version, crew.share) for version in features}
        stale = [one for one in features if not _is_current(standing, one.score_date, recipes[one.score_date])]
        seen = nights_under_review(workspace, pipeline, [one.score_date for one in stale])
        stale = [one for one in stale if one.score_date not in seen]
        arms = open_arms(workspace, crew) if stale else None
        origin = store_origin(workspace, pipeline) if stale else None
        for one in features:
            night = one.score_date
            if arms is None or origin is None or one not in stale:
                log.outcomes.append(NightOutcome(dataset, night, "reused", standing[night].rows))
                continue
            path, earlier = workspace.lake.store.verified_path(one.md5), find_earlier(workspace, pipeline, crew, one)
            scored = predict_night(pipeline, arms, path, workspace.settings.threads, earlier, execution.of(crew, one))
            log.outcomes.append(
                _commit(workspace, pipeline, crew, one, scored, recipes[night], standing, origin, run_id)
            )
        stage_restatement(workspace, pipeline, crew, seen, run_id)
        _tell_engines(log.outcomes)
    return log.outcomes


def _tell_engines(outcomes: Sequence[NightOutcome]) -> None:
    for engine in dict.fromkeys(str(one.facts["engine"]) for one in outcomes if "engine" in one.facts):
        structlog.get_logger("nightscore").info("scored by", engine=engine)


def _is_current(standing: Standing, night: date, recipe: str) -> bool:
    return night in standing and standing[night].fingerprint == recipe


def find_earlier(
    workspace: Workspace, pipeline: Pipeline, crew: Crew, features: PartitionVersion
) -> EarlierNight | None:
    """The newest night of the week before that the very champion alone scored; None while a rollout divides rows.

    Nor is there one for a night too small to gain by it.
    """
    if crew.share is not None or features.rows < KERNEL_ROWS:
        return None
    night = features.score_date
    before = workspace.lake.current(
        predictions_dataset(pipeline.name), night - timedelta(days=EARLIER_DAYS), night - timedelta(days=1)
    )
    for version in sorted(before.values(), key=lambda one: one.score_date, reverse=True):
        with workspace.engine.connect() as connection:
            made = require_receipt(connection, pipeline.name, version.score_date, version.fingerprint)
            (read,) = versions_by_id(connection, version.inputs)
        if made.body["model"]["manifest_sha256"] == crew.champion.manifest_sha256 and "share" not in made.body:
            return EarlierNight(version.score_date, read.md5, version.md5, workspace.lake.store.verified_path)
    return None


def _commit(
    workspace: Workspace, pipeline: Pipeline, crew: Crew, features: PartitionVersion, scored: Predictions,
    recipe: str, standing: Standing, origin: Origin, run_id: str,
) -> NightOutcome:  # fmt: skip
    rules, night = prediction_rules(pipeline, features.rows), features.score_date
    content = workspace.lake.put_batches(scored.batches(), rules.key)
    admission = admit(workspace, pipeline.name, rules, night, content, None, run_id)
    committed: list[Candidate] = []
    made_by: dict[str, object] = {
        "model": crew.champion.name, "features_md5": features.md5, "fingerprint": recipe, "engine": told(scored.engines)
    }  # fmt: skip
    if admission.accepted is not None:
        made = candidate(rules.dataset, night, admission.accepted, admission.rows_out, recipe, standing, [features])
        receipt = make_receipt(
            workspace, pipeline, crew, features, admission, recipe, rules_hash(rules), origin, scored.engines
        )
        with workspace.engine.begin() as connection:
            now = workspace.clock.now()
            ids = commit_partitions(connection, [made], run_id, now)
            predictions_id = ids[rules.dataset, night]
            recorded = receipt | {"predictions_id": predictions_id, "run_id": run_id, "made_at": now}
            made_by |= {"receipt_id": record_receipt(connection, recorded), "snapshot": receipt["snapshot_md5"]}
        made_by |= {"receipt": summarise(receipt)}
        committed = [made]
    record_accounts(workspace, [account_of(admission)], run_id)
    outcome = outcome_of(admission, committed)
    return replace(outcome, facts={**made_by, **outcome.facts})
