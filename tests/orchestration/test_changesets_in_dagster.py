"""Changesets in Dagster: runs with the tag stage, a job decides, and nights that readers see are left alone."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nightscore.catalog.changesets import items_of
from nightscore.catalog.nights import night_status
from nightscore.publishing.backfill import open_changeset, plan_backfill
from nightscore.publishing.changesets import require_changeset
from orchestration.cli.launch import Launched, run_job, run_nights
from orchestration.cli.night_runs import Session
from orchestration.run_tags import CHANGESET_TAG, RANGE_END, RANGE_START, nights_of_run
from tests.orchestration.conftest import materialisations, run
from tests.shop import CUSTOMERS, FIRST_NIGHT

NIGHTS = [FIRST_NIGHT + timedelta(days=day) for day in (1, 2)]


@pytest.fixture(scope="module")
def staged(session: Session) -> int:
    """The number of a changeset over two nights that were never published."""
    assert run(session, FIRST_NIGHT).message == ""
    assert [one.message for one in run_nights(session.definitions, session.instance, "visits_history", NIGHTS)] == [""]
    plan = plan_backfill(session.workspace, session.pipeline, NIGHTS, "champion", "predictions")
    opened = open_changeset(session.workspace, plan, "because", "ann")
    launched = stage(session, opened.changeset_id)
    assert launched.message == ""
    return opened.changeset_id


def stage(session: Session, changeset: int) -> Launched:
    tags = {CHANGESET_TAG: str(changeset), RANGE_START: str(NIGHTS[0]), RANGE_END: str(NIGHTS[1])}
    return run_job(session.definitions, session.instance, "visits_backfill", tags)


def decide(session: Session, changeset: int, decision: str, reason: str = "looks right") -> Launched:
    config: dict[str, Any] = {"changeset": changeset, "decision": decision, "reason": reason}
    run_config = {"ops": {"visits__changesets": {"config": config}}}
    return run_job(session.definitions, session.instance, "visits_decide", {}, run_config)


def readers_see(session: Session) -> dict[date, int]:
    query = sa.text("select score_date, count(*) from bi.visits_current group by 1")
    with session.workspace.engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def test_a_run_with_the_tag_stages_out_of_sight_as_runs_of_the_same_assets(session: Session, staged: int) -> None:
    assert require_changeset(session.workspace, staged).status == "staged"
    assert readers_see(session) == {FIRST_NIGHT: CUSTOMERS}
    with session.workspace.engine.connect() as connection:
        assert [one.outcome for one in items_of(connection, staged)] == ["staged", "staged"]
    (record,) = session.instance.get_run_records(dg.RunsFilter(job_name="visits_backfill"))
    facts = materialisations(session, record.dagster_run.run_id)
    assert {key for key, *_ in facts} >= {"predictions", "published"}


def test_a_staging_run_that_fails_says_nothing_of_nights_that_readers_see(session: Session, staged: int) -> None:
    assert nights_of_run({CHANGESET_TAG: "1", RANGE_START: str(NIGHTS[0]), RANGE_END: str(NIGHTS[1])}) is None
    with session.workspace.engine.connect() as connection:
        status = night_status(connection, "visits", FIRST_NIGHT)
    assert status is not None
    assert status.status == "published"


def test_a_decision_without_sense_moves_nothing_and_says_all_that_is_wrong(session: Session, staged: int) -> None:
    refused = decide(session, staged, "merge", " ")
    assert (refused.success, refused.exit_code) == (False, 2)
    assert "'merge' is none of approve, undo, discard" in refused.message
    assert "it has no reason" in refused.message
    assert readers_see(session) == {FIRST_NIGHT: CUSTOMERS}


def test_the_job_approves_and_takes_back(session: Session, staged: int) -> None:
    assert decide(session, staged, "approve").message == ""
    assert readers_see(session) == dict.fromkeys([FIRST_NIGHT, *NIGHTS], CUSTOMERS)
    assert decide(session, staged, "undo", "look again").message == ""
    assert readers_see(session) == {FIRST_NIGHT: CUSTOMERS}
    latest = session.instance.get_latest_materialization_event(dg.AssetKey(["visits", "changesets"]))
    assert latest is not None
    assert latest.asset_materialization is not None
    shown = latest.asset_materialization.metadata
    assert {name: shown[name].value for name in ("changeset", "decision", "reason")} == {
        "changeset": staged, "decision": "undo", "reason": "look again",
    }  # fmt: skip
