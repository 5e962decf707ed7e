"""What became of each night, and where its time went.

Added here: queries on `night_event` and `step_time`. Not here: publications (`catalog/publications.py`).
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from nightscore.catalog.tables import night_event, step_time
from nightscore.spec.windows import nights_between

Status = Literal["published", "gated", "failed", "prepared"]


def record_night(
    connection: sa.Connection, pipeline: str, night: date, status: Status, reason: str, run_id: str, now: datetime
) -> None:
    """Append what became of a night; a repetition of the newest status and reason adds nothing."""
    newest = (
        sa.select(night_event.c.status, night_event.c.reason)
        .where(night_event.c.pipeline == pipeline, night_event.c.score_date == night)
        .order_by(night_event.c.event_id.desc())
        .limit(1)
    )
    if connection.execute(newest).first() == (status, reason):
        return
    values = {"pipeline": pipeline, "score_date": night, "status": status, "reason": reason, "run_id": run_id}
    connection.execute(night_event.insert().values(values | {"at": now}))


@dataclass(frozen=True)
class StepTime:
    """One step of one run: the nights it covered and what they cost."""

    pipeline: str
    step: str
    first_date: date
    last_date: date
    made: int
    reused: int
    blocked: int
    rows: int
    seconds: float
    run_id: str
    finished_at: datetime


def record_step(connection: sa.Connection, step: StepTime) -> None:
    """Append a step's cost."""
    connection.execute(step_time.insert().values(vars(step)))


def steps_of_run(connection: sa.Connection, run_id: str) -> list[StepTime]:
    """The steps of a run in the order they finished."""
    columns = [column for column in step_time.c if column.name != "step_id"]
    query = sa.select(*columns).where(step_time.c.run_id == run_id).order_by(step_time.c.step_id)
    return [StepTime(**row) for row in connection.execute(query).mappings()]


def record_unexplained_failure(
    engine: sa.Engine, pipeline: str, nights: tuple[date, date], run_id: str, message: str, now: datetime
) -> None:
    """Mark the nights of a dead run as failed, from first to last, unless the run recorded them itself."""
    said = sa.select(night_event.c.score_date).where(night_event.c.pipeline == pipeline, night_event.c.run_id == run_id)
    with engine.begin() as connection:
        explained: set[date] = set(connection.scalars(said))
        for night in nights_between(*nights):
            if night not in explained:
                record_night(connection, pipeline, night, "failed", f"the run died: {message}", run_id, now)


@dataclass(frozen=True)
class NightStatus:
    """What last became of a night."""

    score_date: date
    status: str
    reason: str
    run_id: str
    at: datetime


def night_status(connection: sa.Connection, pipeline: str, night: date) -> NightStatus | None:
    """The newest status of one night, or None when nothing was recorded."""
    return next(iter(recent_nights(connection, pipeline, night, night)), None)


def recent_nights(connection: sa.Connection, pipeline: str, first: date, last: date) -> list[NightStatus]:
    """The newest status of each recorded night from `first` to `last`, latest night first."""
    query = (
        sa.select(*(night_event.c[name] for name in ("score_date", "status", "reason", "run_id", "at")))
        .ext(distinct_on(night_event.c.score_date))
        .where(night_event.c.pipeline == pipeline, night_event.c.score_date.between(first, last))
        .order_by(night_event.c.score_date.desc(), night_event.c.event_id.desc())
    )
    return [NightStatus(**row) for row in connection.execute(query).mappings()]


def first_recorded_at(connection: sa.Connection, pipeline: str) -> datetime | None:
    """When the first night of a pipeline was recorded, or None while there is none."""
    found: datetime | None = connection.scalar(
        sa.select(sa.func.min(night_event.c.at)).where(night_event.c.pipeline == pipeline)
    )
    return found
