"""Sensors: attempts that the watch decided on are begun once and unattended, and people are told of what is missing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nightscore.catalog.alerts import list_alerts
from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.models import holders_of
from nightscore.catalog.nights import record_night
from nightscore.catalog.postgres import Server
from nightscore.catalog.tables import alert, decision, incident, night_event, watch_event, watch_state
from nightscore.catalog.watch import append_watch_event, replace_incidents
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import enqueue_alert
from nightscore.monitoring.nights import incident_rows, policy_hash, policy_of
from nightscore.watch.incidents import Cause, Incident, Ledger
from nightscore.watch.levels import Level, Signal
from nightscore.watch.retraining import History
from nightscore.watch.state import MonitorState
from orchestration.cli.attempts import make_attempt, prepare_missing
from orchestration.cli.launch import run_job
from orchestration.cli.night_runs import Session
from orchestration.cli.up import CODE_LOCATION
from sensors.alerts import alert_delivery
from sensors.freshness import tell_if_late
from sensors.retraining import ASK
from sensors.run_failures import tell_of_nights, unexplained_failures
from tests.integration.night_chain import Begun, copied_shop, visits_of_shop
from tests.orchestration.conftest import call_here
from tests.orchestration.model_shop import FIRST_NIGHT, model_shop

pytestmark = pytest.mark.timeout(600)

NIGHT, NEXT = date(2024, 3, 22), date(2024, 3, 26)
NAMES = ("retraining", "drift", "performance")
RULES = {"retraining": "due", "drift": "brought_forward:L3", "performance": "brought_forward:L4"}
WHY = "a look is due every 7 days; no L1 is open; 7.8 % new mature labels (5 % needed)"


@pytest.fixture(scope="module")
def shop_of_models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A champion of the first night, and the history that two later attempts learn from."""
    with model_shop(server, tmp_path_factory.mktemp("sensors")) as session:
        assert make_attempt(session, FIRST_NIGHT, "begin").action == "first champion"
        assert [one.message for one in prepare_missing(session, NEXT)] == [""]
        yield session


@pytest.fixture
def life(shop_of_models: Session) -> Iterator[Session]:
    """The shop of models, whose watch and outbox are empty again afterwards."""
    yield shop_of_models
    with shop_of_models.workspace.engine.begin() as connection:
        connection.execute(decision.delete().where(decision.c.kind == "retrain"))
        for table in (watch_state, watch_event, incident, alert):
            connection.execute(table.delete())


def decide(
    session: Session, night: date, verdict: str = "attempt", cause: str = "retraining", promotion: str | None = "gate",
    not_before: date | None = None, reason: str = WHY,
) -> int:  # fmt: skip
    """An entry of the ledger, as the watch writes it; returns its id."""
    evidence = {
        "rules": [RULES[cause], "no_open_l1"], "night": str(night), "promotion": promotion,
        "not_before": None if not_before is None else str(not_before),
        "policy": policy_hash(policy_of(session.pipeline)),
    }  # fmt: skip
    made = Decision("visits", "retrain", "visits", verdict, reason, evidence, "watch", datetime.now(UTC))
    with session.workspace.engine.begin() as connection:
        record_decision(connection, made)
        return int(connection.scalar(sa.select(sa.func.max(decision.c.decision_id))) or 0)


def watched(
    workspace: Workspace, night: date, attempts: tuple[date, ...] = (), incidents: tuple[Incident, ...] = ()
) -> None:
    """What the watch remembers after `night`."""
    training, now = History(looked=attempts[-1] if attempts else night, attempts=attempts), datetime.now(UTC)
    state = MonitorState(pipeline="visits", night=night, training=training, ledger=Ledger(incidents=incidents))
    with workspace.engine.begin() as connection:
        append_watch_event(connection, "visits", "night", night, {}, state.model_dump(mode="json"), "test", now)
        replace_incidents(connection, "visits", incident_rows(state, now))


def opened(level: Level, night: date, cause: str) -> Incident:
    shown = Signal(level=level, cause=cause, value=2, threshold=1, ratio=2, fires=True, message="far off")
    causes = (Cause(key=cause, level=level, worst=shown, worst_on=night),)
    return Incident(incident_id="ab12", pipeline="visits", level=level, opened=night, last_seen=night, causes=causes)


def tick(session: Session, name: str = "retraining", cursor: str | None = None) -> Any:
    context = dg.build_sensor_context(session.instance, cursor=cursor)
    return session.definitions.resolve_sensor_def(f"visits_{name}").evaluate_tick(context)


