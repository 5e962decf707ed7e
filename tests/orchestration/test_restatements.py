"""Restatements in Dagster: a step of every night that does nothing until an input of a published night changes."""

import json
from datetime import timedelta

from orchestration.cli.launch import run_nights
from orchestration.cli.night_runs import Session, open_session
from tests.orchestration.conftest import call_here, materialisations, run
from tests.shop import FIRST_NIGHT, visits_of, write_day


def spoken(*arguments: str) -> str:
    done = call_here("decisions", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_late_file_is_decided_on_by_the_night_that_reads_it(session: Session) -> None:
    root, second = session.workspace.settings.root, FIRST_NIGHT + timedelta(days=1)
    path = root / "pipelines" / "visits.yaml"
    path.write_text(path.read_text().replace("known_after_days: 1", "known_after_days: 1\n    late_days: 2"))
    late = open_session("visits")
    launched = run(late, FIRST_NIGHT)
    assert launched.message == ""
    shown = materialisations(late, launched.run_id)["restatements", str(FIRST_NIGHT)]
    assert (shown["verdict"], shown["affected"]) == ("unaffected", 0)
    day = FIRST_NIGHT - timedelta(days=1)
    write_day(root, day, visits_of(day).with_columns(age=74 - (visits_of(day)["age"] - 15)))
    (launched,) = run_nights(late.definitions, late.instance, "visits_nightly", [second])
    assert (launched.message, launched.exit_code) == ("", 0)
    found = materialisations(late, launched.run_id)
    assert ("clean_visits", str(FIRST_NIGHT)) in found
    shown = found["restatements", str(second)]
    assert (shown["verdict"], shown["nights"]) == ("asked", [str(FIRST_NIGHT)])
    (decision,) = json.loads(spoken("visits", "--json"))
    assert (decision["verdict"], decision["evidence"]["changeset"]) == ("asked", shown["changeset"])
    assert "visits: restatement of 1 night, 2024-03-09 to 2024-03-09: asked, by nightly" in spoken()
    late.instance.dispose()
    late.workspace.engine.dispose()
