"""The nightly job on a real instance: what is recorded for good, gated, broken, contested and repeated nights."""

import os
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.models import alias_holder, list_versions
from nightscore.catalog.nights import night_status
from nightscore.catalog.partitions import Candidate, commit_partitions
from nightscore.catalog.publications import current_publications
from orchestration.cli.launch import run_job
from orchestration.cli.night_runs import Session
from tests.orchestration.conftest import checks, events, materialisations, run
from tests.shop import CUSTOMERS, FIRST_NIGHT, visits_of, write_day

ASSETS = ("source_visits", "clean_visits", "labels", "features", "predictions", "watch", "published")
CHECKS = ("clean_visits", "features", "labels", "predictions", "L1", "L2", "L3", "L4", "rollouts")
DOWNSTREAM_ONLY = """
import sys
from datetime import date
import dagster as dg
from orchestration.cli.night_runs import open_session
session = open_session("visits")
result = session.definitions.resolve_job_def("visits_nightly").execute_in_process(
    instance=session.instance, partition_key=sys.argv[1], raise_on_error=False,
    asset_selection=[dg.AssetKey(["visits", "predictions"])],
)
failure = None if result.success else result.failure_data_for_node("visits__predictions").user_failure_data
print(failure.description if failure else "success")
"""


def night(day: int) -> date:
    return date(2024, 3, day)


def rows_by_partition(session: Session, run_id: str) -> dict[tuple[str, str], int]:
    found = materialisations(session, run_id)
    return {key: metadata["dagster/partition_row_count"] for key, metadata in found.items() if key[0] in ASSETS}


def statuses(session: Session, *nights: date) -> list[str]:
    with session.workspace.engine.connect() as connection:
        found = [night_status(connection, "visits", one) for one in nights]
    return ["nothing" if one is None else one.status for one in found]


def retries(session: Session, run_id: str) -> int:
    return len(events(session, run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY))


def test_one_night_is_recorded_with_its_rows_and_its_checks(session: Session) -> None:
    launched = run(session, FIRST_NIGHT)
    assert (launched.message, launched.exit_code) == ("", 0)
    expected = {(asset, "2024-03-09"): CUSTOMERS for asset in ASSETS}
    assert rows_by_partition(session, launched.run_id) == expected
    judged = checks(session, launched.run_id)
    assert {asset: passed for asset, (passed, _) in judged.items()} == dict.fromkeys(CHECKS, True)
    shown = judged["predictions"][1]
    assert {name: shown[name] for name in ("nights", "judged_now", "gated", "rows_quarantined")} == {
        "nights": 1, "judged_now": 1, "gated": 0, "rows_quarantined": 0,
    }  # fmt: skip
    assert {record.data["passed"] for record in shown["expectations"].records} == {True}
    published = materialisations(session, launched.run_id)["published", "2024-03-09"]
    assert {name: published[name] for name in ("result", "revision", "model_version")} == {
        "result": "made", "revision": 1, "model_version": 1,
    }  # fmt: skip


def test_a_range_is_one_run_with_a_record_for_each_night(session: Session) -> None:
    launched = run(session, night(10), night(11))
    expected = {(asset, str(one)): CUSTOMERS for asset in ASSETS for one in (night(10), night(11))}
    assert rows_by_partition(session, launched.run_id) == expected
    assert statuses(session, night(10), night(11)) == ["published", "published"]
    assert checks(session, launched.run_id)["clean_visits"][1]["nights"] == 2


def test_a_rerun_reuses_everything_and_moves_nothing(session: Session) -> None:
    first = run(session, FIRST_NIGHT)
    before, kept = _publication(session, FIRST_NIGHT), _rows_of_the_watch(session)
    again = run(session, FIRST_NIGHT)
    found = {key[0]: metadata for key, metadata in materialisations(session, again.run_id).items()}
    assert found.pop("restatements")["verdict"] == "unaffected"
    assert found.pop("rollouts")["action"] == "none"
    assert found.pop("night_report")["figures"] == 0
    assert {asset: metadata["result"] for asset, metadata in found.items()} == dict.fromkeys(ASSETS, "reused")
    assert rows_by_partition(session, again.run_id) == rows_by_partition(session, first.run_id)
    assert (_publication(session, FIRST_NIGHT), _rows_of_the_watch(session)) == (before, kept)


def _rows_of_the_watch(session: Session) -> dict[str, int]:
    """What the watch and what follows it keep, in numbers."""
    tables = (
        "watch_event",
        "watch_signal",
        "watch_verdict",
        "incident",
        "decision",
        "metric_value",
        "review_item",
        "alert",
    )
    with session.workspace.engine.connect() as connection:
        return {name: connection.scalar(sa.text(f"select count(*) from nightscore.{name}")) for name in tables}


def _publication(session: Session, one: date) -> Any:
    with session.workspace.engine.connect() as connection:
        return current_publications(connection, "visits", one, one)[one]


