"""When labels came: feedback that people gave to rows, and the nights on which label partitions were filled.

Added here: a query about the arrival of labels. Not here: joining them with predictions (`nightscore/monitoring`).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.tables import feedback, partition_version, publication


@dataclass(frozen=True)
class FeedbackLabel:
    """One label that a person gave to one row; `key` is the entity key by column."""

    feedback_id: int
    score_date: date
    key: Mapping[str, Any]
    label: float


def feedback_labels(
    connection: sa.Connection, pipeline: str, first: date, last: date, until: datetime | None = None
) -> list[FeedbackLabel]:
    """The labels given to rows of the score dates from `first` to `last`, by the instant `until`; oldest first."""
    columns = [feedback.c[name] for name in FeedbackLabel.__dataclass_fields__]
    query = (
        sa.select(*columns)
        .where(feedback.c.pipeline == pipeline, feedback.c.score_date.between(first, last))
        .where(feedback.c.label.is_not(None))
        .order_by(feedback.c.feedback_id)
    )
    if until is not None:
        query = query.where(feedback.c.at <= until)
    return [FeedbackLabel(**row) for row in connection.execute(query).mappings()]


def end_of_night(connection: sa.Connection, pipeline: str, night: date) -> datetime | None:
    """When a later night was first published: what came after was not known on `night`. None for the newest one."""
    query = sa.select(sa.func.min(publication.c.published_at)).where(
        publication.c.pipeline == pipeline, publication.c.score_date > night
    )
    found: datetime | None = connection.scalar(query)
    return found


@dataclass(frozen=True)
class Delivery:
    """When a partition was first made, and when it first had rows enough: later where a correction brought them."""

    night: date
    made: datetime
    filled: datetime | None


def deliveries(connection: sa.Connection, dataset: str, enough: Mapping[date, int]) -> list[Delivery]:
    """Every partition that `dataset` ever had, by night; `enough`: the rows that fill it, 1 where unsaid."""
    version = partition_version.c
    query = (
        sa.select(version.score_date, version.created_at, version.rows)
        .where(version.dataset == dataset)
        .order_by(version.score_date, version.version_id)
    )
    found = []
    for night, versions in itertools.groupby(connection.execute(query), key=lambda row: row.score_date):
        made = [(row.created_at, row.rows) for row in versions]
        filled = (at for at, rows in made if rows >= max(enough.get(night, 1), 1))
        found.append(Delivery(night, made[0][0], next(filled, None)))
    return found
