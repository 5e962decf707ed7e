"""Take back a champion: the version before it scores again, and readers see the last night as that version scores it.

The night is staged before anything moves; then the alias and the readers' pointer move, each at once. Every part may be
done again: a retreat that was broken off goes on where it stopped.
Added here: what a change of champion means for readers. Not here: aliases (`registry`), when to retreat (`monitoring`).
"""

from dataclasses import dataclass
from datetime import date

from nightscore.catalog.changesets import Item, items_of
from nightscore.catalog.models import ModelVersion, list_model_events
from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.publications import (
    Publication,
    find_receipt,
    latest_publication,
    receipt_by_id,
    seen_publication,
)
from nightscore.errors import AliasMissing
from nightscore.lake.workspace import Workspace
from nightscore.publishing.backfill import open_changeset, plan_backfill
from nightscore.publishing.changesets import approve, discard
from nightscore.publishing.rollback import open_rollback
from nightscore.publishing.staging import stage_publications
from nightscore.registry.aliases import require_alias
from nightscore.registry.names import CHAMPION, PREVIOUS
from nightscore.registry.promotion import ROLLED_BACK, roll_back_alias
from nightscore.scoring.receipts import recipe_of
from nightscore.scoring.staging import stage_predictions
from nightscore.spec.datasets import features_dataset
from nightscore.spec.pipeline import Pipeline

KIND = "retreat"


@dataclass(frozen=True)
class Retreat:
    """What was taken back; `changeset_id` is None where readers saw the night as it is now all along.

    `blocked`: why the night could not be published again; the alias has moved all the same.
    """

    champion: ModelVersion
    taken_back: int | None
    night: date | None
    changeset_id: int | None
    blocked: tuple[str, ...] = ()


def retreat(workspace: Workspace, pipeline: Pipeline, actor: str, reason: str, run_id: str = "") -> Retreat:
    """The previous champion takes the place of the present one, and the last published night is its again.

    Raises AliasMissing where there is no champion before this one.
    """
    target, taken_back = _target(workspace, pipeline)
    with workspace.engine.connect() as connection:
        latest = latest_publication(connection, pipeline.name)
    staged = _stage(workspace, pipeline, target, latest, actor, reason, run_id) if latest else None
    if taken_back is not None:
        roll_back_alias(workspace, pipeline, actor, reason)
    if latest is None or staged is None:
        return Retreat(target, taken_back, latest.score_date if latest else None, None)
    item = _item(workspace, staged)
    if item.outcome != "blocked":
        approve(workspace, staged, actor, reason)
    held = (item.reason,) if item.outcome == "blocked" else ()
    return Retreat(target, taken_back, latest.score_date, staged, held)


def _target(workspace: Workspace, pipeline: Pipeline) -> tuple[ModelVersion, int | None]:
    """Who is to be champion, and whom it replaces: nobody, where a retreat had moved the alias and then broke off."""
    champion = require_alias(workspace, pipeline.name, CHAMPION)
    try:
        return require_alias(workspace, pipeline.name, PREVIOUS), champion.version
    except AliasMissing:
        with workspace.engine.connect() as connection:
            events = list_model_events(connection, pipeline.name)
            latest = latest_publication(connection, pipeline.name)
        gone = {one["version"] for one in events if one["event"] == ROLLED_BACK}
        if latest is None or latest.model_version not in gone:
            raise
        return champion, None


def _stage(
    workspace: Workspace, pipeline: Pipeline, target: ModelVersion, latest: Publication, actor: str, reason: str,
    run_id: str,
) -> int | None:  # fmt: skip
    """A changeset that gives the last night to `target`: an earlier revision where there is one, else scored anew."""
    (features,) = workspace.lake.require(features_dataset(pipeline.name), [latest.score_date])
    earlier = _earlier(workspace, pipeline, target, features, latest)
    if earlier is not None:
        if earlier.content_md5 == latest.content_md5:
            return None
        moves = {latest.score_date: (latest.publication_id, earlier.publication_id)}
        return open_rollback(workspace, pipeline, moves, reason, actor).changeset_id
    plan = plan_backfill(workspace, pipeline, [latest.score_date], str(target.version), "predictions")
    opened = open_changeset(workspace, plan, reason, actor, KIND).changeset_id
    stage_predictions(workspace, pipeline, opened, plan.nights, run_id)
    stage_publications(workspace, pipeline, opened, plan.nights, run_id)
    if _item(workspace, opened).outcome == "identical":
        discard(workspace, opened, actor, "readers see the same rows already")
        return None
    return opened


def _earlier(
    workspace: Workspace, pipeline: Pipeline, target: ModelVersion, features: PartitionVersion, latest: Publication
) -> Publication | None:
    """The newest revision that readers saw of the night and that `target` made of these features."""
    recipe = recipe_of(pipeline, target, features)
    with workspace.engine.connect() as connection:
        if receipt_by_id(connection, latest.receipt_id).fingerprint == recipe:
            return latest
        receipt = find_receipt(connection, pipeline.name, latest.score_date, recipe)
        return None if receipt is None else seen_publication(connection, receipt.receipt_id)


def _item(workspace: Workspace, changeset_id: int) -> Item:
    with workspace.engine.connect() as connection:
        (only,) = items_of(connection, changeset_id, differences=False)
    return only
