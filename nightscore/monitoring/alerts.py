"""Alerts: put into the catalog's outbox together with what they tell of, delivered in rounds, tried again.

A message goes to each service once, so far as the service says whether it took it; what is due in one round is one
message a pipeline. Added here: wording, grouping and patience. Not here: when something is worth telling, which the
caller decides; how a service is told (`services.py`); what must not be told (`redaction.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

import sqlalchemy as sa
import structlog

from nightscore.catalog.alerts import (
    Alert,
    claim_due_alerts,
    insert_alert,
    mark_delivered,
    mark_failed,
    mark_sent,
)
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.redaction import find_secrets, hide, redact
from nightscore.monitoring.services import REMEDY, Service, find_services
from nightscore.watch.evidence import NightDecision

BACK_OFF = (
    timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=12),
)  # fmt: skip
"""Waits after the first failure, the second and so on; after the last of them an alert is given up."""
LEASE = timedelta(minutes=10)
"""How long a round may take; what a killed round had begun is due again after it."""
TITLE_CHARACTERS, BODY_CHARACTERS, LINE_CHARACTERS = 200, 4000, 400
NO_SERVICE = "NIGHTSCORE_ALERT_URLS names no service"


@dataclass(frozen=True)
class Delivery:
    """What one round came to, in alerts: taken by every service, to be tried again, given up; and messages sent."""

    sent: int = 0
    waiting: int = 0
    given_up: int = 0
    messages: int = 0


def enqueue_alert(
    connection: sa.Connection, pipeline: str, subject: str, occasion: str, title: str, body: str, now: datetime
) -> bool:  # fmt: skip
    """Tell people once, when the caller's transaction is committed and `deliver_alerts` runs; False when known.

    `subject` (such as an incident) and `occasion` (such as opened) are what makes an alert the same one.
    """
    values = {
        "pipeline": pipeline, "subject": subject, "occasion": occasion,
        "title": _cut(" ".join(redact(title[:BODY_CHARACTERS]).split()), TITLE_CHARACTERS),
        "body": _cut(redact(body[: 4 * BODY_CHARACTERS]).strip(), BODY_CHARACTERS),
    }  # fmt: skip
    return insert_alert(connection, values, now)


def enqueue_decision(connection: sa.Connection, made: NightDecision, now: datetime) -> bool:
    """Tell people of a decision of the watch, where it says so: of an incident once, of a question once a night."""
    if not made.tell:
        return False
    is_incident = made.kind == "incident"
    occasion = made.verdict if is_incident else f"{made.kind} {made.verdict} {made.night}"
    what = f"incident {made.subject} {made.verdict}" if is_incident else f"{made.kind}: {made.verdict}"
    command = f"nightscore incidents show {made.subject}" if is_incident else f"nightscore decisions {made.pipeline}"
    title, body = f"Nightscore: {made.pipeline} {made.night}, {what}", f"{made.reason}\n{command}"
    return enqueue_alert(connection, made.pipeline, made.subject, occasion, title, body, now)


def deliver_alerts(workspace: Workspace) -> Delivery:
    """One round: everything that is due goes to each service that has not taken it yet, as one message a pipeline.

    Rounds may run at once: each alert is in one of them. Raises DatabaseUnavailable; a service that fails is logged by
    its place in the setting, never by its URL, and raises nothing.
    """
    now = workspace.clock.now()
    with workspace.engine.begin() as connection:
        due = claim_due_alerts(connection, now, now + LEASE)
    if not due:
        return Delivery()
    services, secrets, messages = find_services(workspace.settings), find_secrets(workspace), 0
    refused: dict[int, list[str]] = {one.alert_id: [] if services else [NO_SERVICE] for one in due}
    for pipeline, service in product(sorted({one.pipeline for one in due}), services):
        untold = [one for one in due if one.pipeline == pipeline and service.digest not in one.delivered]
        if untold and _tell(workspace, service, compose(pipeline, untold), untold, secrets):
            messages += 1
        else:
            for one in untold:
                refused[one.alert_id].append(service.place)
    return _settle(workspace, due, refused, messages)


def _tell(
    workspace: Workspace, service: Service, message: tuple[str, str], untold: Sequence[Alert], secrets: frozenset[str]
) -> bool:  # fmt: skip
    """Whether the service took the message; remembered at once, so that a killed round repeats next to nothing."""
    title, body = (hide(text, secrets) for text in message)
    if not service.tell(title, body):
        log = structlog.get_logger("nightscore")
        log.warning("alert_not_delivered", title=title, url=service.place, remedy=REMEDY)
        return False
    with workspace.engine.begin() as connection:
        mark_delivered(connection, [one.alert_id for one in untold], service.digest)
    return True


def compose(pipeline: str, alerts: Sequence[Alert]) -> tuple[str, str]:
    """Title and body of one message: a single alert as it is, several as one line each, oldest first."""
    if len(alerts) == 1:
        return alerts[0].title, alerts[0].body
    lines = [_cut("- " + ": ".join((one.title, "; ".join(one.body.splitlines()))), LINE_CHARACTERS) for one in alerts]
    shown = lines[: BODY_CHARACTERS // LINE_CHARACTERS]
    more = [f"… and {len(lines) - len(shown)} more: `nightscore decisions {pipeline}`"] if lines != shown else []
    return f"Nightscore: {len(alerts)} alerts of {pipeline}", "\n".join([*shown, *more])


def _settle(workspace: Workspace, due: Sequence[Alert], refused: dict[int, list[str]], messages: int) -> Delivery:
    """Each alert is sent, tried again later, or given up."""
    now = workspace.clock.now()
    waits = {one.alert_id: next(iter(BACK_OFF[one.attempts - 1 :]), None) for one in due if refused[one.alert_id]}
    with workspace.engine.begin() as connection:
        for one in due:
            if one.alert_id not in waits:
                mark_sent(connection, one.alert_id, now)
                continue
            wait = waits[one.alert_id]
            error = "; ".join(refused[one.alert_id])
            mark_failed(connection, one.alert_id, error, None if wait is None else now + wait)
    lost = [one for one in due if waits.get(one.alert_id, LEASE) is None]
    _warn([one for one in due if refused[one.alert_id] == [NO_SERVICE]], "alert_not_sent", NO_SERVICE)
    _warn(lost, "alert_given_up", f"not delivered in {len(BACK_OFF) + 1} attempts")
    return Delivery(len(due) - len(waits), len(waits) - len(lost), len(lost), messages)


def _warn(alerts: Sequence[Alert], event: str, reason: str) -> None:
    log = structlog.get_logger("nightscore")
    for one in alerts:
        log.warning(event, title=one.title, pipeline=one.pipeline, subject=one.subject, reason=reason)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"
