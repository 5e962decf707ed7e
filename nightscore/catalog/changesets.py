"""Changesets: publications staged for a range of nights, what they differ from, and what was decided of them.

Added here: queries on `changeset_*`. Not here: staging or moving pointers (`nightscore/publishing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.tables import changeset, changeset_event, changeset_item, receipt

Status = Literal["staging", "staged", "approved", "undone", "discarded"]
ItemOutcome = Literal["planned", "scored", "staged", "identical", "blocked"]
DONE: frozenset[str] = frozenset({"staged", "identical", "blocked"})
"""Outcomes of nights that need no more work."""


@dataclass(frozen=True)
class Changeset:
    """One review: `kind` is backfill or restatement; `model_policy` says which version scores each night."""

    changeset_id: int
    pipeline: str
    kind: str
    first_date: date
    last_date: date
    model_policy: str
    scope: str
    reason: str
    status: Status
    created_by: str
    created_at: datetime

    @property
    def title(self) -> str:
        """How people speak of it."""
        return f"changeset {self.changeset_id} of {self.pipeline}, {self.first_date} to {self.last_date}"


@dataclass(frozen=True)
class Item:
    """One night of a changeset; `base_publication_id` is what readers saw when it was planned, None for nothing."""

    changeset_id: int
    score_date: date
    base_publication_id: int | None
    model_version: int
    outcome: ItemOutcome
    reason: str
    predictions_id: int | None
    receipt_id: int | None
    publication_id: int | None
    rows: int
    seconds: float
    difference: Mapping[str, Any] | None
    run_id: str
    at: datetime


def insert_changeset(
    connection: sa.Connection, values: Mapping[str, Any], versions: Mapping[date, int],
    bases: Mapping[date, int | None],
) -> Changeset:  # fmt: skip
    """Open a changeset with a planned item for every night of `versions` (night → model version)."""
    row = (
        connection.execute(changeset.insert().values(**values, status="staging").returning(changeset)).mappings().one()
    )
    opened = Changeset(**row)
    planned = {"outcome": "planned", "reason": "", "rows": 0, "seconds": 0.0, "run_id": "", "at": opened.created_at}
    items = [
        {"changeset_id": opened.changeset_id, "score_date": night, "model_version": version,
         "base_publication_id": bases.get(night), **planned}
        for night, version in versions.items()
    ]  # fmt: skip
    connection.execute(changeset_item.insert(), items)
    record_event(connection, opened.changeset_id, "created", opened.created_by, opened.reason, opened.created_at)
    return opened


def record_event(
    connection: sa.Connection, changeset_id: int, event: str, actor: str, reason: str, now: datetime
) -> None:
    """Append to a changeset's history."""
    values = {"changeset_id": changeset_id, "event": event, "actor": actor, "reason": reason, "at": now}
    connection.execute(changeset_event.insert().values(values))


def set_status(connection: sa.Connection, changeset_id: int, status: Status) -> None:
    """Where a changeset stands; the caller records the event."""
    connection.execute(changeset.update().where(changeset.c.changeset_id == changeset_id).values(status=status))


def find_changeset(connection: sa.Connection, changeset_id: int, lock: bool = False) -> Changeset | None:
    """One changeset, locked against other decisions until the transaction ends where `lock` is set; or None."""
    query = sa.select(changeset).where(changeset.c.changeset_id == changeset_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None else Changeset(**row)


def list_changesets(connection: sa.Connection, pipeline: str | None = None) -> list[Changeset]:
    """Newest first, of one pipeline or of all."""
    query = sa.select(changeset).order_by(changeset.c.changeset_id.desc())
    if pipeline is not None:
        query = query.where(changeset.c.pipeline == pipeline)
    return [Changeset(**row) for row in connection.execute(query).mappings()]


def items_of(
    connection: sa.Connection, changeset_id: int, nights: Sequence[date] | None = None, differences: bool = True
) -> list[Item]:
    """The nights of a changeset in order, all or some; `difference` is read, or None, since it is most of the bytes."""
    shown = [column for column in changeset_item.c if differences or column.name != "difference"]
    query = sa.select(*shown).where(changeset_item.c.changeset_id == changeset_id)
    if nights is not None:
        query = query.where(changeset_item.c.score_date.in_(list(nights)))
    rows = connection.execute(query.order_by(changeset_item.c.score_date)).mappings()
    return [Item(**{"difference": None, **row}) for row in rows]


def is_staged(connection: sa.Connection, pipeline: str, night: date, fingerprint: str) -> bool:
    """Whether an open changeset holds this very result of a night already."""
    query = (
        sa.select(changeset_item.c.changeset_id)
        .join(changeset, changeset.c.changeset_id == changeset_item.c.changeset_id)
        .join(receipt, receipt.c.receipt_id == changeset_item.c.receipt_id)
        .where(changeset.c.pipeline == pipeline, changeset.c.status.in_(["staging", "staged"]))
        .where(changeset_item.c.score_date == night, receipt.c.fingerprint == fingerprint)
    )
    return connection.execute(query.limit(1)).first() is not None


def items_of_run(connection: sa.Connection, pipeline: str, run_ids: Sequence[str]) -> list[Item]:
    """The nights of open changesets that these runs have scored, in order."""
    query = (
        sa.select(changeset_item)
        .join(changeset, changeset.c.changeset_id == changeset_item.c.changeset_id)
        .where(changeset.c.pipeline == pipeline, changeset.c.status.in_(["staging", "staged"]))
        .where(changeset_item.c.run_id.in_(list(run_ids)))
    )
    rows = connection.execute(query.order_by(changeset_item.c.score_date)).mappings()
    return [Item(**row) for row in rows]


def update_item(connection: sa.Connection, changeset_id: int, night: date, values: Mapping[str, Any]) -> None:
    """Change what is known of one night."""
    is_item = sa.and_(changeset_item.c.changeset_id == changeset_id, changeset_item.c.score_date == night)
    connection.execute(changeset_item.update().where(is_item).values(**values))


def events_of(connection: sa.Connection, changeset_id: int) -> list[dict[str, Any]]:
    """The history of a changeset: event, actor, reason, at."""
    query = sa.select(changeset_event).where(changeset_event.c.changeset_id == changeset_id)
    return [dict(row) for row in connection.execute(query.order_by(changeset_event.c.event_id)).mappings()]
