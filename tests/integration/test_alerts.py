"""Alerts through apprise to a real server: delivered, refused, nobody there, nothing configured."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from nightscore.monitoring.alerts import send_alert
from nightscore.settings import Settings
from tests.alert_receiver import Receiver, receiving

# Apprise's plugins import it, not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
SECRET = "aS3cret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def send(*urls: str) -> tuple[bool, list[dict[str, Any]]]:
    with capture_logs() as logs:
        sent = send_alert(Settings(alert_urls=SecretStr(" ".join(urls)) if urls else None), "A title", "line\nline")
    return sent, [{name: value for name, value in one.items() if name != "title"} for one in logs]


def refused(place: str) -> dict[str, Any]:
    return {
        "event": "alert_not_delivered", "log_level": "warning", "url": f"number {place} in NIGHTSCORE_ALERT_URLS",
        "remedy": "`apprise -vv -b test URL` says what fails",
    }  # fmt: skip


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_an_alert_arrives_once_at_every_service(receiver: Receiver) -> None:
    assert send(receiver.url, f"{receiver.url}/second") == (True, [])
    assert receiver.taken == [("A title", "line\nline")] * 2


def test_without_a_service_the_alert_is_only_logged() -> None:
    reason = "NIGHTSCORE_ALERT_URLS names no service"
    assert send() == (False, [{"event": "alert_not_sent", "log_level": "warning", "reason": reason}])


def test_a_service_that_refuses_is_named_by_its_place_and_the_others_are_told(receiver: Receiver) -> None:
    gone = f"json://user:{SECRET}@127.0.0.1:{closed_port()}/{SECRET}"
    assert send(gone, receiver.url) == (False, [refused("1 of 2")])
    assert len(receiver.taken) == 1
    receiver.answer = 500
    assert send(receiver.url) == (False, [refused("1 of 1")])


@pytest.mark.parametrize("url", [f"nosuch://{SECRET}", SECRET, f"slack://{SECRET}", "json://"])
def test_a_url_that_cannot_be_read_raises_nothing_and_is_told_to_nobody(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    sent, logs = send(url)
    assert (sent, logs) == (False, [refused("1 of 1")])
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_a_working_url_leaks_no_secret_into_logs(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    assert send(f"json://user:{SECRET}@127.0.0.1:{receiver.port}/{SECRET}?+X-Token={SECRET}") == (True, [])
    assert SECRET not in caplog.text


def test_the_urls_of_the_setting_are_never_shown() -> None:
    assert SECRET not in repr(Settings(alert_urls=SecretStr(f"slack://{SECRET}")))
