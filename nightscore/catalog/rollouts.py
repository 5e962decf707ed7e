"""Rollouts: the way of a challenger to the champion's place; at most one runs a pipeline.

Added here: queries on `rollout` and `rollout_event`. Not here: when a step is taken (`nightscore/registry/rollout.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.tables import rollout, rollout_event

RUNNING = "running"


@dataclass(frozen=True)
class Rollout:
    """One rollout: `percent` of entities have been scored by `version` since the night `step_from`.

    `kind`: shadow, canary or ab; `status`: running, completed, rolled_back or stopped. `entity`: the key columns that
    keep a row in its arm, together with `salt`.
    """

    rollout_id: int
    pipeline: str
    kind: str
    version: int
    base_version: int
    salt: str
    entity: tuple[str, ...]
    percent: float
    step_from: date
    status: str
    opened_by: str
    opened_at: datetime


def insert_rollout(connection: sa.Connection, values: Mapping[str, Any]) -> Rollout:
    """Open a rollout; the database refuses a second one that runs in a pipeline."""
    row = connection.execute(rollout.insert().values(**values).returning(rollout)).mappings().one()
    return _read(row)


def running_rollout(connection: sa.Connection, pipeline: str, lock: bool = False) -> Rollout | None:
    """The rollout that runs in a pipeline, or None; `lock` keeps others from changing it until the transaction ends."""
    query = sa.select(rollout).where(rollout.c.pipeline == pipeline, rollout.c.status == RUNNING)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else _read(row)


def list_rollouts(connection: sa.Connection, pipeline: str | None = None) -> list[Rollout]:
    """Every rollout, newest first, of one pipeline or of all."""
    query = sa.select(rollout).order_by(rollout.c.rollout_id.desc())
    if pipeline is not None:
        query = query.where(rollout.c.pipeline == pipeline)
    return [_read(row) for row in connection.execute(query).mappings()]


def change_rollout(connection: sa.Connection, rollout_id: int, **values: object) -> None:
    """Set columns of a rollout; what became of it is kept by `append_rollout_event`."""
    connection.execute(rollout.update().where(rollout.c.rollout_id == rollout_id).values(**values))


def append_rollout_event(
    connection: sa.Connection, one: Rollout, event: str, night: date, actor: str, reason: str,
    evidence: Mapping[str, Any], now: datetime,
) -> None:  # fmt: skip
    """Append an event: opened, advanced, kept, completed, rolled_back or stopped, with the share it leaves behind."""
    values = {
        "rollout_id": one.rollout_id, "event": event, "percent": one.percent, "score_date": night, "actor": actor,
        "reason": reason, "evidence": dict(evidence), "at": now,
    }  # fmt: skip
    connection.execute(rollout_event.insert().values(values))


def events_of_rollout(connection: sa.Connection, rollout_id: int) -> list[dict[str, Any]]:
    """Everything that became of a rollout, oldest first."""
    query = sa.select(rollout_event).where(rollout_event.c.rollout_id == rollout_id)
    return [dict(row) for row in connection.execute(query.order_by(rollout_event.c.event_id)).mappings()]


def _read(row: sa.RowMapping) -> Rollout:
    return Rollout(**{**row, "entity": tuple(row["entity"])})
