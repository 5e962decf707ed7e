"""`models` and `attempt` as a person types them: versions are trained, judged, decided on and taken back."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.models import holders_of
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.registry.register import train_version
from orchestration.cli.attempts import Attempt, make_attempt, prepare_missing
from orchestration.cli.launch import Launched, run_job
from orchestration.cli.night_runs import Session
from tests.orchestration.conftest import call_here, checks, materialisations, run
from tests.orchestration.model_shop import FIRST_NIGHT, close, model_shop, reopen, spoken, with_trees

pytestmark = pytest.mark.timeout(600)

SECOND, THIRD = date(2024, 3, 22), date(2024, 3, 26)


@pytest.fixture(scope="module")
def life(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with model_shop(server, tmp_path_factory.mktemp("life")) as session:
        yield session


@pytest.fixture(scope="module")
def first(life: Session) -> Attempt:
    """The first champion."""
    return make_attempt(life, FIRST_NIGHT, "begin")


@pytest.fixture(scope="module")
def second(life: Session, first: Attempt) -> Attempt:
    """A refresh, a week later."""
    return make_attempt(life, SECOND, "weekly")


@pytest.fixture(scope="module")
def better(life: Session, second: Attempt) -> Iterator[Session]:
    """The deployment with a recipe that fits better, which has not been trained yet."""
    session = reopen(life, **with_trees(40))
    yield session
    close(session)


def holders(session: Session) -> dict[str, int]:
    with session.workspace.engine.connect() as connection:
        return holders_of(connection, "visits")


def decide(session: Session, **config: Any) -> Launched:
    run_config = {"ops": {"visits__model_decisions": {"config": config}}}
    return run_job(session.definitions, session.instance, "visits_decide_model", {}, run_config)


def test_the_first_attempt_makes_a_champion_without_a_verdict(life: Session, first: Attempt) -> None:
    assert (first.version, first.action, first.verdict, first.exit_code) == ("visits@1", "first champion", "", 0)
    assert holders(life) == {"champion": 1}


def test_the_same_recipe_on_the_same_data_is_nothing_new(life: Session, first: Attempt) -> None:
    again = make_attempt(life, FIRST_NIGHT, "again")
    assert (again.version, again.action) == ("visits@1", "nothing new")


def test_a_refresh_is_judged_and_the_run_shows_all_of_it(life: Session, second: Attempt) -> None:
    assert (second.version, second.verdict, second.action) == ("visits@2", "not_worse", "promoted")
    assert holders(life) == {"champion": 2, "previous": 1}
    shown = materialisations(life, second.run_id)["promotion", ""]
    assert (shown["verdict"], shown["champion"], shown["why"]) == ("not_worse", "visits@1", "weekly")
    assert "| score date | rows |" in shown["evidence"]
    assert shown["chart"].startswith("![loss saved by date](data:image/svg+xml;base64,")
    passed, metadata = checks(life, second.run_id)["promotion"]
    assert (passed, "not credibly worse" in metadata["reasons"]) == (True, True)


def test_a_series_goes_on_after_a_night_without_enough_data(life: Session, second: Attempt) -> None:
    missing = life.workspace.settings.root / "data" / "visits-2024-03-24.csv"
    kept = missing.read_bytes()
    missing.unlink()
    made = spoken("attempt", "visits", "--from", "2024-03-22", "--to", "2024-03-26", "--every", "4", code=2)
    missing.write_bytes(kept)
    assert [(one["as_of"], one["action"]) for one in made] == [("2024-03-22", "nothing new"), ("2024-03-26", "failed")]
    assert "visits-2024-03-24" in made[1]["reason"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("attempt", "visits", "--as-of", "2024-03-22", "--to", "2024-03-26"), "give one or the other"),
        (("attempt", "visits", "--as-of", "2024-03-02"), "before the first night with a full training window"),
        (("models", "compare", "visits@1", "shop@1"), "of two pipelines"),
        (("models", "approve", "visits@1"), 'add --reason "why"'),
        (("models", "reject", "visits@2", "--reason", "no"), "it is the champion"),
        (("models", "propose", "visits@2"), "it is the champion"),
        (("models", "promote", "visits@1", "--reason", " "), 'add --reason "why"'),
        (("models", "history", "nowhere"), "pipelines are: visits"),
    ],
)
def test_a_call_without_sense_says_what_to_do(second: Attempt, arguments: tuple[str, ...], said: str) -> None:
    done = call_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_versions_are_listed_with_alias_status_and_family(second: Attempt) -> None:
    listed = [(one["version"], one["aliases"], one["family_mark"]) for one in spoken("models", "list", "visits")]
    assert listed == [(1, ["previous"], "F1"), (2, ["champion"], "F1")]
    judged = spoken("models", "show", "visits@2")["judged"]
    assert (judged["verdict"], judged["evidence"]["gate"]["outcome"]) == ("promoted", "not_worse")


def test_comparing_changes_nothing(life: Session, second: Attempt) -> None:
    before = holders(life)
    found = spoken("models", "compare", "visits@1", "visits@2", "--as-of", str(SECOND))
    assert (found["outcome"], found["is_refresh"], len(found["dates"])) == ("not_worse", True, 10)
    assert set(found["held_out"]) == {"visits@1", "visits@2"}
    few = call_here("models", "compare", "visits@1", "visits@2", "--as-of", "2024-03-15")
    assert (few.returncode, "not enough evidence" in few.stdout) == (8, True)
    assert holders(life) == before


def test_a_better_recipe_is_promoted_on_proposal_and_taken_back_with_the_last_night(better: Session) -> None:
    assert [one.message for one in prepare_missing(better, THIRD)] == [""]
    assert run(better, THIRD).message == ""
    version = train_version(better.workspace, better.pipeline, THIRD, "more trees", "by hand").version
    proposed = spoken("models", "propose", version.name, "--as-of", str(THIRD))
    assert (proposed["gate"]["outcome"], proposed["gate"]["is_refresh"]) == ("better", False)
    assert (proposed["action"], proposed["champion"]) == ("promoted", "visits@2")
    assert holders(better)["champion"] == version.version
    back = spoken("models", "rollback", "visits", "--reason", "the shop complains")
    assert (back["champion"], back["taken_back"]) == ("visits@2", version.version)
    with better.workspace.engine.connect() as connection:
        seen = current_publications(connection, "visits", THIRD, THIRD)[THIRD]
    assert seen.model_version == 2
    told = [(one["what"], one["version"]) for one in spoken("models", "history", "visits")]
    assert ("rolled back", version.name) in told
    assert ("promotion: promoted", version.name) in told


def test_a_worse_recipe_exits_with_its_own_code_and_fails_its_check(life: Session, better: Session) -> None:
    worse = reopen(life, **with_trees(1))
    made = make_attempt(worse, THIRD, "fewer trees")
    assert (made.verdict, made.action, made.exit_code) == ("worse", "rejected", 0)
    passed, metadata = checks(worse, made.run_id)["promotion"]
    assert (passed, "credibly worse" in metadata["reasons"]) == (False, True)
    done = call_here("models", "compare", "visits@2", made.version, "--as-of", str(THIRD))
    assert (done.returncode, "worse" in done.stdout) == (7, True)
    refused = call_here("models", "promote", made.version, "--reason", "I like it")
    assert (refused.returncode, "the gate found it worse" in refused.stderr) == (2, True)
    close(worse)


def test_a_decision_in_the_ui_says_all_that_is_wrong_or_moves_the_alias(life: Session, better: Session) -> None:
    refused = decide(life, decision="crown", reason=" ")
    assert (refused.success, refused.exit_code) == (False, 2)
    for said in ("'crown' is none of approve, reject, promote, rollback", "it names no version", "it has no reason"):
        assert said in refused.message
    assert decide(life, decision="promote", reason="as before", version=1, despite_gate=True).message == ""
    assert holders(life)["champion"] == 1
    with life.workspace.engine.connect() as connection:
        (newest,) = list_decisions(connection, "visits", 1, "promotion")
    assert (newest.subject, newest.verdict, newest.evidence["despite_gate"]) == ("visits@1", "promoted", True)
