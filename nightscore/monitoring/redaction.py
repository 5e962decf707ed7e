"""What may leave the deployment in a message: no address but its scheme, no credential, no mail address.

It is the last guard, not the first: whoever words a message keeps to column names and figures.
Added here: another shape of secret. Not here: who is told what (`alerts.py`).
"""

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from nightscore.lake.workspace import Workspace

HIDDEN = "…"
SHORTEST_SECRET = 4
"""Characters: hiding shorter ones would garble every text, and hide nothing."""
SHORTEST_PART = 12
"""Characters of a part of an alert's URL that may be a token; shorter ones are words such as `channel`."""
_END = r"""(?=[,;:.)"'\]]*(?:\s|$))"""
_VALUE = rf"""(?:"[^"]*"|'[^']*'|\S+?{_END})"""
_NAME = r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"
_SHAPES = (
    # Chat services keep their tokens in host or path, so nothing behind the scheme is safe to show.
    (re.compile(rf"\b([a-z][a-z0-9+.-]*://)\S+?{_END}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(authorization\s*[:=]).*", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(rf"([\w-]*{_NAME}[\w-]*\s*=)\s*{_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"""([\w-]*{_NAME}["']?:)\s*{_VALUE}""", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.IGNORECASE), HIDDEN),
)


def redact(text: str) -> str:
    """The text without anything in the shape of an address, a credential or a mail address."""
    for shape, shown in _SHAPES:
        text = shape.sub(shown, text)
    return text


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without `secrets`, whatever their shape."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def find_secrets(workspace: Workspace) -> frozenset[str]:
    """Every secret of the deployment, and the parts of its URLs that are secrets by themselves."""
    settings = workspace.settings
    urls = settings.alert_urls.get_secret_value().split() if settings.alert_urls else []
    known = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    known += [*urls, *vars(workspace.database).values()]
    parts = [part for url in urls for part in re.split(r"[/?&=:@]", url) if len(part) >= SHORTEST_PART]
    found = {*known, *parts, *(password for url in known for password in _passwords(url))}
    return frozenset(one for one in found if len(one) >= SHORTEST_SECRET)


def _passwords(url: str) -> list[str]:
    """As it stands in the URL, and as it is meant."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []
