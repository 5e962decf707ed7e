"""Receipts and publications: what made a night's predictions, and which revision readers see.

Added here: queries on `receipt` and `publication_*`. Not here: the mart's tables (`nightscore/publishing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from nightscore.catalog.tables import publication, publication_current, publication_event, receipt


@dataclass(frozen=True)
class Receipt:
    """What made one predictions partition: input versions, model, spec, code, environment, counts, hashes."""

    receipt_id: int
    pipeline: str
    score_date: date
    predictions_id: int
    model_version: int
    fingerprint: str
    body: Mapping[str, Any]
    run_id: str
    made_at: datetime
    snapshot_md5: str | None


@dataclass(frozen=True)
class Publication:
    """One revision of one score date in the mart."""

    publication_id: int
    pipeline: str
    score_date: date
    revision: int
    receipt_id: int
    model_version: int
    rows: int
    content_md5: str
    kind: str
    run_id: str
    published_at: datetime


def record_receipt(connection: sa.Connection, values: Mapping[str, Any]) -> int:
    """Append a receipt unless the same one is there; returns its id."""
    row = insert(receipt).values(**values).on_conflict_do_nothing().returning(receipt.c.receipt_id)
    made = connection.scalar(row)
    if made is not None:
        return int(made)
    standing = find_receipt(connection, values["pipeline"], values["score_date"], values["fingerprint"])
    assert standing is not None
    return standing.receipt_id


def find_receipt(connection: sa.Connection, pipeline: str, night: date, fingerprint: str) -> Receipt | None:
    """The receipt of one night's predictions under one fingerprint, or None."""
    query = sa.select(receipt).where(
        receipt.c.pipeline == pipeline, receipt.c.score_date == night, receipt.c.fingerprint == fingerprint
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Receipt(**row)


def receipt_by_id(connection: sa.Connection, receipt_id: int) -> Receipt:
    """The receipt that a publication names."""
    row = connection.execute(sa.select(receipt).where(receipt.c.receipt_id == receipt_id)).mappings().one()
    return Receipt(**row)


def snapshots_of_receipts(connection: sa.Connection, pipeline: str) -> dict[int, str | None]:
    """The snapshot of every receipt of a pipeline; None where it was made before inputs were pinned."""
    query = sa.select(receipt.c.receipt_id, receipt.c.snapshot_md5).where(receipt.c.pipeline == pipeline)
    return {row.receipt_id: row.snapshot_md5 for row in connection.execute(query)}


def require_receipt(connection: sa.Connection, pipeline: str, night: date, fingerprint: str) -> Receipt:
    """The receipt of a night's current predictions; committed together with them, so it is there."""
    found = find_receipt(connection, pipeline, night, fingerprint)
    assert found is not None
    return found


def current_publications(connection: sa.Connection, pipeline: str, first: date, last: date) -> dict[date, Publication]:
    """The publications that readers see now, by score date."""
    query = (
        sa.select(publication)
        .join(publication_current, publication_current.c.publication_id == publication.c.publication_id)
        .where(publication.c.pipeline == pipeline, publication.c.score_date.between(first, last))
        .order_by(publication.c.score_date)
    )
    return {row["score_date"]: Publication(**row) for row in connection.execute(query).mappings()}


def publication_by_id(connection: sa.Connection, publication_id: int) -> Publication:
    """One publication that something names."""
    query = sa.select(publication).where(publication.c.publication_id == publication_id)
    return Publication(**connection.execute(query).mappings().one())


def publications_of_night(connection: sa.Connection, pipeline: str, night: date) -> list[Publication]:
    """Every revision of a night that was ever published, oldest first."""
    query = sa.select(publication).where(publication.c.pipeline == pipeline, publication.c.score_date == night)
    rows = connection.execute(query.order_by(publication.c.revision)).mappings()
    return [Publication(**row) for row in rows]


def seen_publication(connection: sa.Connection, receipt_id: int) -> Publication | None:
    """The newest publication of a receipt that readers ever saw, or None."""
    query = (
        sa.select(publication)
        .join(publication_event, publication_event.c.publication_id == publication.c.publication_id)
        .where(publication.c.receipt_id == receipt_id)
        .order_by(publication_event.c.event_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Publication(**row)


def list_publications(connection: sa.Connection, pipeline: str) -> list[Publication]:
    """Every revision of every night that was ever published, in the order of their publication."""
    query = sa.select(publication).where(publication.c.pipeline == pipeline).order_by(publication.c.publication_id)
    return [Publication(**row) for row in connection.execute(query).mappings()]


def publications_before(connection: sa.Connection, pipeline: str, nights: int) -> dict[date, tuple[int, int | None]]:
    """Of the last published nights, the publication that readers see and the one they saw before it, if any."""
    newest = (
        sa.select(publication_event.c.score_date, publication_event.c.publication_id, publication_event.c.replaced_id)
        .ext(distinct_on(publication_event.c.score_date))
        .where(publication_event.c.pipeline == pipeline)
        .order_by(publication_event.c.score_date.desc(), publication_event.c.event_id.desc())
        .limit(nights)
    )
    rows = [row for row in connection.execute(newest) if row.publication_id is not None]
    return {row.score_date: (row.publication_id, row.replaced_id) for row in reversed(rows)}


def publication_as_of(connection: sa.Connection, pipeline: str, night: date, at: datetime) -> int | None:
    """The id of the publication that readers saw at the instant `at`, or None."""
    query = (
        sa.select(publication_event.c.publication_id)
        .where(publication_event.c.pipeline == pipeline, publication_event.c.score_date == night)
        .where(publication_event.c.moved_at <= at)
        .order_by(publication_event.c.moved_at.desc(), publication_event.c.event_id.desc())
        .limit(1)
    )
    return connection.scalar(query)


def latest_publication(connection: sa.Connection, pipeline: str) -> Publication | None:
    """The current publication of the latest published score date, or None."""
    query = (
        sa.select(publication)
        .join(publication_current, publication_current.c.publication_id == publication.c.publication_id)
        .where(publication.c.pipeline == pipeline)
        .order_by(publication.c.score_date.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Publication(**row)


def lock_night(connection: sa.Connection, pipeline: str, night: date) -> None:
    """Publishers of one night take turns until the transaction ends, so revisions never collide."""
    name = f"publication:{pipeline}:{night}"
    connection.execute(sa.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


def insert_publication(connection: sa.Connection, values: Mapping[str, Any]) -> Publication:
    """Append the next revision of a night that the caller has locked; it is not readable until its pointer moves."""
    newest = sa.select(sa.func.coalesce(sa.func.max(publication.c.revision), 0) + 1).where(
        publication.c.pipeline == values["pipeline"], publication.c.score_date == values["score_date"]
    )
    row = publication.insert().values(**values, revision=newest.scalar_subquery()).returning(publication)
    return Publication(**connection.execute(row).mappings().one())


def move_publication(connection: sa.Connection, made: Publication, actor: str, reason: str, now: datetime) -> None:
    """Point readers of a night at `made`, and remember what it replaced."""
    is_night = sa.and_(
        publication_current.c.pipeline == made.pipeline, publication_current.c.score_date == made.score_date
    )
    replaced = connection.scalar(sa.select(publication_current.c.publication_id).where(is_night))
    pointer = insert(publication_current).values(
        pipeline=made.pipeline, score_date=made.score_date, publication_id=made.publication_id, moved_at=now
    )
    moved = {"publication_id": made.publication_id, "moved_at": now}
    connection.execute(pointer.on_conflict_do_update(index_elements=["pipeline", "score_date"], set_=moved))
    event = {
        "pipeline": made.pipeline, "score_date": made.score_date, "publication_id": made.publication_id,
        "replaced_id": replaced, "actor": actor, "reason": reason, "moved_at": now,
    }  # fmt: skip
    connection.execute(publication_event.insert().values(event))
