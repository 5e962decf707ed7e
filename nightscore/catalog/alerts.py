"""The outbox of alerts: what people are to be told, each once, and how far telling them has come.

Added here: queries on `alert`. Not here: wording and delivery (`nightscore/monitoring/alerts.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import alert

Status = Literal["pending", "sent", "given_up"]


@dataclass(frozen=True)
class Alert:
    """One message; `attempts` counts rounds that have begun.

    `delivered` holds the digests of the services that took it. While it is pending, `next_try_at` says when it is due.
    """

    alert_id: int
    pipeline: str
    subject: str
    occasion: str
    title: str
    body: str
    status: Status
    attempts: int
    last_error: str | None
    delivered: tuple[str, ...]
    created_at: datetime
    next_try_at: datetime
    sent_at: datetime | None


def insert_alert(connection: sa.Connection, values: Mapping[str, Any], now: datetime) -> bool:
    """Put a message into the outbox, due at once; False when its pipeline, subject and occasion are in it already."""
    state = {"status": "pending", "attempts": 0, "delivered": [], "created_at": now, "next_try_at": now}
    query = insert(alert).values({**values, **state}).on_conflict_do_nothing(constraint="alert_once")
    return connection.execute(query.returning(alert.c.alert_id)).first() is not None


def claim_due_alerts(connection: sa.Connection, now: datetime, until: datetime) -> list[Alert]:
    """The pending messages that are due, oldest first, as the caller's until `until`: nobody else gets them before."""
    due = (
        sa.select(alert.c.alert_id)
        .where(alert.c.status == "pending", alert.c.next_try_at <= now)
        .with_for_update(skip_locked=True)
    )
    query = alert.update().where(alert.c.alert_id.in_(due.scalar_subquery()))
    taken = query.values(attempts=alert.c.attempts + 1, next_try_at=until).returning(alert)
    return sorted((_read(row) for row in connection.execute(taken).mappings()), key=lambda one: one.alert_id)


def mark_delivered(connection: sa.Connection, alert_ids: Iterable[int], service: str) -> None:
    """Add the digest of a service that took the messages."""
    taken = alert.c.delivered.concat(sa.cast([service], alert.c.delivered.type))
    connection.execute(alert.update().where(alert.c.alert_id.in_(list(alert_ids))).values(delivered=taken))


def mark_sent(connection: sa.Connection, alert_id: int, now: datetime) -> None:
    """Every service has taken the message."""
    _mark(connection, alert_id, status="sent", last_error=None, sent_at=now)


def mark_failed(connection: sa.Connection, alert_id: int, error: str, next_try_at: datetime | None) -> None:
    """Some service did not take the message: another try at `next_try_at`, or given up without one."""
    again: dict[str, object] = {"status": "given_up"} if next_try_at is None else {"next_try_at": next_try_at}
    _mark(connection, alert_id, last_error=error, **again)


def list_alerts(
    connection: sa.Connection, pipeline: str | None = None, status: Status | None = None, limit: int = 100
) -> list[Alert]:
    """The newest messages first, of one pipeline or of all, of one status or of any."""
    query = sa.select(alert).order_by(alert.c.alert_id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(alert.c.pipeline == pipeline)
    if status is not None:
        query = query.where(alert.c.status == status)
    return [_read(row) for row in connection.execute(query).mappings()]


def _mark(connection: sa.Connection, alert_id: int, **values: object) -> None:
    connection.execute(alert.update().where(alert.c.alert_id == alert_id).values(**values))


def _read(row: sa.RowMapping) -> Alert:
    return Alert(**{**row, "delivered": tuple(row["delivered"])})
