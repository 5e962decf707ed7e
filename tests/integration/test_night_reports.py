"""Reports from a real catalog: what is read of a night and of a period, the files that are written, and refusals."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nightscore.catalog.decisions import record_decision
from nightscore.catalog.gates import record_account, record_verdict
from nightscore.catalog.metrics import record_metrics
from nightscore.catalog.nights import record_night
from nightscore.catalog.watch import append_watch_event, record_watch_verdict, replace_incidents, replace_signals
from nightscore.errors import Permanent
from nightscore.lake.workspace import Workspace
from nightscore.reports.dashboard import write_dashboard
from nightscore.reports.night_report import write_night_report
from nightscore.reports.watch_facts import newest_watched_night, read_night_facts, read_period_facts
from tests.unit.synthetic_flights import make_pipeline
from tests.unit.watched_nights import AT, INCIDENTS, NIGHT, busy_night, decision, gate

PIPELINE = make_pipeline()


def record_busy_night(connection: sa.Connection) -> None:
    """What `busy_night` says of the watch, without its publications."""
    facts = busy_night()
    assert facts.verdict
    assert facts.status
    record_night(connection, "flights", NIGHT, "gated", facts.status.reason, "run-10", AT)
    record_watch_verdict(connection, facts.verdict)
    append_watch_event(connection, "flights", "night", NIGHT, {}, {"night": str(NIGHT)}, "run-10", AT)
    for night in facts.strip:
        rows: list[dict[str, Any]] = [
            {"pipeline": "flights", "score_date": night, "cause": one.cause, "level": one.level, "fires": one.fires,
             "column_name": one.column, "value": one.value, "threshold": one.threshold, "ratio": one.ratio,
             "message": one.message, "reference": "flights@3", "at": AT}
            for one in facts.signals if one.night == night
        ]  # fmt: skip
        replace_signals(connection, "flights", night, rows)
    incidents = [vars(one) | {"pipeline": "flights", "columns": [], "messages": list(one.messages), "at": AT}
                 for one in INCIDENTS]  # fmt: skip
    replace_incidents(connection, "flights", incidents)
    record_metrics(connection, facts.metrics, "run-10", AT)
    for one in facts.decisions:
        record_decision(connection, one)
    record_decision(
        connection, decision("retrain", "attempt", "flights", "of another night", NIGHT - timedelta(days=1))
    )
    record_verdict(connection, gate("flights.clean.flights", True))
    record_account(connection, facts.accounts[0], "run-10", AT)


@pytest.fixture
def watched(workspace: Workspace) -> Workspace:
    with workspace.engine.begin() as connection:
        record_busy_night(connection)
    return workspace


def test_a_night_is_read_as_it_was_recorded(watched: Workspace) -> None:
    made, read = busy_night(), read_night_facts(watched, PIPELINE, NIGHT)
    assert read.signals == tuple(sorted(made.signals, key=lambda one: (one.night, one.level, one.cause)))
    assert read.accounts == made.accounts[:1]
    assert made.verdict
    assert read.verdict == replace(made.verdict, reasons=list(made.verdict.reasons), notes=[])
    assert sorted(one.incident_id for one in read.incidents) == ["inc-1", "inc-2", "inc-3"]
    assert [one.reason for one in read.decisions] == [one.reason for one in made.decisions]
    assert len(read.metrics) == len({(one.score_date, one.scope, one.metric) for one in made.metrics})
    assert (read.current, read.receipt, read.scores) == (None, None, ())


def test_both_pages_are_written_and_written_again_in_place(watched: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "reports"
    for _ in range(2):
        night = write_night_report(watched, PIPELINE, NIGHT, folder)
        period = write_dashboard(watched, PIPELINE, NIGHT - timedelta(days=30), NIGHT, folder)
    assert sorted(folder.iterdir()) == sorted([night, period])
    assert (night.name, period.name) == ("night-flights-2013-07-31.html", "dashboard-flights.html")
    assert "Held back: distance" in night.read_text(encoding="utf-8")
    assert "1 open incident. Published: 0 of 31 nights; held back: 1" in period.read_text(encoding="utf-8")


def test_a_night_of_which_nothing_is_known_names_the_newest_watched_one(watched: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"never watched.*the newest watched night is 2013-07-31"):
        write_night_report(watched, PIPELINE, NIGHT + timedelta(days=1), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert newest_watched_night(watched, "flights") == NIGHT


def test_a_pipeline_that_was_never_watched_says_so(workspace: Workspace) -> None:
    with pytest.raises(Permanent, match="none of its nights was ever watched"):
        newest_watched_night(workspace, "flights")
    with pytest.raises(Permanent, match="the newest watched night is none"):
        read_night_facts(workspace, PIPELINE, NIGHT)
    assert read_period_facts(workspace, PIPELINE, NIGHT, NIGHT).signals == ()


def test_a_period_that_ends_before_it_begins_is_refused(workspace: Workspace) -> None:
    with pytest.raises(Permanent, match="lies before"):
        read_period_facts(workspace, PIPELINE, NIGHT, NIGHT - timedelta(days=1))
