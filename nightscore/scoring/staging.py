"""The predictions of a changeset: scored by the versions it names, judged and kept, but not current.

Added here: how staged nights are scored. Not here: tonight's (`night.py`), or what readers see (`publishing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter

from nightscore.catalog.changesets import Item, insert_changeset, is_staged, items_of, update_item
from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion, stage_partition
from nightscore.catalog.pointers import current_pointers
from nightscore.catalog.publications import record_receipt
from nightscore.lake.outcomes import NightOutcome, record_accounts, timed_step
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import account_of, admit
from nightscore.quality.rules import prediction_rules, rules_hash
from nightscore.registry.capsule import Capsule
from nightscore.registry.names import CHAMPION
from nightscore.registry.versions import open_capsule, require_version
from nightscore.scoring.arms import Arms
from nightscore.scoring.crew import Crew, crew_of_version
from nightscore.scoring.execution import Execution, open_execution
from nightscore.scoring.predictions import predict_night
from nightscore.scoring.receipts import Origin, make_receipt, recipe_of, store_origin
from nightscore.spec.datasets import features_dataset, predictions_dataset
from nightscore.spec.pipeline import Pipeline


@dataclass
class _Models:
    """The versions that a changeset names, each opened once."""

    workspace: Workspace
    pipeline: Pipeline
    opened: dict[int, tuple[ModelVersion, Capsule]] = field(default_factory=dict)

    def get(self, number: int) -> tuple[ModelVersion, Capsule]:
        if number not in self.opened:
            version = require_version(self.workspace, self.pipeline.name, number)
            self.opened[number] = version, open_capsule(self.workspace, version)
        return self.opened[number]


def nights_under_review(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date]) -> list[date]:
    """Those of `nights` that readers see, where the spec says that what they see changes by review."""
    if not nights or pipeline.publish.restate == "direct":
        return []
    with workspace.engine.connect() as connection:
        return list(current_pointers(connection, pipeline.name, nights))


def stage_restatement(
    workspace: Workspace, pipeline: Pipeline, crew: Crew, nights: Sequence[date], run_id: str
) -> None:
    """Score `nights`, which readers see, into a changeset of this run; what is staged already is not staged again.

    A restatement is scored by the champion alone, also while a rollout runs.
    """
    features = {one.score_date: one for one in workspace.lake.require(features_dataset(pipeline.name), nights)}
    with workspace.engine.connect() as connection:
        waiting = [
            night for night in sorted(nights)
            if not is_staged(connection, pipeline.name, night, recipe_of(pipeline, crew.champion, features[night]))
        ]  # fmt: skip
    if not waiting:
        return
    values = {
        "pipeline": pipeline.name, "kind": "restatement", "first_date": waiting[0], "last_date": waiting[-1],
        "model_policy": CHAMPION, "scope": "predictions", "reason": "nights that readers see were run again",
        "created_by": f"run {run_id}", "created_at": workspace.clock.now(),
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        bases = current_pointers(connection, pipeline.name, waiting)
        opened = insert_changeset(connection, values, dict.fromkeys(waiting, crew.champion.version), dict(bases))
    stage_predictions(workspace, pipeline, opened.changeset_id, waiting, run_id)


def stage_predictions(
    workspace: Workspace, pipeline: Pipeline, changeset_id: int, nights: Sequence[date], run_id: str
) -> list[NightOutcome]:
    """Score those of `nights` that the changeset has not scored yet; each is kept as soon as it is made.

    A blocked night is recorded as such, and raises nothing: the review shows it.
    """
    timed = timed_step(workspace, pipeline.name, "stage predictions", nights, run_id)
    with timed as log, open_execution(workspace) as execution:
        with workspace.engine.connect() as connection:
            items = {one.score_date: one for one in items_of(connection, changeset_id, nights, differences=False)}
        nights = [night for night in nights if night in items]
        waiting = [night for night in nights if items[night].outcome == "planned"]
        features = {one.score_date: one for one in workspace.lake.require(features_dataset(pipeline.name), waiting)}
        standing = workspace.lake.current(predictions_dataset(pipeline.name), min(nights), max(nights))
        models, origin = _Models(workspace, pipeline), store_origin(workspace, pipeline) if waiting else None
        for night in nights:
            if origin is None or night not in features:
                log.outcomes.append(_outcome(pipeline, items[night], "reused", items[night].rows))
                continue
            rows = _stage(
                workspace, pipeline, items[night], features[night], standing, models, origin, execution, run_id
            )
            log.outcomes.append(_outcome(pipeline, items[night], "made", rows))
    return log.outcomes


def _stage(
    workspace: Workspace, pipeline: Pipeline, item: Item, features: PartitionVersion,
    standing: Mapping[date, PartitionVersion], models: _Models, origin: Origin, execution: Execution,
    run_id: str,
) -> int:  # fmt: skip
    begun, night, rules = perf_counter(), item.score_date, prediction_rules(pipeline, features.rows)
    version, capsule = models.get(item.model_version)
    recipe = recipe_of(pipeline, version, features)
    path, threads = workspace.lake.store.verified_path(features.md5), workspace.settings.threads
    score = execution.of(crew_of_version(version), features)
    scored = predict_night(pipeline, Arms(version.version, capsule), path, threads, score=score)
    content = workspace.lake.put_batches(scored.batches(), rules.key)
    admission = admit(workspace, pipeline.name, rules, night, content, None, run_id)
    record_accounts(workspace, [account_of(admission)], run_id)
    now = workspace.clock.now()
    values = {"seconds": perf_counter() - begun, "run_id": run_id, "at": now}
    if admission.accepted is None:
        blocked = {"outcome": "blocked", "reason": "; ".join(admission.verdict.reasons)}
        with workspace.engine.begin() as connection:
            update_item(connection, item.changeset_id, night, values | blocked)
        return 0
    made = candidate(rules.dataset, night, admission.accepted, admission.rows_out, recipe, standing, [features])
    receipt = make_receipt(
        workspace, pipeline, crew_of_version(version), features, admission, recipe, rules_hash(rules), origin,
        scored.engines,
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        ids = {"predictions_id": stage_partition(connection, made, run_id, now)}
        recorded = receipt | ids | {"run_id": run_id, "made_at": now}
        ids["receipt_id"] = record_receipt(connection, recorded)
        update_item(connection, item.changeset_id, night, values | ids | {"outcome": "scored", "rows": made.rows})
    return made.rows


def _outcome(pipeline: Pipeline, item: Item, result: str, rows: int) -> NightOutcome:
    facts = {"changeset": item.changeset_id, "model": f"{pipeline.name}@{item.model_version}"}
    dataset = predictions_dataset(pipeline.name)
    return NightOutcome(dataset, item.score_date, "made" if result == "made" else "reused", rows, facts=facts)
