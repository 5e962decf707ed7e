"""A history of publications to read back: restated, undone, staged, late and wider nights of the shop.

Added here: another thing that becomes of a publication. Not here: tests.
"""

from dataclasses import replace
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from nightscore.catalog.publications import (
    Publication,
    insert_publication,
    lock_night,
    move_publication,
    publications_of_night,
    require_receipt,
)
from nightscore.clock import FixedClock
from nightscore.lake.workspace import Workspace
from nightscore.publishing.publish import ensure_mart, load_rows
from nightscore.scoring.night import score_nights
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Decision, TopK
from tests.integration.night_chain import NOW, night_after, prepare, run_night
from tests.shop import FIRST_NIGHT

SECOND, THIRD, UNREAD = (night_after(FIRST_NIGHT, days) for days in (1, 2, 3))
SPARE = night_after(FIRST_NIGHT, 4)


def hour(number: int) -> datetime:
    """An instant of the history of the history."""
    return NOW + timedelta(hours=number)


def make_history(workspace: Workspace, pipeline: Pipeline) -> dict[str, int]:
    """Publications of a begun shop by name: a night restated twice, undone and staged; a second; a third that was
    staged at first."""
    run_night(at(workspace, 1), deciding(pipeline, 7), FIRST_NIGHT, "restated")
    run_night(at(workspace, 2), deciding(pipeline, 9), FIRST_NIGHT, "restated again")
    undo(workspace, FIRST_NIGHT, 1, hour(3))
    stage(at(workspace, 4), deciding(pipeline, 11), FIRST_NIGHT)
    run_night(at(workspace, 5), pipeline, SECOND, "second night")
    stage(at(workspace, 6), deciding(pipeline, 11), THIRD)
    wider = pipeline.model_copy(
        update={"publish": pipeline.publish.model_copy(update={"columns": ("city", "visits_3d")})}
    )
    run_night(at(workspace, 7), wider, THIRD, "third night, wider")
    stage(at(workspace, 8), wider, UNREAD)
    first, third = revisions(workspace, FIRST_NIGHT), revisions(workspace, THIRD)
    (second,), (unread,) = revisions(workspace, SECOND), revisions(workspace, UNREAD)
    names = ("first", "restated", "again", "staged", "second", "third staged", "third", "unread")
    return dict(zip(names, (*first, second, *third, unread), strict=True))


def at(workspace: Workspace, number: int) -> Workspace:
    """The shop at an hour of the history."""
    return replace(workspace, clock=FixedClock(hour(number)))


def deciding(pipeline: Pipeline, k: int) -> Pipeline:
    """The pipeline with another decision, which is another revision."""
    return pipeline.model_copy(update={"decision": Decision(rule=TopK(type="top_k", k=k))})


def revisions(workspace: Workspace, night: date) -> list[int]:
    """The ids of a night's publications, staged ones included."""
    with workspace.engine.connect() as connection:
        return [one.publication_id for one in publications_of_night(connection, "visits", night)]


def undo(workspace: Workspace, night: date, revision: int, now: datetime) -> None:
    """Point readers back at the revision at index `revision`."""
    with workspace.engine.begin() as connection:
        lock_night(connection, "visits", night)
        made = publications_of_night(connection, "visits", night)[revision]
        move_publication(connection, made, "ada", "the restatement was wrong", now)


def stage(workspace: Workspace, pipeline: Pipeline, night: date) -> Publication:
    """A publication that is in the mart, and that no pointer names; its cities give it away."""
    prepare(workspace, pipeline, [night], "staged")
    score_nights(workspace, pipeline, [night], "staged")
    version = workspace.lake.current("visits.predictions", night, night)[night]
    ensure_mart(workspace, pipeline, version)
    with workspace.engine.begin() as connection:
        lock_night(connection, "visits", night)
        receipt = require_receipt(connection, "visits", night, version.fingerprint)
        values = {
            "pipeline": "visits", "score_date": night, "receipt_id": receipt.receipt_id, "rows": version.rows,
            "model_version": receipt.model_version, "content_md5": version.md5, "kind": "night", "run_id": "staged",
            "published_at": workspace.clock.now(),
        }  # fmt: skip
        made = insert_publication(connection, values)
        load_rows(connection, workspace, pipeline, version, receipt, made)
        connection.execute(sa.text(f"update mart.visits_p{made.publication_id} set city = 'STAGED'"))
    return made
