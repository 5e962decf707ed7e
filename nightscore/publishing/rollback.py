"""Go back to earlier revisions of published nights, as a changeset that is compared, approved and can be undone.

Added here: another way to say how far back. Not here: rollback of a model (`nightscore/registry`).
"""

from collections.abc import Mapping
from datetime import date

import sqlalchemy as sa

from nightscore.catalog.changesets import Changeset, find_changeset, insert_changeset, set_status, update_item
from nightscore.catalog.publications import Publication, publication_by_id, publications_before, receipt_by_id
from nightscore.errors import PublicationMissing
from nightscore.lake.workspace import Workspace
from nightscore.publishing.review import compare_content
from nightscore.publishing.revisions import choose_publication
from nightscore.spec.pipeline import Pipeline


def earlier_revisions(workspace: Workspace, pipeline: str, nights: int) -> dict[date, tuple[int, int]]:
    """Of the last published `nights`, the publications that readers see and those that they saw just before.

    Raises PublicationMissing naming the nights that never had another revision.
    """
    with workspace.engine.connect() as connection:
        found = publications_before(connection, pipeline, nights)
    alone = [
        f"{night}: publication {now} is the first that readers saw" for night, (now, then) in found.items() if not then
    ]
    if alone or not found:
        raise PublicationMissing(
            f"Going back {nights} nights of {pipeline}", alone or ["nothing is published yet"],
            "name a revision with --to, or fewer nights",
        )  # fmt: skip
    return {night: (now, then) for night, (now, then) in found.items() if then is not None}


def revision_of(workspace: Workspace, pipeline: str, publication_id: int) -> dict[date, tuple[int, int]]:
    """The publication that readers see of the night of `publication_id`, and that one, to which they would go back."""
    with workspace.engine.connect() as connection:
        night = connection.scalar(
            sa.text(
                "select score_date from nightscore.publication where publication_id = :id and pipeline = :pipeline"
            ),
            {"id": publication_id, "pipeline": pipeline},
        )
    if night is None:
        raise PublicationMissing(
            f"Going back to publication {publication_id}", f"{pipeline} has none with this number",
            "see bi.<pipeline>_revisions",
        )  # fmt: skip
    return {night: (choose_publication(workspace, pipeline, night).publication_id, publication_id)}


def open_rollback(
    workspace: Workspace, pipeline: Pipeline, moves: Mapping[date, tuple[int, int]], reason: str, created_by: str
) -> Changeset:
    """A staged changeset that points each night of `moves` (night → now, then) at what readers saw then."""
    with workspace.engine.connect() as connection:
        now = {night: publication_by_id(connection, pair[0]) for night, pair in moves.items()}
        then = {night: publication_by_id(connection, pair[1]) for night, pair in moves.items()}
        receipts = {night: receipt_by_id(connection, one.receipt_id) for night, one in then.items()}
    differences = {
        night: compare_content(workspace, pipeline, now[night], one.content_md5, receipts[night])
        for night, one in then.items()
    }
    values = {
        "pipeline": pipeline.name, "kind": "rollback", "first_date": min(moves), "last_date": max(moves),
        "model_policy": "as-published", "scope": "publications", "reason": reason, "created_by": created_by,
        "created_at": workspace.clock.now(),
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        versions = {night: one.model_version for night, one in then.items()}
        bases = {night: one.publication_id for night, one in now.items()}
        opened = insert_changeset(connection, values, versions, bases)
        for night, one in then.items():
            update_item(connection, opened.changeset_id, night, _item(one) | {"difference": differences[night]})
        set_status(connection, opened.changeset_id, "staged")
        found = find_changeset(connection, opened.changeset_id)
    assert found is not None
    return found


def _item(then: Publication) -> dict[str, object]:
    return {
        "outcome": "staged", "receipt_id": then.receipt_id, "publication_id": then.publication_id, "rows": then.rows,
    }  # fmt: skip
