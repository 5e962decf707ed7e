"""Tell people, through the services that NIGHTSCORE_ALERT_URLS names (apprise URLs: mail, chat, webhooks).

Added here: another way of delivery. Not here: when something is worth telling, which the caller decides.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from nightscore.settings import Settings


def send_alert(settings: Settings, title: str, body: str) -> bool:
    """Send one message to every configured service; True when all of them took it.

    A delivery that fails is logged with the place of its URL in the setting, never with the URL, and raises nothing.
    """
    log = structlog.get_logger("nightscore")
    urls = settings.alert_urls.get_secret_value().split() if settings.alert_urls else []
    if not urls:
        log.warning("alert_not_sent", title=title, reason="NIGHTSCORE_ALERT_URLS names no service")
        return False
    refused = [at for at, url in enumerate(urls, start=1) if not _deliver(url, title, body)]
    for at in refused:
        place = f"number {at} of {len(urls)} in NIGHTSCORE_ALERT_URLS"
        log.warning("alert_not_delivered", title=title, url=place, remedy="`apprise -vv -b test URL` says what fails")
    return not refused


def _deliver(url: str, title: str, body: str) -> bool:
    import apprise

    service: Any = apprise.Apprise()
    with _hushed():
        try:
            return bool(service.add(url) and service.notify(body=body, title=title))
        except Exception:  # a plugin of a third party may raise anything, and an alert must not end a night
            return False


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the messages of apprise and its HTTP client, also the errors among which hold whole URLs."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    were = [one.disabled for one in loggers]
    for one in loggers:
        one.disabled = True
    try:
        yield
    finally:
        for one, was in zip(loggers, were, strict=True):
            one.disabled = was
