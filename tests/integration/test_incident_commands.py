"""`incidents` and `policy` as a person types them, on the catalog of a shop; and a night that was held back."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from typer import Typer
from typer.testing import CliRunner, Result

from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.catalog.watch import append_watch_event, list_incidents, replace_incidents
from nightscore.errors import IncidentRefused, NightscoreError, NotEnoughData, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.nights import incident_rows, policy_hash, policy_of, watch_nights
from nightscore.publishing.publish import publish_nights
from nightscore.scoring.night import score_nights
from nightscore.watch.evidence import ColumnNight, ColumnWeek, LabelArrival, NightEvidence
from nightscore.watch.incidents import incident_id
from nightscore.watch.state import step
from nightscore.watch.verdicts import load_state
from orchestration.cli import incidents, policies
from tests.integration.night_chain import NOW, Begun, copied_shop, night_after, prepare, visits_of_shop
from tests.shop import FIRST_NIGHT, visits_of, write_day

pytestmark = pytest.mark.timeout(120)

START = date(2024, 3, 4)


def on(at: int) -> date:
    return START + timedelta(days=at)


NULLS, SPEND = incident_id("visits", "nulls:age", on(1)), incident_id("visits", "psi_week:spend", on(2))


def night(at: int, nulls: float = 0.0, week: float = 0.01) -> NightEvidence:
    return NightEvidence(
        pipeline="visits", score_date=on(at), reference="visits@1", rows=1000,
        columns=(ColumnNight(name="age", null_rate=nulls),), week=(ColumnWeek(name="spend", psi=week),),
        labels=LabelArrival(new_mature_share=0.01),
    )  # fmt: skip


NIGHTS = (night(0), night(1, nulls=0.4, week=0.3), night(2, nulls=0.3, week=0.3), night(3, week=0.2))
"""An L1 on two nights, and from the second of them an L3."""


def tell(workspace: Workspace, *nights: NightEvidence) -> None:
    """Keep what the watch makes of `nights`, as it keeps it itself."""
    pipeline = visits_of_shop(workspace)
    for one in nights:
        with workspace.engine.begin() as connection:
            after, decisions = step(load_state(connection, pipeline), one, policy_of(pipeline))
            body, state = one.model_dump(mode="json"), after.model_dump(mode="json")
            append_watch_event(connection, "visits", "night", one.score_date, body, state, "run", NOW)
            replace_incidents(connection, "visits", incident_rows(after, NOW))
            for made in decisions:
                evidence = {"night": str(made.night), "rules": list(made.rules)}
                said = (made.kind, made.subject, made.verdict, made.reason, evidence, "watch", NOW)
                record_decision(connection, Decision("visits", *said))


def speaks_of(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    """Commands find this deployment."""
    monkeypatch.setenv("NIGHTSCORE_ROOT", str(workspace.settings.root))
    monkeypatch.setattr("nightscore.lake.workspace.open_workspace", lambda _: workspace)


@pytest.fixture
def watched(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    tell(shop, *NIGHTS)
    speaks_of(monkeypatch, shop)
    return shop


def typed(app: Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def said(app: Typer, *arguments: str) -> str:
    done = typed(app, *arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def spoken(app: Typer, *arguments: str) -> Any:
    return json.loads(said(app, *arguments, "--json"))


def refused(app: Typer, *arguments: str) -> NightscoreError:
    done = typed(app, *arguments)
    assert isinstance(done.exception, NightscoreError), done.output
    assert (done.exception.exit_code, done.output) == (2, "")
    return done.exception


def statuses(workspace: Workspace) -> dict[str, str]:
    with workspace.engine.connect() as connection:
        return {one["incident_id"]: one["status"] for one in list_incidents(connection)}


def everything_kept(workspace: Workspace) -> list[int]:
    tables = ("watch_event", "watch_state", "decision", "incident", "alert")
    with workspace.engine.connect() as connection:
        return [connection.execute(sa.text(f"select count(*) from nightscore.{one}")).scalar_one() for one in tables]


def test_incidents_are_listed_newest_first_and_by_status(watched: Workspace) -> None:
    assert [one["incident_id"] for one in spoken(incidents.app, "list")] == [SPEND, NULLS]
    table = said(incidents.app, "list", "visits", "--status", "open").splitlines()
    assert [line.split()[:5] for line in table[2:4]] == [
        [SPEND, "visits", "L3", "open", "psi_week:spend"], [NULLS, "visits", "L1", "open", "nulls:age"],
    ]  # fmt: skip
    said(incidents.app, "close", SPEND, "--reason", "a fair")
    assert [one["incident_id"] for one in spoken(incidents.app, "list", "--status", "closed")] == [SPEND]
    assert spoken(incidents.app, "list", "visits", "--status", "accepted") == []


def test_a_list_of_an_unknown_pipeline_or_status_is_refused(watched: Workspace) -> None:
    assert refused(incidents.app, "list", "nowhere").found[0].endswith("pipelines are: visits")
    assert typed(incidents.app, "list", "--status", "over").exit_code == 2


def test_an_incident_is_shown_by_the_beginning_of_its_id(watched: Workspace) -> None:
    told = said(incidents.app, "show", NULLS[:6])
    assert told.splitlines()[0].startswith(
        f"{NULLS}: L1 of visits, open; opened 2024-03-05, last seen 2024-03-06, nights: 2"
    )
    assert "a change of 40 points, and at most 5 is normal" in told
    assert "It closes after 7 nights in a row on which each of its causes is below 0.8 of its threshold; 1 so" in told
    assert "2024-03-05  incident opened, by watch: L1 nulls:age: age: 40 % of the rows are null" in told
    assert f'nightscore incidents close {NULLS} --false-alarm --reason "…"' in told


def test_an_incident_as_json_has_causes_and_decisions_that_name_it(watched: Workspace) -> None:
    found = spoken(incidents.app, "show", NULLS)
    assert (found["level"], found["columns"], found["nights"], found["quiet"]) == ("L1", ["age"], 2, 1)
    assert [(one["key"], one["worst_on"]) for one in found["causes"]] == [("nulls:age", "2024-03-05")]
    assert [(one["kind"], one["verdict"]) for one in found["decisions"]] == [
        ("publish", "blocked"), ("incident", "opened"), ("publish", "blocked"), ("retrain", "no_attempt"),
    ]  # fmt: skip
    drift = spoken(incidents.app, "show", SPEND)["decisions"]
    assert [(one["kind"], one["verdict"]) for one in drift] == [("incident", "opened"), ("retrain", "no_attempt")]


def test_an_accepted_fault_names_the_nights_to_run_again(watched: Workspace) -> None:
    told = said(incidents.app, "accept", NULLS[:5], "--reason", "age is [/optional] now", "--by", "ada")
    assert told.splitlines() == [
        f"Accepted incident {NULLS} (L1 nulls:age) as of 2024-03-07.",
        "It shows again only beyond 1.1 times its worst night.",
        "Held back until now; run again to publish:   nightscore run visits --from 2024-03-05 --to 2024-03-06",
    ]
    shown = spoken(incidents.app, "show", NULLS)
    assert shown["ends"] == "it is accepted since 2024-03-07, by ada: age is [/optional] now"
    assert (shown["commands"], shown["decisions"][-1]["actor"]) == ([], "ada")
    assert "age is [/optional] now" in said(incidents.app, "list")
    tell(watched, night(4, nulls=0.4))
    assert statuses(watched) == {NULLS: "accepted", SPEND: "open"}


def test_a_closed_fault_is_a_false_alarm_only_when_it_is_said_to_be(watched: Workspace) -> None:
    told = said(incidents.app, "close", SPEND, "--reason", "a fair", "--false-alarm", "--by", "ada")
    assert told == f"Closed incident {SPEND} (L3 psi_week:spend) as a false alarm as of 2024-03-07.\n"
    assert "stays so until its data are mended" in said(incidents.app, "close", NULLS, "--reason", "mended")
    found = {one["incident_id"]: one for one in spoken(incidents.app, "list")}
    assert [(found[one]["false_alarm"], found[one]["actor"] == "ada") for one in (SPEND, NULLS)] == [
        (True, True), (False, False),
    ]  # fmt: skip
    tell(watched, night(4, nulls=0.4))
    assert list(statuses(watched).values()).count("open") == 1


@pytest.mark.parametrize("command", [("show",), ("accept", "--reason", "so be it"), ("close", "--reason", "no")])
def test_an_unknown_or_ambiguous_incident_is_refused_with_those_there_are(
    watched: Workspace, command: tuple[str, ...]
) -> None:
    kept = everything_kept(watched)
    unknown = refused(incidents.app, *command, "zzz")
    assert isinstance(unknown, IncidentRefused)
    assert (unknown.attempted, unknown.found, unknown.remedy) == (
        "Finding incident zzz",
        ("no id begins with that; 2 are open", f"{SPEND}: visits, L3 psi_week:spend, open",
         f"{NULLS}: visits, L1 nulls:age, open"),
        "see `nightscore incidents list`",
    )  # fmt: skip
    assert refused(incidents.app, *command, "").found[0] == "no id begins with that; 2 are open"
    twin = {"pipeline": "other", "incident_id": f"{NULLS[:4]}0", "level": "L2", "status": "closed", "cause": "chart:x",
            "columns": [], "messages": [], "opened": on(0), "last_seen": on(0), "closed": on(1), "nights": 1,
            "actor": None, "reason": "", "false_alarm": False, "at": NOW}  # fmt: skip
    with watched.engine.begin() as connection:
        replace_incidents(connection, "other", [twin])
    ambiguous = refused(incidents.app, *command, NULLS[:4])
    assert (ambiguous.found[0], len(ambiguous.found), ambiguous.remedy) == (
        "2 ids begin with that", 3, "give more of the id",
    )  # fmt: skip
    assert everything_kept(watched) == [*kept[:3], kept[3] + 1, kept[4]]


def test_an_incident_that_is_not_open_any_more_is_refused_with_how_it_ended(watched: Workspace) -> None:
    said(incidents.app, "close", SPEND, "--reason", "a fair")
    kept = everything_kept(watched)
    again = refused(incidents.app, "accept", SPEND, "--reason", "why not")
    assert isinstance(again, IncidentRefused)
    assert again.found == ("it is closed since 2024-03-07: a fair",)
    assert everything_kept(watched) == kept


@pytest.mark.parametrize("arguments", [("accept",), ("close", "--reason", "  ")])
def test_a_decision_without_a_reason_is_refused(watched: Workspace, arguments: tuple[str, ...]) -> None:
    assert 'add --reason "why"' in refused(incidents.app, *arguments, NULLS).remedy
    assert statuses(watched) == {NULLS: "open", SPEND: "open"}


def test_the_policy_in_force_is_a_file_for_a_back_test(watched: Workspace, tmp_path: Path) -> None:
    policy = policy_of(visits_of_shop(watched))
    text = said(policies.app, "show", "visits")
    assert text.splitlines()[0] == f"# policy {policy_hash(policy)} of visits"
    assert yaml.safe_load(text) == policy.model_dump(mode="json")
    assert spoken(policies.app, "show", "visits")["policy"] == policy_hash(policy)
    path = tmp_path / "same.yaml"
    path.write_text(text)
    assert said(policies.app, "backtest", "visits", "--policy", str(path)).endswith("Both policies decide the same.\n")


@pytest.fixture
def other(tmp_path: Path) -> str:
    path = tmp_path / "other.yaml"
    path.write_text("monitoring:\n  weekly_inputs: {psi_floor: 0.4, psi_factor: 1.25}\n")
    return str(path)


def test_a_back_test_sets_policies_side_by_side_and_writes_nothing(watched: Workspace, other: str) -> None:
    said(incidents.app, "close", SPEND, "--reason", "a fair", "--false-alarm", "--by", "ada")
    kept = everything_kept(watched)
    made = spoken(policies.app, "backtest", "visits", "--policy", other)
    assert (made["first"], made["last"], made["present"]["blocked"], made["other"]["blocked"]) == (
        "2024-03-04", "2024-03-07", 2, 2,
    )  # fmt: skip
    assert made["present"]["levels"]["L3"] == {"opened": 1, "false_alarms": 1, "median_days_open": 1.0}
    assert made["other"]["levels"]["L3"] == {"opened": 0, "false_alarms": 0, "median_days_open": None}
    assert (made["present"]["skipped"], made["other"]["skipped"], made["only_other"]) == (0, 1, [])
    assert [(one["night"], one["verdict"]) for one in made["only_present"]] == [
        ("2024-03-06", "opened"), ("2024-03-06", "no_attempt"), ("2024-03-07", "closed"),
    ]  # fmt: skip
    told = said(policies.app, "backtest", "visits", "--policy", other)
    assert "2024-03-06  only present: incident opened: L3 psi_week:spend: spend: PSI 0.300 of the trailing" in told
    assert everything_kept(watched) == kept


def test_a_back_test_of_a_range_ends_with_its_last_night(watched: Workspace, other: str) -> None:
    range_ = ("--from", "2024-03-05", "--until", "2024-03-05")
    made = spoken(policies.app, "backtest", "visits", "--policy", other, *range_)
    assert (made["first"], made["last"], made["present"]["nights"]) == ("2024-03-05", "2024-03-05", 1)
    assert (made["present"]["levels"]["L1"]["opened"], made["only_present"]) == (1, [])


def test_a_back_test_without_nights_or_of_what_cannot_be_tried_is_refused(watched: Workspace, other: str) -> None:
    late = refused(policies.app, "backtest", "visits", "--policy", other, "--from", "2024-05-01")
    assert isinstance(late, NotEnoughData)
    assert late.found == ("the watch judged nights from 2024-03-04 to 2024-03-07",)
    Path(other).write_text("monitoring: {outcomes: {wait_days: 3}}")
    untried = refused(policies.app, "backtest", "visits", "--policy", other)
    assert isinstance(untried, SpecError)
    assert untried.found[0].startswith(
        "other.yaml:1: monitoring.outcomes.wait_days: found 3, expected 14, as in the spec"
    )
    assert refused(policies.app, "backtest", "nowhere", "--policy", other).found[0].endswith("pipelines are: visits")


def test_both_groups_are_commands_of_nightscore() -> None:
    from orchestration.cli.app import app

    assert {"incidents", "policy"} <= {group.name for group in app.registered_groups}


@pytest.fixture
def held_back(
    server: Server, begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Workspace, date]]:
    """The night after the first, of which only a third was delivered."""
    with copied_shop(server, begun, tmp_path) as workspace:
        speaks_of(monkeypatch, workspace)
        write_day(workspace.settings.root, FIRST_NIGHT, visits_of(FIRST_NIGHT).head(20))
        pipeline, second = visits_of_shop(workspace), night_after(FIRST_NIGHT)
        prepare(workspace, pipeline, [second], "second")
        score_nights(workspace, pipeline, [second], "second")
        yield workspace, second


def test_a_night_that_was_held_back_is_published_once_its_incident_is_accepted(
    held_back: tuple[Workspace, date],
) -> None:
    workspace, second = held_back
    pipeline, ends = visits_of_shop(workspace), []
    for run_id in ("second", "again"):
        ends += [one.result for one in watch_nights(workspace, pipeline, [second], run_id)]
        ends += [one.result for one in publish_nights(workspace, pipeline, [second], run_id, "test")]
        if run_id == "second":
            (found,) = spoken(incidents.app, "list", "visits", "--status", "open")
            told = said(incidents.app, "accept", found["incident_id"], "--reason", "a strike", "--by", "ada")
    assert ends == ["blocked", "blocked", "made", "made"]
    assert (found["level"], found["cause"]) == ("L1", "rows:low")
    assert told.splitlines()[-1].endswith(f"nightscore run visits --date {second}")
    with workspace.engine.connect() as connection:
        assert set(current_publications(connection, "visits", second, second)) == {second}
        assert [one.verdict for one in list_decisions(connection, "visits", kind="incident")] == ["accepted", "opened"]
