"""The services that NIGHTSCORE_ALERT_URLS names (apprise URLs: mail, chat, webhooks), and telling one of them.

Added here: another way of delivery. Not here: what is told, and what is tried again (`alerts.py`).
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import SecretStr

from nightscore.settings import Settings

REMEDY = "`apprise -vv -b test URL` says what fails"


@dataclass(frozen=True)
class Service:
    """One URL of the setting, and the words for its place there: in logs nothing else is said of it."""

    url: SecretStr
    place: str

    @cached_property
    def digest(self) -> str:
        """Tells this URL from others, wherever it stands in the setting; slow, so that no password is guessed by it."""
        url = self.url.get_secret_value().encode()
        return hashlib.scrypt(url, salt=b"nightscore.alert", n=2**14, r=8, p=1, dklen=12).hex()

    def tell(self, title: str, body: str) -> bool:
        """Send one message; True when the service took it. Raises nothing, and logs nothing."""
        import apprise

        sender: Any = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Nightscore"))
        with _hushed():
            try:
                added = sender.add(self.url.get_secret_value())
                return bool(added and sender.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))
            except Exception:  # a plugin of a third party may raise anything, and an alert must not end a night
                return False


def find_services(settings: Settings) -> tuple[Service, ...]:
    """Each URL of the setting once, in its order; none without the setting."""
    urls = list(dict.fromkeys(settings.alert_urls.get_secret_value().split() if settings.alert_urls else []))
    return tuple(
        Service(SecretStr(url), f"number {at} of {len(urls)} in NIGHTSCORE_ALERT_URLS")
        for at, url in enumerate(urls, start=1)
    )


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