def test_a_gated_night_of_a_range_is_the_only_one_not_recorded(session: Session) -> None:
    root = session.workspace.settings.root
    write_day(root, night(12), visits_of(night(12)).head(5))
    try:
        launched = run(session, night(12), night(13), night(14))
        assert (launched.success, launched.exit_code, retries(session, launched.run_id)) == (False, 3, 0)
        assert rows_by_partition(session, launched.run_id) == {
            ("source_visits", "2024-03-12"): CUSTOMERS, ("source_visits", "2024-03-13"): 5,
            ("source_visits", "2024-03-14"): CUSTOMERS,
            ("clean_visits", "2024-03-12"): CUSTOMERS, ("clean_visits", "2024-03-14"): CUSTOMERS,
        }  # fmt: skip
        passed, shown = checks(session, launched.run_id)["clean_visits"]
        assert (passed, shown["gated"], shown["nights"]) == (False, 1, 3)
        assert shown["reasons"].startswith("- 2024-03-13: row_count")
        assert "2024-03-13: row_count" in launched.message
        assert statuses(session, night(13)) == ["gated"]
        _downstream_of_a_gated_night_refuses(night(13))
    finally:
        write_day(root, night(12))
    repaired = run(session, night(12), night(13), night(14))
    assert repaired.message == ""
    assert statuses(session, night(12), night(13), night(14)) == ["published"] * 3
    assert set(rows_by_partition(session, repaired.run_id).values()) == {CUSTOMERS}


def _downstream_of_a_gated_night_refuses(one: date) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DOWNSTREAM_ONLY, str(one)], capture_output=True, text=True, env=dict(os.environ),
        check=True, timeout=60,
    )  # fmt: skip
    assert f"Reading visits.features for {one} failed" in done.stdout
    assert f"{one}: never made" in done.stdout


def test_a_missing_file_fails_at_once_with_its_remedy(session: Session) -> None:
    launched = run(session, night(25))
    assert (launched.success, launched.exit_code, retries(session, launched.run_id)) == (False, 2, 0)
    (failed,) = events(session, launched.run_id, dg.DagsterEventType.STEP_FAILURE)
    told = failed.step_failure_data.user_failure_data
    assert told is not None
    assert set(told.metadata) == {"attempted", "found", "remedy", "exit_code"}
    assert "visits-2024-03-24.csv" in str(told.metadata["found"].value)
    assert statuses(session, night(25)) == ["failed"]


def test_a_lost_race_is_retried_and_then_succeeds(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.failures.SECONDS_BETWEEN_RETRIES", 0)
    engine, one = session.workspace.engine, night(15)
    rival = Candidate("visits.source.visits", one, "0" * 32, 1, 1, "rival", None)
    with engine.connect() as connection:
        commit_partitions(connection, [rival], "rival", session.workspace.clock.now())
        thread = threading.Thread(target=_commit_when_another_waits, args=(engine, connection))
        thread.start()
        launched = run(session, one)
        thread.join()
    assert (launched.message, retries(session, launched.run_id)) == ("", 1)
    assert statuses(session, one) == ["published"]


def _commit_when_another_waits(engine: sa.Engine, rival: sa.Connection) -> None:
    waiting = sa.text(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
        for _ in range(600):
            if watching.scalar(waiting):
                break
            time.sleep(0.05)
    rival.commit()


def test_a_night_that_the_watch_holds_back_is_not_seen_until_it_is_repaired(session: Session) -> None:
    root = session.workspace.settings.root
    write_day(root, night(15), visits_of(night(15)).with_columns(city=pl.lit("Hamburg")))
    try:
        held_back = run(session, night(16))
    finally:
        write_day(root, night(15))
    assert (held_back.success, held_back.exit_code, retries(session, held_back.run_id)) == (False, 3, 0)
    judged = checks(session, held_back.run_id)
    assert {name: passed for name, (passed, _) in judged.items()} == {
        **dict.fromkeys(CHECKS[:-1], True), "L1": False, "L2": False,
    }  # fmt: skip
    reason = "city: 100 % of the rows hold a level that the reference never saw, and at most 1 % is normal"
    assert judged["L1"][1]["shown"] == f"- 2024-03-16: {reason}"
    assert held_back.message == f"visits/watch is held back: 2024-03-16: {reason}"
    assert "watch" not in {asset for asset, _ in rows_by_partition(session, held_back.run_id)}
    assert statuses(session, night(16)) == ["gated"]
    repaired = run(session, night(16))
    assert (repaired.message, statuses(session, night(16))) == ("", ["published"])


def test_the_training_job_takes_its_night_and_purpose_from_the_run_configuration(session: Session) -> None:
    as_of, purpose = FIRST_NIGHT, "first version, for the night of 2024-03-09"
    config = {"ops": {"visits__model": {"config": {"as_of": str(as_of), "purpose": purpose}}}}
    launched = run_job(session.definitions, session.instance, "visits_train", {}, config)
    shown = materialisations(session, launched.run_id)
    assert (shown["model", ""]["version"], shown["model", ""]["new"]) == ("visits@1", False)
    assert shown["training_set", ""]["as_of"] == str(as_of)
    assert "held_out/lightgbm/rmse" in shown["model", ""]
    with session.workspace.engine.connect() as connection:
        assert [one.purpose for one in list_versions(connection, "visits")] == [purpose]
        assert alias_holder(connection, "visits", "champion") == 1


def test_training_for_a_night_without_history_says_what_is_missing(session: Session) -> None:
    as_of = FIRST_NIGHT + timedelta(days=60)
    config = {"ops": {"visits__model": {"config": {"as_of": str(as_of)}}}}
    launched = run_job(session.definitions, session.instance, "visits_train", {}, config)
    assert (launched.success, launched.exit_code) == (False, 3)
    assert "never made" in launched.message
