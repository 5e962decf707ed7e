"""What the watch was told, what it remembers, and what it said of each night's predictions.

Added here: queries on `watch_*` and `incident`. Not here: judging (`nightscore/monitoring`), figures over time
(`catalog/metrics.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import incident, watch_event, watch_signal, watch_state, watch_verdict

NIGHT = "night"
"""The kind of event that holds the evidence of a night."""


@dataclass(frozen=True)
class WatchVerdict:
    """Whether predictions of one content may be published; `evidence` is all that was measured."""

    pipeline: str
    score_date: date
    predictions_md5: str
    reference: str
    passed: bool
    reasons: Sequence[str]
    notes: Sequence[str]
    evidence: Mapping[str, Any]
    run_id: str
    at: datetime


@dataclass(frozen=True)
class WatchEvent:
    """One thing that the watch was told; `kind` night, accept, close or promoted."""

    event_id: int
    pipeline: str
    kind: str
    score_date: date
    body: Mapping[str, Any]


def lock_watch(connection: sa.Connection, pipeline: str) -> None:
    """Whoever moves the watch of a pipeline takes turns until the transaction ends."""
    connection.execute(sa.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"watch:{pipeline}"})


def record_watch_verdict(connection: sa.Connection, verdict: WatchVerdict) -> None:
    """Append a verdict; the newest on a content counts."""
    lists = {"reasons": list(verdict.reasons), "notes": list(verdict.notes), "evidence": dict(verdict.evidence)}
    connection.execute(watch_verdict.insert().values(vars(verdict) | lists))


def watch_verdict_on(connection: sa.Connection, pipeline: str, night: date, md5: str) -> WatchVerdict | None:
    """The newest verdict on this content of this night, or None when the watch has not seen it."""
    return _newest_verdict(connection, pipeline, night, watch_verdict.c.predictions_md5 == md5)


def newest_watch_verdict(connection: sa.Connection, pipeline: str, night: date) -> WatchVerdict | None:
    """The newest verdict on any content of a night, or None."""
    return _newest_verdict(connection, pipeline, night, sa.true())


def _newest_verdict(
    connection: sa.Connection, pipeline: str, night: date, condition: sa.ColumnElement[bool]
) -> WatchVerdict | None:
    columns = [column for column in watch_verdict.c if column.name != "verdict_id"]
    query = (
        sa.select(*columns)
        .where(watch_verdict.c.pipeline == pipeline, watch_verdict.c.score_date == night, condition)
        .order_by(watch_verdict.c.verdict_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else WatchVerdict(**row)


def append_watch_event(
    connection: sa.Connection, pipeline: str, kind: str, night: date, body: Mapping[str, Any],
    state: Mapping[str, Any], run_id: str, now: datetime,
) -> int:  # fmt: skip
    """Keep an event together with the state after it; returns the event's id."""
    values = {"pipeline": pipeline, "kind": kind, "score_date": night, "body": dict(body), "run_id": run_id, "at": now}
    row = watch_event.insert().values(values).returning(watch_event.c.event_id)
    event_id = int(connection.execute(row).scalar_one())
    after = {"event_id": event_id, "pipeline": pipeline, "score_date": night, "state": dict(state)}
    connection.execute(watch_state.insert().values(after))
    return event_id


def supersede_events(connection: sa.Connection, pipeline: str, since: int, by: int) -> None:
    """Events from `since` on no longer count; those from `by` on stand in their place."""
    old = sa.and_(
        watch_event.c.pipeline == pipeline, watch_event.c.event_id >= since, watch_event.c.event_id < by,
        watch_event.c.superseded_by.is_(None),
    )  # fmt: skip
    connection.execute(watch_event.update().where(old).values(superseded_by=by))


