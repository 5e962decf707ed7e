"""A night that readers see and that comes out otherwise when it is run again: staged for review, or restated."""

from collections.abc import Iterator

import polars as pl
import pytest

from nightscore.catalog.changesets import events_of, list_changesets
from nightscore.catalog.postgres import Server
from nightscore.lake.workspace import Workspace
from nightscore.publishing.changesets import approve
from nightscore.publishing.publish import publish_nights
from nightscore.publishing.staging import stage_of_run
from nightscore.reports.night import read_night
from nightscore.scoring.night import score_nights
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import Begun, copied_shop, prepare, visits_of_shop
from tests.integration.test_changesets import readers_see
from tests.shop import FIRST_NIGHT, visits_of, write_day

LATE = FIRST_NIGHT.replace(day=FIRST_NIGHT.day - 1)


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with copied_shop(server, begun, tmp_path_factory.mktemp("reruns")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reviewed(workspace: Workspace) -> Pipeline:
    """The shop's pipeline with the policy that a spec has when it says nothing."""
    pipeline = visits_of_shop(workspace)
    return pipeline.model_copy(update={"publish": pipeline.publish.model_copy(update={"restate": "review"})})


def run_again(workspace: Workspace, pipeline: Pipeline, run_id: str) -> dict[object, int]:
    prepare(workspace, pipeline, [FIRST_NIGHT], run_id)
    score_nights(workspace, pipeline, [FIRST_NIGHT], run_id)
    publish_nights(workspace, pipeline, [FIRST_NIGHT], run_id, "nightly")
    return dict(stage_of_run(workspace, pipeline, run_id))


def statuses(workspace: Workspace) -> list[str]:
    with workspace.engine.connect() as connection:
        return [one.status for one in list_changesets(connection, "visits")]


def test_an_unchanged_night_stages_nothing(workspace: Workspace, reviewed: Pipeline) -> None:
    assert (run_again(workspace, reviewed, "same"), statuses(workspace)) == ({}, [])


def test_a_late_correction_waits_for_review_and_is_staged_once(workspace: Workspace, reviewed: Pipeline) -> None:
    before = readers_see(workspace)
    write_day(workspace.settings.root, LATE, visits_of(LATE).with_columns(pl.col("age") + 20))
    ((night, changeset),) = run_again(workspace, reviewed, "late").items()
    assert (night, statuses(workspace), readers_see(workspace)) == (FIRST_NIGHT, ["staged"], before)
    report = read_night(workspace.engine, "visits", FIRST_NIGHT, ["late"])
    assert (report.changeset, report.publication and report.publication.revision) == (changeset, 1)
    assert (run_again(workspace, reviewed, "late again"), statuses(workspace)) == ({}, ["staged"])
    approve(workspace, changeset, "bob", "the correction is right")
    assert readers_see(workspace) != before
    assert (run_again(workspace, reviewed, "afterwards"), statuses(workspace)) == ({}, ["approved"])


def test_a_change_that_changes_nothing_is_closed_at_once(workspace: Workspace, reviewed: Pipeline) -> None:
    before = readers_see(workspace)
    write_day(workspace.settings.root, LATE, visits_of(LATE).with_columns(pl.col("age") + 20, pl.col("spend") + 0.01))
    assert run_again(workspace, reviewed, "without effect") == {}
    assert readers_see(workspace) == before
    with workspace.engine.connect() as connection:
        newest = list_changesets(connection, "visits")[0]
        last = events_of(connection, newest.changeset_id)[-1]
    assert (newest.status, last["reason"]) == ("discarded", "nothing differs")


def test_a_pipeline_that_says_so_restates_directly(workspace: Workspace) -> None:
    write_day(workspace.settings.root, LATE, visits_of(LATE))
    before = readers_see(workspace)
    assert run_again(workspace, visits_of_shop(workspace), "direct") == {}
    assert readers_see(workspace) != before
