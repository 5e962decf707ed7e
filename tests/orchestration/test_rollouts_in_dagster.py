"""Rollouts night by night: scored in the shadow, on a share, grown, finished, taken back; by the job and by people."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.models import ModelVersion, holders_of
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.registry.register import train_version
from orchestration.cli.attempts import make_attempt
from orchestration.cli.night_runs import Session
from tests.orchestration.conftest import call_here, checks, materialisations, run
from tests.orchestration.model_shop import FIRST_NIGHT, close, model_shop, reopen, spoken, with_trees

pytestmark = pytest.mark.timeout(900)

BEGUN = FIRST_NIGHT
"""The last night of the champion alone."""


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A champion that has published one night."""
    with model_shop(server, tmp_path_factory.mktemp("rollouts")) as session:
        assert make_attempt(session, FIRST_NIGHT, "begin").version == "visits@1"
        assert run(session, BEGUN).message == ""
        yield session


@pytest.fixture(scope="module")
def better(shop: Session) -> ModelVersion:
    """A version of a recipe that fits better, trained for the same night, and judged by nobody."""
    session = reopen(shop, **with_trees(40))
    trained = train_version(session.workspace, session.pipeline, BEGUN, "more trees", "by hand").version
    close(session)
    return trained


def night(days: int) -> date:
    return BEGUN + timedelta(days=days)


def shown(session: Session, run_id: str, last: date) -> dict[str, Any]:
    return materialisations(session, run_id)["rollouts", str(last)]


def published_arms(session: Session, last: date) -> dict[str, int]:
    frame = session.workspace.lake.read("visits.predictions", last, last).collect()
    return {row["arm"]: row["len"] for row in frame.group_by("arm").agg(pl.len()).to_dicts()}


def holders(session: Session) -> dict[str, int]:
    with session.workspace.engine.connect() as connection:
        return holders_of(connection, "visits")


def decided(session: Session) -> list[tuple[str, str, str]]:
    with session.workspace.engine.connect() as connection:
        return [(one.kind, one.subject, one.verdict) for one in list_decisions(connection, "visits")]


def test_a_night_without_a_rollout_says_that_nothing_runs(shop: Session) -> None:
    launched = run(shop, BEGUN)
    assert launched.message == ""
    facts = shown(shop, launched.run_id, BEGUN)
    assert (facts["action"], facts["shadow"]) == ("none", "none")
    assert checks(shop, launched.run_id)["rollouts"][0] is True


def test_nobody_steps_where_nothing_runs(shop: Session) -> None:
    for command in ("advance", "stop"):
        done = call_here("rollout", command, "visits", "--reason", "go")
        assert (done.returncode, "no rollout runs" in done.stderr) == (2, True)
    assert call_here("rollout", "start", "visits@1", "--reason", "go").returncode == 2


def test_a_shadow_scores_each_night_and_readers_see_the_champion(shop: Session, better: ModelVersion) -> None:
    done = call_here("rollout", "start", better.name, "--kind", "shadow", "--reason", "have a look")
    assert (done.returncode, done.stderr) == (0, "")
    assert holders(shop) == {"champion": 1, "shadow": better.version}
    launched = run(shop, night(1), night(2))
    assert launched.message == ""
    facts = shown(shop, launched.run_id, night(2))
    assert facts["shadow"] == f"{night(1)}: made, {night(2)}: made"
    assert (facts["action"], facts["subject"]) == ("waiting", better.name)
    assert published_arms(shop, night(2)) == {"champion": 60}
    shadow = shop.workspace.lake.read("visits.shadow", night(2), night(2)).collect()
    assert shadow.height == 60
    (running,) = spoken("rollout", "status", "visits")["running"]
    assert (running["stage"], running["as_of"], running["days_to_wait"]) == ("a shadow", str(night(2)), 0)
    assert running["readout"]["outcome"] == "not_enough_evidence"


def test_a_person_stops_it_and_the_ledger_says_so(shop: Session, better: ModelVersion) -> None:
    done = call_here("rollout", "stop", "visits", "--reason", "seen enough")
    assert (done.returncode, done.stderr) == (0, "")
    assert holders(shop) == {"champion": 1}
    assert decided(shop)[:2] == [("rollout", better.name, "stopped"), ("rollout", better.name, "started")]
    assert spoken("rollout", "status", "visits")["rollouts"][0]["status"] == "stopped"


