"""Rows that people are asked to look at, and what people said of rows.

Added here: queries on `review_item` and `feedback`. Not here: which rows are chosen (`monitoring/review_queue.py`), or
files of feedback (`monitoring/feedback.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from nightscore.catalog.tables import feedback, publication_current, review_item

Key = Mapping[str, Any]
"""The key columns of a published row, as JSON."""


@dataclass(frozen=True)
class ReviewItem:
    """A row of one publication that somebody should look at; `why`: every reason, in words."""

    pipeline: str
    score_date: date
    key: Key
    publication_id: int
    score: float | None
    why: Sequence[str]


@dataclass(frozen=True)
class Feedback:
    """What `reviewer` says of a row: `verdict` agree, disagree or unsure, and the label where it is known.

    `source` names the file it came in and the SHA-256 of its bytes.
    """

    pipeline: str
    score_date: date
    key: Key
    verdict: str
    label: float | None
    note: str
    reviewer: str
    source: str


def lock_reviews(connection: sa.Connection, pipeline: str) -> None:
    """Whoever writes items or feedback of a pipeline takes turns until the transaction ends."""
    connection.execute(sa.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"reviews:{pipeline}"})


def replace_items(
    connection: sa.Connection, pipeline: str, night: date, items: Sequence[ReviewItem], now: datetime
) -> None:
    """Make `items` the night's queue: answered ones stay as they are, others go unless they are among `items`.

    An item that is there already, the same in all, keeps the instant it was queued at.
    """
    mine = sa.and_(review_item.c.pipeline == pipeline, review_item.c.score_date == night, _is_open())
    rows = [vars(one) | {"key": dict(one.key), "why": list(one.why)} for one in items]
    found = connection.execute(sa.select(*_columns(review_item, ReviewItem)).where(mine)).mappings()
    gone = [sa.cast(row["key"], review_item.c.key.type) for row in map(dict, found) if row not in rows]
    if gone:
        connection.execute(review_item.delete().where(mine, review_item.c.key.in_(gone)))
    if rows:
        connection.execute(insert(review_item).on_conflict_do_nothing(), [row | {"queued_at": now} for row in rows])


def open_items(connection: sa.Connection, pipeline: str, night: date | None = None) -> list[ReviewItem]:
    """Items of published nights that nobody has answered since they were queued, by night and key."""
    query = (
        sa.select(*_columns(review_item, ReviewItem))
        .join(publication_current, sa.and_(publication_current.c.pipeline == review_item.c.pipeline,
                                           publication_current.c.score_date == review_item.c.score_date))
        .where(review_item.c.pipeline == pipeline, _is_open())
        .order_by(review_item.c.score_date, review_item.c.key)
    )  # fmt: skip
    if night is not None:
        query = query.where(review_item.c.score_date == night)
    return [ReviewItem(**row) for row in connection.execute(query).mappings()]


def insert_feedback(connection: sa.Connection, entries: Iterable[Feedback], now: datetime) -> None:
    """Append feedback; what was said before of the same row stays, and no longer counts."""
    rows = [vars(one) | {"key": dict(one.key), "at": now} for one in entries]
    if rows:
        connection.execute(feedback.insert(), rows)


def has_source(connection: sa.Connection, pipeline: str, ending: str) -> bool:
    """Whether any feedback came from a source whose name ends so."""
    query = sa.select(feedback.c.feedback_id).where(feedback.c.pipeline == pipeline)
    return (
        connection.execute(query.where(feedback.c.source.endswith(ending, autoescape=True)).limit(1)).first()
        is not None
    )


def newest_feedback(connection: sa.Connection, pipeline: str, first: date, last: date) -> list[Feedback]:
    """What counts of each row of the score dates from `first` to `last`, by night and key."""
    row = (feedback.c.score_date, feedback.c.key)
    query = (
        sa.select(*_columns(feedback, Feedback))
        .ext(distinct_on(*row))
        .where(feedback.c.pipeline == pipeline, feedback.c.score_date.between(first, last))
        .order_by(*row, feedback.c.feedback_id.desc())
    )
    return [Feedback(**one) for one in connection.execute(query).mappings()]


def _is_open() -> sa.ColumnElement[bool]:
    """No feedback on the row since it was queued."""
    answered = sa.exists().where(
        feedback.c.pipeline == review_item.c.pipeline, feedback.c.score_date == review_item.c.score_date,
        feedback.c.key == review_item.c.key, feedback.c.at >= review_item.c.queued_at,
    )  # fmt: skip
    return ~answered


def _columns(table: sa.Table, of: type[ReviewItem | Feedback]) -> list[sa.Column[Any]]:
    return [table.c[name] for name in of.__dataclass_fields__]