def skipped(session: Session, name: str = "retraining", cursor: str | None = None) -> str:
    found = tick(session, name, cursor)
    assert (found.run_requests, found.cursor) == ([], cursor)
    return str(found.skip_message)


def test_before_the_watch_has_judged_a_night_nothing_is_asked_for(life: Session) -> None:
    assert skipped(life) == "no L1 is open; the watch has judged no night of visits yet"


def test_without_a_decision_the_tick_says_since_when(life: Session) -> None:
    watched(life.workspace, NIGHT)
    assert {name: skipped(life, name) for name in NAMES} == {
        "retraining": "no L1 is open; nothing has asked for training since 2024-03-22",
        "drift": "no L3 is open; nothing has asked for training since 2024-03-22",
        "performance": "no L4 is open; nothing has asked for training since 2024-03-22",
    }


@pytest.mark.parametrize("cause", NAMES)
def test_an_attempt_is_begun_by_the_sensor_of_its_cause_alone_and_once(life: Session, cause: str) -> None:
    decision_id = decide(life, NIGHT, cause=cause)
    watched(life.workspace, NIGHT, (NIGHT,))
    found = tick(life, cause)
    (request,) = found.run_requests
    assert request.run_key == f"visits:2024-03-22:{policy_hash(policy_of(life.pipeline))}"
    assert request.run_config == {
        "ops": {
            "visits__model": {"config": {"as_of": "2024-03-22", "purpose": WHY}},
            "visits__promotion": {"config": {"as_of": "2024-03-22", "reason": WHY, "ask": ""}},
        }
    }
    tags = {name: value for name, value in request.tags.items() if name.startswith("nightscore/")}
    assert tags == {"nightscore/pipeline": "visits", "nightscore/decision": str(decision_id)}
    assert (found.cursor, found.skip_message) == (str(decision_id), None)
    said = f"the attempt of 2024-03-22 was for visits_{cause}; nothing has asked for training since"
    for name in NAMES:
        assert skipped(life, name, str(decision_id) if name == cause else None).endswith(said)


def test_an_attempt_without_leave_for_the_gate_asks_a_person(life: Session) -> None:
    decide(life, NIGHT, promotion="person")
    watched(life.workspace, NIGHT, (NIGHT,))
    (request,) = tick(life).run_requests
    assert request.run_config["ops"]["visits__promotion"]["config"]["ask"] == ASK
    before = holders(life)
    run_config = {"ops": dict(request.run_config["ops"])}
    assert run_job(life.definitions, life.instance, "visits_attempt", dict(request.tags), run_config).message == ""
    made = judgements(life)[0]
    assert (made.verdict, made.evidence["gate"]["outcome"], ASK in made.reason) == ("asked", "not_worse", True)
    assert holders(life) == before | {"challenger": 2}


@pytest.mark.parametrize(
    ("newest", "attempts", "incidents", "said"),
    [
        (date(2024, 3, 30), (NIGHT,), (), "it is 8 nights old, and older than 7 days is not begun"),
        (NIGHT, (), (), "2024-03-22 was judged again, on evidence that asks for none"),
        (
            date(2024, 3, 23), (NIGHT,), (opened("L1", date(2024, 3, 23), "rows:low"),),
            "L1 has opened since: ab12 (rows:low) on 2024-03-23",
        ),
    ],
)  # fmt: skip
def test_an_attempt_that_no_longer_stands_is_not_begun_and_says_so(
    life: Session, newest: date, attempts: tuple[date, ...], incidents: tuple[Incident, ...], said: str
) -> None:
    decide(life, NIGHT)
    watched(life.workspace, newest, attempts, incidents)
    is_open = "L1 is open: ab12 (rows:low)" if incidents else "no L1 is open"
    assert skipped(life) == f"{is_open}; the attempt of 2024-03-22 is not begun: {said}"


@pytest.mark.parametrize(
    ("verdict", "not_before", "reason", "said"),
    [
        ("no_attempt", NEXT, "the last attempt was on 2024-03-19 (7 days between two)", "no attempt before 2024-03-26"),
        ("no_attempt", None, "not enough evidence: 2 % new mature labels (5 % needed)", "no attempt"),
        ("ask", NEXT, "4 attempts in 30 days (4 allowed; more by a person)", "a person is asked"),
    ],
)
def test_cooldown_budget_and_lack_of_labels_are_the_reason_of_the_tick(
    life: Session, verdict: str, not_before: date | None, reason: str, said: str
) -> None:
    decide(life, NIGHT, verdict, "drift", None, not_before, reason)
    watched(life.workspace, NIGHT, (), (opened("L3", NIGHT, "psi_week:age"),))
    assert skipped(life, "drift") == f"L3 is open: ab12 (psi_week:age); 2024-03-22: {said}: {reason}"