def test_a_canary_takes_its_share_grows_by_a_person_and_waits_its_days(shop: Session, better: ModelVersion) -> None:
    started = call_here("rollout", "start", better.name, "--kind", "canary", "--reason", "try it")
    assert (started.returncode, "canary of 30 % of entities" in started.stdout) == (0, True)
    launched = run(shop, night(3))
    assert launched.message == ""
    arms = published_arms(shop, night(3))
    assert set(arms) == {"champion", "canary"}
    assert sum(arms.values()) == 60
    refused = call_here("rollout", "advance", "visits", "--reason", "impatient")
    assert (refused.returncode, "1 more score dates are asked for" in refused.stderr) == (2, True)
    grown = call_here("rollout", "advance", "visits", "--reason", "impatient", "--early")
    assert (grown.returncode, f"canary of 60 % of entities from {night(4)} on" in grown.stdout) == (0, True)
    assert decided(shop)[0] == ("rollout", better.name, "grown")
    early = call_here("rollout", "advance", "visits", "--reason", "impatient", "--early")
    # The last step is the champion's place, and the gate has not judged this version.
    assert (early.returncode, "the gate has not judged it" in early.stderr) == (2, True)
    assert holders(shop) == {"champion": 1, "canary": better.version}


def test_the_nightly_run_gives_the_better_canary_the_champions_place(shop: Session, better: ModelVersion) -> None:
    launched = run(shop, *(night(days) for days in range(4, 14)))
    assert launched.message == ""
    facts = shown(shop, launched.run_id, night(13))
    assert (facts["action"], facts["subject"]) == ("promoted", better.name)
    assert holders(shop) == {"champion": better.version, "previous": 1}
    assert decided(shop)[0] == ("promotion", better.name, "promoted")
    status = call_here("rollout", "status", "visits")
    assert (status.returncode, "completed" in status.stdout) == (0, True)


def test_a_new_champion_that_turns_out_worse_is_taken_back_with_the_last_night(
    shop: Session, better: ModelVersion
) -> None:
    session = reopen(shop, **with_trees(1))
    bad = train_version(session.workspace, session.pipeline, FIRST_NIGHT, "one tree", "by hand").version
    assert call_here("models", "promote", bad.name, "--reason", "by mistake", "--despite-gate").returncode == 0
    assert run(session, night(14)).message == ""
    made = spoken("rollout", "review", "visits", "--as-of", str(night(14)))
    assert (made["action"], made["subject"]) == ("watched", bad.name)
    launched = run(session, *(night(days) for days in range(15, 26)))
    assert launched.message == ""
    facts = shown(session, launched.run_id, night(25))
    assert (facts["action"], facts["subject"]) == ("taken_back", bad.name)
    assert "credibly worse" in facts["reason"]
    close(session)
    assert holders(shop)["champion"] == better.version
    with shop.workspace.engine.connect() as connection:
        seen = current_publications(connection, "visits", night(24), night(25))
    assert {day: one.model_version for day, one in seen.items()} == {
        night(24): bad.version, night(25): better.version
    }  # fmt: skip
    assert decided(shop)[0] == ("watch", bad.name, "taken_back")


def test_a_shadow_without_sense_is_a_warning_and_the_night_is_published(shop: Session) -> None:
    training = with_trees(6)["training"]
    algorithm = training["algorithm"] | {"min_rows_in_leaf": 100_000}
    session = reopen(shop, training=training | {"algorithm": algorithm})
    flat = train_version(session.workspace, session.pipeline, FIRST_NIGHT, "no splits", "by hand").version
    assert call_here("rollout", "start", flat.name, "--kind", "shadow", "--reason", "does it matter").returncode == 0
    launched = run(session, night(26))
    assert launched.message == ""
    passed, metadata = checks(session, launched.run_id)["rollouts"]
    assert (passed, metadata["nights"], str(night(26)) in metadata["reasons"]) == (False, 1, True)
    assert shown(session, launched.run_id, night(26))["shadow"] == f"{night(26)}: blocked"
    assert published_arms(session, night(26)) == {"champion": 60}
    close(session)
