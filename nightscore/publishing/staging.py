"""Staged publications: a changeset's predictions loaded into the mart, where no pointer leads to them, and compared.

Added here: what is known of a staged night. Not here: moving pointers (`changesets.py`), comparing (`difference.py`).
"""

from collections.abc import Sequence
from datetime import date
from time import perf_counter
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.changesets import (
    DONE,
    Item,
    find_changeset,
    items_of,
    items_of_run,
    record_event,
    set_status,
    update_item,
)
from nightscore.catalog.partitions import versions_by_id
from nightscore.catalog.publications import (
    insert_publication,
    lock_night,
    publication_by_id,
    receipt_by_id,
)
from nightscore.errors import PartitionConflict
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.publishing.publish import ensure_mart, load_rows
from nightscore.publishing.review import compare_content
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.verdicts import ensure_verdict


def stage_publications(
    workspace: Workspace, pipeline: Pipeline, changeset_id: int, nights: Sequence[date], run_id: str
) -> list[NightOutcome]:
    """Load and compare those of `nights` that are scored; the changeset is staged when none is left to do."""
    with timed_step(workspace, pipeline.name, "stage publications", nights, run_id) as log:
        with workspace.engine.connect() as connection:
            items = items_of(connection, changeset_id, nights, differences=False)
        for item in items:
            if item.outcome != "scored":
                log.outcomes.append(_outcome(pipeline, item, item.outcome, "reused"))
                continue
            log.outcomes.append(_outcome(pipeline, item, _stage(workspace, pipeline, item, run_id), "made"))
        _finish(workspace, changeset_id)
    return log.outcomes


def stage_of_run(workspace: Workspace, pipeline: Pipeline, run_id: str) -> dict[date, int]:
    """Load and compare the nights that this run has scored for review; night → changeset, of those that differ.

    A changeset in which nothing differs is closed at once.
    """
    with workspace.engine.connect() as connection:
        scored = [one for one in items_of_run(connection, pipeline.name, [run_id]) if one.outcome == "scored"]
    for changeset_id in sorted({one.changeset_id for one in scored}):
        nights = [one.score_date for one in scored if one.changeset_id == changeset_id]
        stage_publications(workspace, pipeline, changeset_id, nights, run_id)
        _close_identical(workspace, changeset_id)
    with workspace.engine.connect() as connection:
        staged = items_of_run(connection, pipeline.name, [run_id])
    return {one.score_date: one.changeset_id for one in staged if one.outcome == "staged"}


def _close_identical(workspace: Workspace, changeset_id: int) -> None:
    with workspace.engine.begin() as connection:
        if all(one.outcome == "identical" for one in items_of(connection, changeset_id, differences=False)):
            set_status(connection, changeset_id, "discarded")
            now = workspace.clock.now()
            record_event(connection, changeset_id, "discarded", "nightscore", "nothing differs", now)


def _stage(workspace: Workspace, pipeline: Pipeline, item: Item, run_id: str) -> str:
    begun = perf_counter()
    with workspace.engine.connect() as connection:
        (version,) = versions_by_id(connection, [item.predictions_id or 0])
        receipt = receipt_by_id(connection, item.receipt_id or 0)
        base = publication_by_id(connection, item.base_publication_id) if item.base_publication_id else None
    verdict = ensure_verdict(workspace, pipeline, version, run_id)
    if not verdict.passed:
        return _hold_back(workspace, item, "; ".join(verdict.reasons))
    identical = base is not None and base.content_md5 == version.md5
    if not identical:
        ensure_mart(workspace, pipeline, version)
    difference = compare_content(workspace, pipeline, base, version.md5, receipt)
    values = {
        "pipeline": pipeline.name, "score_date": item.score_date, "receipt_id": receipt.receipt_id,
        "model_version": receipt.model_version, "rows": version.rows, "content_md5": version.md5,
        "kind": "backfill", "run_id": run_id, "published_at": workspace.clock.now(),
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        _require_turn(connection, item)
        done: dict[str, Any] = {"outcome": "identical"}
        if not identical:
            lock_night(connection, pipeline.name, item.score_date)
            made = insert_publication(connection, values)
            load_rows(connection, workspace, pipeline, version, receipt, made)
            done = {"outcome": "staged", "publication_id": made.publication_id}
        done |= {"seconds": item.seconds + perf_counter() - begun, "difference": difference}
        update_item(connection, item.changeset_id, item.score_date, done)
    return str(done["outcome"])


def _hold_back(workspace: Workspace, item: Item, reason: str) -> str:
    with workspace.engine.begin() as connection:
        _require_turn(connection, item)
        blocked = {"outcome": "blocked", "reason": reason}
        update_item(connection, item.changeset_id, item.score_date, blocked)
    return "blocked"


def _require_turn(connection: sa.Connection, item: Item) -> None:
    """Nobody has staged the night or decided on its changeset since it was read, nor can before this commits."""
    opened = find_changeset(connection, item.changeset_id, lock=True)
    (now,) = items_of(connection, item.changeset_id, [item.score_date], differences=False)
    if opened is None or opened.status != "staging" or now.outcome != "scored":
        found = f"the night is {now.outcome} and its changeset {opened.status if opened else 'gone'} by now"
        remedy = "see `nightscore changes show`; another process stages it, or it was discarded"
        raise PartitionConflict(f"Staging {item.score_date} of changeset {item.changeset_id}", found, remedy)


def _finish(workspace: Workspace, changeset_id: int) -> None:
    with workspace.engine.begin() as connection:
        opened = find_changeset(connection, changeset_id, lock=True)
        items = items_of(connection, changeset_id, differences=False)
        if opened is not None and opened.status == "staging" and all(one.outcome in DONE for one in items):
            set_status(connection, changeset_id, "staged")
            record_event(connection, changeset_id, "staged", "nightscore", "every night is done", workspace.clock.now())


def _outcome(pipeline: Pipeline, item: Item, outcome: str, result: str) -> NightOutcome:
    facts = {"changeset": item.changeset_id, "outcome": outcome, "model": f"{pipeline.name}@{item.model_version}"}
    dataset = f"{pipeline.name}.published"
    return NightOutcome(dataset, item.score_date, "made" if result == "made" else "reused", item.rows, facts=facts)