def newest_state(connection: sa.Connection, pipeline: str, before: int | None = None) -> Mapping[str, Any] | None:
    """The state after the newest event that counts, or after the newest one before event `before`; None at first."""
    query = (
        sa.select(watch_state.c.state)
        .join(watch_event, watch_event.c.event_id == watch_state.c.event_id)
        .where(watch_state.c.pipeline == pipeline, watch_event.c.superseded_by.is_(None))
        .order_by(watch_state.c.event_id.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(watch_state.c.event_id < before)
    found: Mapping[str, Any] | None = connection.scalar(query)
    return found


def nights_of_events(connection: sa.Connection, pipeline: str, kind: str) -> list[tuple[int, date]]:
    """Id and date of the events of one kind that count, in the order in which they were told."""
    query = (
        sa.select(watch_event.c.event_id, watch_event.c.score_date)
        .where(watch_event.c.pipeline == pipeline, watch_event.c.kind == kind, watch_event.c.superseded_by.is_(None))
        .order_by(watch_event.c.event_id)
    )
    return [(row.event_id, row.score_date) for row in connection.execute(query)]


def events_of_watch(connection: sa.Connection, pipeline: str, since: int = 0) -> list[WatchEvent]:
    """The events that count, from event `since` on, in the order in which they were told."""
    columns = [watch_event.c[name] for name in ("event_id", "pipeline", "kind", "score_date", "body")]
    query = (
        sa.select(*columns)
        .where(watch_event.c.pipeline == pipeline, watch_event.c.event_id >= since)
        .where(watch_event.c.superseded_by.is_(None))
        .order_by(watch_event.c.event_id)
    )
    return [WatchEvent(**row) for row in connection.execute(query).mappings()]


def replace_signals(
    connection: sa.Connection, pipeline: str, night: date, signals: Iterable[Mapping[str, Any]]
) -> None:
    """The figures of a night beside their thresholds, in place of those it had."""
    mine = sa.and_(watch_signal.c.pipeline == pipeline, watch_signal.c.score_date == night)
    connection.execute(watch_signal.delete().where(mine))
    rows = [dict(one) for one in signals]
    if rows:
        connection.execute(watch_signal.insert(), rows)


def signals_between(connection: sa.Connection, pipeline: str, first: date, last: date) -> list[Mapping[str, Any]]:
    """Every figure of the nights from `first` to `last`, by night, level and cause."""
    query = (
        sa.select(watch_signal)
        .where(watch_signal.c.pipeline == pipeline, watch_signal.c.score_date.between(first, last))
        .order_by(watch_signal.c.score_date, watch_signal.c.level, watch_signal.c.cause)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def replace_incidents(connection: sa.Connection, pipeline: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The incidents of a pipeline as the newest state has them; those that it does not know any more are gone."""
    kept = [row["incident_id"] for row in rows]
    gone = sa.and_(incident.c.pipeline == pipeline, incident.c.incident_id.not_in(kept))
    connection.execute(incident.delete().where(gone))
    for row in rows:
        statement = insert(incident).values(**row)
        update = {name: statement.excluded[name] for name in row}
        connection.execute(statement.on_conflict_do_update(index_elements=["pipeline", "incident_id"], set_=update))


def open_faults(connection: sa.Connection, pipeline: str, night: date) -> list[str]:
    """The open incidents of L1 that showed on `night` or later, by id: people have heard of them."""
    found = list_incidents(connection, pipeline, "open")
    return [str(one["incident_id"]) for one in found if one["level"] == "L1" and one["last_seen"] >= night]


def list_incidents(
    connection: sa.Connection, pipeline: str | None = None, status: str | None = None
) -> list[Mapping[str, Any]]:
    """Incidents of one pipeline or of all, the newest first."""
    query = sa.select(incident).order_by(incident.c.opened.desc(), incident.c.incident_id)
    if pipeline is not None:
        query = query.where(incident.c.pipeline == pipeline)
    if status is not None:
        query = query.where(incident.c.status == status)
    return [dict(row) for row in connection.execute(query).mappings()]
