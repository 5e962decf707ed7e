"""The outbox of alerts against real servers: each alert once at every service, whatever dies in between."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from nightscore.catalog.alerts import Alert, claim_due_alerts, list_alerts, mark_delivered
from nightscore.clock import FixedClock
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import BACK_OFF, LEASE, Delivery, deliver_alerts, enqueue_alert, enqueue_decision
from nightscore.monitoring.services import find_services
from nightscore.settings import Settings
from nightscore.watch.evidence import NightDecision
from tests.alert_receiver import Receiver, receiving
from tests.conftest import NOW
from tests.mail_receiver import MailReceiver, receiving_mail

# Apprise's plugins import it, not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
SECRET = "aS3cretOfMany"
NO_SERVICE = "NIGHTSCORE_ALERT_URLS names no service"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture
def mails() -> Iterator[MailReceiver]:
    with receiving_mail() as opened:
        yield opened


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def told(workspace: Workspace, *urls: str) -> Workspace:
    """The same deployment with these services."""
    changed = {"alert_urls": SecretStr(" ".join(urls)) if urls else None}
    return replace(workspace, settings=workspace.settings.model_copy(update=changed))


def later(workspace: Workspace, wait: timedelta) -> Workspace:
    return replace(workspace, clock=FixedClock(workspace.clock.now() + wait))


def put(
    workspace: Workspace, subject: str = "one", occasion: str = "opened", pipeline: str = "visits", **text: str
) -> bool:
    title, body = text.get("title", f"Title of {subject}"), text.get("body", f"why {subject}\nrun this")
    with workspace.engine.begin() as connection:
        return enqueue_alert(connection, pipeline, subject, occasion, title, body, workspace.clock.now())


def alerts(workspace: Workspace) -> list[Alert]:
    with workspace.engine.connect() as connection:
        return list_alerts(connection)


def standing(workspace: Workspace) -> list[tuple[str, str, int, str | None]]:
    return [(one.subject, one.status, one.attempts, one.last_error) for one in reversed(alerts(workspace))]


def place(at: int, of: int = 1) -> str:
    return f"number {at} of {of} in NIGHTSCORE_ALERT_URLS"


def refused(at: int, of: int = 1) -> dict[str, Any]:
    return {
        "event": "alert_not_delivered", "log_level": "warning", "url": place(at, of), "title": "Title of one",
        "remedy": "`apprise -vv -b test URL` says what fails",
    }  # fmt: skip


def said(event: str, reason: str) -> dict[str, Any]:
    named = {"title": "Title of one", "pipeline": "visits", "subject": "one"}
    return {"event": event, "log_level": "warning", "reason": reason, **named}


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def mail_url(port: int, password: str = SECRET) -> str:
    return f"mailto://night:{password}@127.0.0.1:{port}/ops@example.com?from=nightscore@example.com&mode=insecure"


def test_an_alert_arrives_once_as_it_is_at_webhook_chat_and_mail(
    workspace: Workspace, receiver: Receiver, mails: MailReceiver
) -> None:
    workspace = told(workspace, receiver.url, receiver.chat_url, mail_url(mails.port))
    assert put(workspace)
    assert deliver_alerts(workspace) == Delivery(sent=1, messages=3)
    assert receiver.taken == [("Title of one", "why one\nrun this")] * 2
    (mail,) = mails.taken
    assert (mail.subject, mail.body.splitlines()) == ("Title of one", ["why one", "run this"])
    assert (mail.sender, mail.recipients, mail.login) == (
        "nightscore@example.com", ("ops@example.com",), f"night:{SECRET}",
    )  # fmt: skip
    assert deliver_alerts(later(workspace, timedelta(days=1))) == Delivery()
    assert (len(receiver.taken), len(mails.taken), standing(workspace)) == (2, 1, [("one", "sent", 1, None)])


def test_the_same_incident_twice_is_one_message(workspace: Workspace, receiver: Receiver) -> None:
    workspace = told(workspace, receiver.url)
    assert (put(workspace), put(workspace, title="again")) == (True, False)
    assert deliver_alerts(workspace) == Delivery(sent=1, messages=1)
    assert (put(workspace), deliver_alerts(workspace)) == (False, Delivery())
    assert receiver.taken == [("Title of one", "why one\nrun this")]
    assert (put(workspace, occasion="blocked"), put(workspace, pipeline="other")) == (True, True)


def test_two_incidents_of_one_night_are_one_message_a_pipeline(
    workspace: Workspace, receiver: Receiver, mails: MailReceiver
) -> None:
    workspace = told(workspace, receiver.url, mail_url(mails.port))
    for subject, pipeline in (("one", "visits"), ("other", "flights"), ("two", "visits")):
        put(workspace, subject, pipeline=pipeline)
    assert deliver_alerts(workspace) == Delivery(sent=3, messages=4)
    both = "- Title of one: why one; run this\n- Title of two: why two; run this"
    assert receiver.taken == [
        ("Title of other", "why other\nrun this"), ("Nightscore: 2 alerts of visits", both),
    ]  # fmt: skip
    assert [one.subject for one in mails.taken] == ["Title of other", "Nightscore: 2 alerts of visits"]


def test_a_flood_of_alerts_is_one_message_of_bounded_length(workspace: Workspace, receiver: Receiver) -> None:
    workspace = told(workspace, receiver.url)
    for at in range(40):
        put(workspace, str(at), body="long " * 1000)
    assert deliver_alerts(workspace) == Delivery(sent=40, messages=1)
    ((title, body),) = receiver.taken
    assert (title, body.splitlines()[-1]) == (
        "Nightscore: 40 alerts of visits", "… and 30 more: `nightscore decisions visits`",
    )  # fmt: skip
    assert len(body) < 4200


def test_an_alert_is_committed_with_what_it_tells_of_or_not_at_all(workspace: Workspace, receiver: Receiver) -> None:
    workspace = told(workspace, receiver.url)

    def fail_halfway() -> None:
        with workspace.engine.begin() as connection:
            enqueue_alert(connection, "visits", "one", "opened", "title", "body", NOW)
            connection.execute(sa.text("select 1 / 0"))

    with pytest.raises(sa.exc.DataError):
        fail_halfway()
    assert (deliver_alerts(workspace), receiver.taken, alerts(workspace)) == (Delivery(), [], [])


def test_a_dead_server_that_comes_back_is_told_once(workspace: Workspace) -> None:
    port = closed_port()
    workspace = told(workspace, f"json://127.0.0.1:{port}")
    put(workspace)
    with capture_logs() as logs:
        assert deliver_alerts(workspace) == Delivery(waiting=1)
    assert logs == [refused(1)]
    assert standing(workspace) == [("one", "pending", 1, place(1))]
    with receiving(port) as receiver:
        assert deliver_alerts(later(workspace, timedelta(seconds=59))) == Delivery()
        assert deliver_alerts(later(workspace, timedelta(seconds=60))) == Delivery(sent=1, messages=1)
        assert deliver_alerts(later(workspace, timedelta(days=2))) == Delivery()
        assert receiver.taken == [("Title of one", "why one\nrun this")]
    assert standing(workspace) == [("one", "sent", 2, None)]


def test_a_mail_server_that_is_full_takes_the_mail_later(workspace: Workspace, mails: MailReceiver) -> None:
    workspace = told(workspace, mail_url(mails.port))
    put(workspace)
    mails.is_full = True
    assert deliver_alerts(workspace) == Delivery(waiting=1)
    mails.is_full = False
    assert deliver_alerts(later(workspace, BACK_OFF[0])) == Delivery(sent=1, messages=1)
    assert [one.subject for one in mails.taken] == ["Title of one"]


def test_a_dead_service_makes_no_other_receive_twice(
    workspace: Workspace, receiver: Receiver, mails: MailReceiver
) -> None:
    receiver.answer = 500
    workspace = told(workspace, receiver.url, mail_url(mails.port))
    put(workspace)
    assert deliver_alerts(workspace) == Delivery(waiting=1, messages=1)
    assert standing(workspace) == [("one", "pending", 1, place(1, 2))]
    # A newer alert of the same pipeline, and the services in another order: who has what is known by the service.
    workspace = later(told(workspace, mail_url(mails.port), receiver.url), BACK_OFF[0])
    put(workspace, "two")
    receiver.answer = 200
    assert deliver_alerts(workspace) == Delivery(sent=2, messages=2)
    assert [one.subject for one in mails.taken] == ["Title of one", "Title of two"]
    assert [title for title, _ in receiver.taken] == ["Nightscore: 2 alerts of visits"]


def test_waits_grow_until_the_alert_is_given_up(workspace: Workspace, receiver: Receiver) -> None:
    receiver.answer = 503
    workspace = told(workspace, receiver.url)
    put(workspace)
    for attempt, wait in enumerate(BACK_OFF, start=1):
        assert deliver_alerts(workspace) == Delivery(waiting=1)
        (alert,) = alerts(workspace)
        assert (alert.attempts, alert.next_try_at - workspace.clock.now()) == (attempt, wait)
        workspace = later(workspace, wait)
    with capture_logs() as logs:
        assert deliver_alerts(workspace) == Delivery(given_up=1)
    assert logs == [refused(1), said("alert_given_up", "not delivered in 6 attempts")]
    receiver.answer = 200
    assert deliver_alerts(later(workspace, timedelta(days=30))) == Delivery()
    assert (receiver.refused, receiver.taken, put(workspace)) == (6, [], False)
    assert standing(workspace) == [("one", "given_up", 6, place(1))]


def test_without_a_service_alerts_wait_for_one_and_are_given_up_in_the_end(
    workspace: Workspace, receiver: Receiver
) -> None:
    put(workspace)
    with capture_logs() as logs:
        assert deliver_alerts(workspace) == Delivery(waiting=1)
    assert logs == [said("alert_not_sent", NO_SERVICE)]
    assert standing(workspace) == [("one", "pending", 1, NO_SERVICE)]
    configured = later(told(workspace, receiver.url), BACK_OFF[0])
    assert (deliver_alerts(configured), len(receiver.taken)) == (Delivery(sent=1, messages=1), 1)
    put(workspace, "two")
    rounds = [later(workspace, sum(BACK_OFF[:at], timedelta())) for at in range(len(BACK_OFF) + 1)]
    assert [deliver_alerts(one) for one in rounds] == [Delivery(waiting=1)] * 5 + [Delivery(given_up=1)]


def test_rounds_at_the_same_time_tell_once(workspace: Workspace, receiver: Receiver) -> None:
    receiver.seconds = 0.3
    workspace = told(workspace, receiver.url)
    for subject in ("one", "two", "three"):
        put(workspace, subject)
    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(lambda _: deliver_alerts(workspace), range(4)))
    assert sorted(one.sent for one in rounds) == [0, 0, 0, 3]
    assert len(receiver.taken) == 1


def test_what_a_killed_round_left_is_due_again_and_nobody_who_has_it_gets_it(
    workspace: Workspace, receiver: Receiver, mails: MailReceiver
) -> None:
    workspace = told(workspace, receiver.url, mail_url(mails.port))
    put(workspace)
    with workspace.engine.begin() as connection:
        (claimed,) = claim_due_alerts(connection, workspace.clock.now(), workspace.clock.now() + LEASE)
        mark_delivered(connection, [claimed.alert_id], find_services(workspace.settings)[0].digest)
    assert deliver_alerts(workspace) == Delivery()
    assert deliver_alerts(later(workspace, LEASE)) == Delivery(sent=1, messages=1)
    assert (receiver.taken, len(mails.taken)) == ([], 1)


@pytest.mark.parametrize("url", [f"nosuch://{SECRET}", SECRET, f"slack://{SECRET}", "json://"])
def test_a_url_that_cannot_be_read_raises_nothing_and_is_told_to_nobody(
    url: str, workspace: Workspace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    workspace = told(workspace, url)
    put(workspace)
    with capture_logs() as logs:
        assert deliver_alerts(workspace) == Delivery(waiting=1)
    assert logs == [refused(1)]
    assert SECRET not in caplog.text + "".join(capfd.readouterr()) + str(alerts(workspace))


def test_no_secret_and_no_mail_address_is_on_the_wire_in_the_catalog_or_in_logs(
    workspace: Workspace, receiver: Receiver, mails: MailReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hook = f"json://user:{SECRET}@127.0.0.1:{receiver.port}/{SECRET}/hook?+X-Token={SECRET}"
    workspace = told(workspace, hook, mail_url(mails.port, "n1ghtpass"))
    password = str(sa.make_url(workspace.database.owner_url).password)
    body = (
        f"no answer from {workspace.database.owner_url} nor https://hooks.chat.example/services/T1/B2/{SECRET}\n"
        f"PGPASSWORD={SECRET} user=x, Authorization: Basic {SECRET}\n"
        "row of ann.lee@mail.example was late; visits@1 stays champion"
    )
    put(workspace, title=f"Key: \n{hook}", body=body)
    in_catalog = str(alerts(workspace))
    put(workspace, "bare", title="Bare", body=f"said {SECRET} and {password} and n1ghtpass")
    assert deliver_alerts(workspace) == Delivery(sent=2, messages=2)
    ((_, text),) = receiver.taken
    assert text.splitlines() == [
        "- Key: json://…: no answer from postgresql+psycopg://… nor https://…; "
        "PGPASSWORD=… user=x, Authorization: …; row of … was late; visits@1 stays champion",
        "- Bare: said … and … and …",
    ]
    (mail,) = mails.taken
    wire = "".join([*receiver.bodies, mail.raw, mail.body, mail.subject, caplog.text])
    assert [one for one in (SECRET, password, "n1ghtpass", "ann.lee") if one in wire] == []
    assert [one for one in (SECRET, password, "ann.lee") if one in in_catalog] == []


def test_who_took_an_alert_is_kept_by_a_digest_that_says_nothing_of_the_url(
    workspace: Workspace, receiver: Receiver
) -> None:
    workspace = told(workspace, f"{receiver.url}/{SECRET}", f"{receiver.url}/{SECRET}", f"{receiver.url}/two")
    put(workspace)
    assert deliver_alerts(workspace) == Delivery(sent=1, messages=2)
    (alert,) = alerts(workspace)
    assert alert.delivered == tuple(one.digest for one in find_services(workspace.settings))
    assert {len(one) for one in alert.delivered} == {24}


@pytest.mark.parametrize(
    ("kind", "subject", "verdict", "tell", "expected"),
    [
        ("incident", "ab12", "opened", True, (
            "opened", "Nightscore: visits 2024-03-10, incident ab12 opened", "why\nnightscore incidents show ab12")),
        ("retrain", "visits", "ask", True, (
            "retrain ask 2024-03-10", "Nightscore: visits 2024-03-10, retrain: ask",
            "why\nnightscore decisions visits")),
        ("incident", "ab12", "joined", False, None),
    ],
)  # fmt: skip
def test_a_decision_of_the_watch_is_told_where_it_says_so(
    workspace: Workspace, kind: Any, subject: str, verdict: Any, tell: bool, expected: tuple[str, str, str] | None
) -> None:
    made = NightDecision(
        pipeline="visits", night=date(2024, 3, 10), kind=kind, subject=subject, verdict=verdict, reason="why", tell=tell
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        enqueued = [enqueue_decision(connection, made, NOW) for _ in range(2)]
    assert enqueued == [expected is not None, False]
    assert [(one.occasion, one.title, one.body) for one in alerts(workspace)] == ([expected] if expected else [])


def test_the_urls_of_the_setting_are_never_shown() -> None:
    settings = Settings(alert_urls=SecretStr(f"slack://{SECRET}"))
    assert SECRET not in repr(settings) + repr(find_services(settings))