def test_a_newer_attempt_takes_the_place_of_one_that_was_never_begun(life: Session) -> None:
    decide(life, NIGHT)
    newer = decide(life, NEXT, cause="performance")
    watched(life.workspace, NEXT, (NIGHT, NEXT))
    assert skipped(life).endswith(
        "the attempt of 2024-03-26 was for visits_performance; nothing has asked for training since"
    )
    assert tick(life, "performance").cursor == str(newer)


def test_a_refusal_after_an_attempt_does_not_hold_it_back(life: Session) -> None:
    decision_id = decide(life, NIGHT)
    decide(life, NEXT, "no_attempt", "drift", None)
    watched(life.workspace, NEXT, (NIGHT,))
    assert tick(life).cursor == str(decision_id)


def test_deliveries_are_told_in_the_tick(life: Session) -> None:
    def said() -> Any:
        return alert_delivery.evaluate_tick(dg.build_sensor_context(life.instance)).skip_message

    assert said() == "no alert is due"
    with life.workspace.engine.begin() as connection:
        enqueue_alert(connection, "visits", "one", "opened", "title", "body", datetime.now(UTC))
    assert said() == "0 alerts sent and 0 messages taken; 1 to be tried again, 0 given up"


def test_an_alert_that_was_given_up_is_found_by_the_doctor(life: Session) -> None:
    with life.workspace.engine.begin() as connection:
        enqueue_alert(connection, "visits", "one", "opened", "The title", "body", datetime.now(UTC))
        connection.execute(alert.update().values(status="given_up", last_error="number 1 of 1"))
    done = call_here("doctor")
    assert (done.returncode, "1 given up in 7 days" in " ".join(done.stdout.split())) == (2, True)


def fail(session: Session, job: str, tags: dict[str, str], message: str) -> None:
    """A failed run as the daemon hands it to the sensor."""
    definition = session.definitions.resolve_job_def(job)
    run = session.instance.create_run_for_job(definition, tags=tags, status=dg.DagsterRunStatus.FAILURE)
    event = dg.DagsterEvent("PIPELINE_FAILURE", job, message=message)
    context = dg.build_run_status_sensor_context(
        sensor_name="unexplained_failures", dagster_instance=session.instance, dagster_run=run, dagster_event=event
    )
    unexplained_failures(context.for_run_failure())


def told(workspace: Workspace) -> list[tuple[str, str, str]]:
    with workspace.engine.connect() as connection:
        return [(one.subject, one.occasion, one.title) for one in list_alerts(connection)]


def test_people_are_told_once_of_a_night_that_failed_and_of_an_attempt(life: Session) -> None:
    one_night = {"nightscore/pipeline": "visits", "dagster/partition": "2024-04-02"}
    for message in ("killed", "killed again"):
        fail(life, "visits_nightly", one_night, message)
    fail(life, "visits_backfill", one_night | {"dagster/partition": "2024-04-03"}, "nobody waits for it")
    fail(life, "visits_attempt", {"nightscore/pipeline": "visits", "nightscore/decision": "7"}, "out of memory")
    assert told(life.workspace) == [
        ("decision 7", "failed", "Nightscore: visits, an attempt failed"),
        ("2024-04-02", "failed", "Nightscore: visits 2024-04-02 failed"),
    ]


@pytest.fixture
def published(server: Server, begun: Begun, tmp_path: Path) -> Iterator[Workspace]:
    """The shop with the night of 2024-03-09 published; it was recorded on 2024-03-10."""
    with copied_shop(server, begun, tmp_path) as workspace:
        yield workspace


def judge(workspace: Workspace, hours: float) -> str:
    """What is said so many hours after the beginning of 2024-03-11 in Berlin."""
    now = datetime(2024, 3, 10, 23, 0, tzinfo=UTC) + timedelta(hours=hours)
    with workspace.engine.begin() as connection:
        return tell_if_late(connection, visits_of_shop(workspace), now)


def test_a_night_is_late_two_hours_after_its_time_and_people_are_told_once(published: Workspace) -> None:
    assert judge(published, 4.9) == "visits: it had not begun when its schedule was last due"
    why = "due since 2024-03-11 03:00 CET; nothing was recorded of it; the newest night that readers see is 2024-03-09"
    assert judge(published, 5.1) == f"visits: 2024-03-11 is late, people are told: {why}"
    assert judge(published, 6) == f"visits: 2024-03-11 is late, which people were told: {why}"
    assert told(published) == [("2024-03-11", "late", "Nightscore: visits 2024-03-11 is late")]
    with published.engine.connect() as connection:
        assert list_alerts(connection)[0].body == f"{why}\nnightscore run visits --date 2024-03-11"


def test_a_late_night_says_what_became_of_it_and_a_known_incident_is_not_told_again(published: Workspace) -> None:
    night = date(2024, 3, 11)
    with published.engine.begin() as connection:
        record_night(connection, "visits", night, "gated", "visits.features: too few rows", "run", datetime.now(UTC))
    watched(published, night, (), (opened("L1", night, "rows:low"),))
    assert judge(published, 6) == "visits: 2024-03-11 is held back by ab12, which people were told of"
    watched(published, night)
    assert "; gated: visits.features: too few rows; the newest night" in judge(published, 6)
    assert len(told(published)) == 1


def test_people_are_told_of_a_night_that_a_gate_holds_back_unless_an_incident_did(published: Workspace) -> None:
    night, run_id = date(2024, 3, 11), "run"
    with published.engine.begin() as connection:
        record_night(connection, "visits", night, "gated", "visits.features: too few rows", run_id, datetime.now(UTC))
    watched(published, night, (), (opened("L1", night, "rows:low"),))
    assert tell_of_nights(published, "visits", (night, night), run_id) == []
    watched(published, night)
    assert tell_of_nights(published, "visits", (night, night), "another run") == []
    assert [tell_of_nights(published, "visits", (night, night), run_id) for _ in range(2)] == [[night], []]
    assert told(published) == [("2024-03-11", "failed", "Nightscore: visits 2024-03-11 is held back")]


def test_a_published_night_is_not_late(published: Workspace) -> None:
    with published.engine.begin() as connection:
        connection.execute(night_event.update().values(at=datetime(2024, 3, 8, tzinfo=UTC)))
    assert judge(published, 6 - 48) == "visits: 2024-03-09 is published"


def holders(session: Session) -> dict[str, int]:
    with session.workspace.engine.connect() as connection:
        return holders_of(connection, "visits")


def judgements(session: Session) -> list[Decision]:
    with session.workspace.engine.connect() as connection:
        return list_decisions(connection, "visits", kind="promotion")


@contextmanager
def daemon(log: Path) -> Iterator[None]:
    """A daemon of its own over this deployment."""
    with log.open("w") as stream:
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(CODE_LOCATION)]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=dict(os.environ))
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def ticks_of(session: Session) -> dict[str, list[Any]]:
    """The ticks of every sensor that ran, the newest first."""
    states = session.instance.all_instigator_state()
    return {
        one.instigator_name: list(session.instance.get_ticks(one.instigator_origin_id, one.selector_id))
        for one in states
        if one.instigator_type.value == "SENSOR"
    }


def wait_for(what: Any, log: Path, seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(1)
    raise AssertionError(log.read_text()[-5000:])


def test_a_daemon_trains_judges_and_promotes_unattended_and_only_once(life: Session, tmp_path: Path) -> None:
    decision_id = decide(life, NEXT)
    watched(life.workspace, NEXT, (NEXT,))
    log = tmp_path / "daemon.log"

    def begun() -> Any:
        runs = life.instance.get_runs(dg.RunsFilter(tags={"nightscore/decision": str(decision_id)}))
        return runs if runs and all(one.is_finished for one in runs) else None

    def settled() -> Any:
        """Every sensor has had a tick since the one that started the attempt."""
        ticks = ticks_of(life)
        names = {f"visits_{name}" for name in NAMES} | {"alert_delivery", "publication_freshness"}
        after = [one for one in ticks.get("visits_retraining", []) if one.status.value == "SKIPPED"]
        return ticks if names <= set(ticks) and after else None

    with daemon(log):
        (run,) = wait_for(begun, log)
        ticks = wait_for(settled, log)
    assert run.status == dg.DagsterRunStatus.SUCCESS, log.read_text()[-5000:]
    made = judgements(life)[0]
    assert (made.verdict, made.evidence["as_of"], made.evidence["by"]) == ("promoted", str(NEXT), "gate")
    assert made.subject == f"visits@{holders(life)['champion']}"
    assert len(begun()) == 1
    newest, first = ticks["visits_retraining"][0], ticks["visits_retraining"][-1]
    assert (first.status.value, first.run_ids, first.cursor) == ("SUCCESS", [run.run_id], str(decision_id))
    assert newest.skip_reason == (
        "no L1 is open; the attempt of 2024-03-26 was for visits_retraining; nothing has asked for training since"
    )
    assert {one.status.value for every in ticks.values() for one in every} <= {"SUCCESS", "SKIPPED", "STARTED"}
