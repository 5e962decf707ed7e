"""Partition pointers: which version of a partition is current, was current, and how it moves.

Added here: queries on `partition_*`. Not here: objects and their bytes (`nightscore/lake`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from nightscore.catalog.tables import partition_current, partition_event, partition_version
from nightscore.errors import PartitionConflict


@dataclass(frozen=True)
class PartitionVersion:
    """One immutable content of (dataset, score date); `fingerprint` is the last recipe known to give it."""

    version_id: int
    dataset: str
    score_date: date
    md5: str
    rows: int
    bytes: int
    fingerprint: str
    inputs: tuple[int, ...]
    run_id: str
    created_at: datetime
    content_sha256: str | None
    origin: Sequence[str] | None


@dataclass(frozen=True)
class Candidate:
    """A partition to be committed.

    `replaces`: the version its maker saw, None for none. `origin`: what a source read, a line each.
    """

    dataset: str
    score_date: date
    md5: str
    rows: int
    bytes: int
    fingerprint: str
    replaces: int | None
    inputs: tuple[int, ...] = ()
    content_sha256: str | None = None
    origin: tuple[str, ...] = ()


_COLUMNS = (
    partition_version.c.version_id, partition_version.c.dataset, partition_version.c.score_date,
    partition_version.c.md5, partition_version.c.rows, partition_version.c.bytes,
    partition_version.c.inputs, partition_version.c.run_id, partition_version.c.created_at,
    partition_version.c.content_sha256, partition_version.c.origin,
)  # fmt: skip


def _version(row: sa.RowMapping, fingerprint: str) -> PartitionVersion:
    values = {column.name: row[column.name] for column in _COLUMNS}
    return PartitionVersion(**{**values, "inputs": tuple(row["inputs"]), "fingerprint": fingerprint})


def current_partitions(
    connection: sa.Connection, dataset: str, first: date, last: date
) -> dict[date, PartitionVersion]:
    """The current versions of `dataset` from `first` to `last`, inclusive, by score date."""
    query = (
        sa.select(*_COLUMNS, partition_current.c.fingerprint)
        .join(partition_current, partition_current.c.version_id == partition_version.c.version_id)
        .where(partition_current.c.dataset == dataset, partition_current.c.score_date.between(first, last))
        .order_by(partition_current.c.score_date)
    )
    return {row["score_date"]: _version(row, row["fingerprint"]) for row in connection.execute(query).mappings()}


def partitions_as_of(
    connection: sa.Connection, dataset: str, first: date, last: date, at: datetime
) -> dict[date, PartitionVersion]:
    """The versions that were current at the instant `at`."""
    event = partition_event
    latest = (
        sa.select(event.c.version_id)
        .ext(distinct_on(event.c.score_date))
        .where(event.c.dataset == dataset, event.c.score_date.between(first, last), event.c.moved_at <= at)
        .order_by(event.c.score_date, event.c.moved_at.desc(), event.c.event_id.desc())
        .subquery()
    )
    query = (
        sa.select(*_COLUMNS, partition_version.c.fingerprint)
        .join(latest, latest.c.version_id == partition_version.c.version_id)
        .order_by(partition_version.c.score_date)
    )
    return {row["score_date"]: _version(row, row["fingerprint"]) for row in connection.execute(query).mappings()}


def partition_history(connection: sa.Connection, dataset: str, night: date) -> list[PartitionVersion]:
    """Every version that was ever current for one partition, oldest first."""
    query = (
        sa.select(*_COLUMNS, partition_version.c.fingerprint)
        .join(partition_event, partition_event.c.version_id == partition_version.c.version_id)
        .where(partition_event.c.dataset == dataset, partition_event.c.score_date == night)
        .order_by(partition_event.c.event_id)
    )
    return [_version(row, row["fingerprint"]) for row in connection.execute(query).mappings()]


def versions_by_id(connection: sa.Connection, ids: Sequence[int]) -> list[PartitionVersion]:
    """These versions, by dataset and score date."""
    query = (
        sa.select(*_COLUMNS, partition_version.c.fingerprint)
        .where(partition_version.c.version_id.in_(list(ids)))
        .order_by(partition_version.c.dataset, partition_version.c.score_date)
    )
    return [_version(row, row["fingerprint"]) for row in connection.execute(query).mappings()]


def commit_partitions(
    connection: sa.Connection, candidates: Sequence[Candidate], run_id: str, now: datetime
) -> dict[tuple[str, date], int]:
    """Move the pointers of all candidates, compare-and-swap each; the caller's transaction makes it all or nothing.

    Content that is current already gets no new version. Returns version ids by (dataset, score date).
    Raises PartitionConflict when another writer moved a pointer that `replaces` names.
    """
    return {
        (one.dataset, one.score_date): _commit_one(connection, one, run_id, now)
        for one in sorted(candidates, key=lambda one: (one.dataset, one.score_date))
    }


def stage_partition(connection: sa.Connection, candidate: Candidate, run_id: str, now: datetime) -> int:
    """The id of a version with this content that no pointer leads to yet; one that is there already serves."""
    same = sa.and_(
        partition_version.c.dataset == candidate.dataset, partition_version.c.score_date == candidate.score_date,
        partition_version.c.md5 == candidate.md5,
    )  # fmt: skip
    known = connection.scalar(sa.select(sa.func.min(partition_version.c.version_id)).where(same))
    return _insert_version(connection, candidate, run_id, now) if known is None else int(known)


def _commit_one(connection: sa.Connection, candidate: Candidate, run_id: str, now: datetime) -> int:
    standing = _standing(connection, candidate)
    if standing is not None and standing[1] == candidate.md5:
        _refresh_fingerprint(connection, candidate)
        return standing[0]
    if (standing[0] if standing else None) != candidate.replaces:
        raise _conflict(candidate, standing)
    version_id = _insert_version(connection, candidate, run_id, now)
    _move_pointer(connection, candidate, version_id, standing, now)
    connection.execute(
        partition_event.insert().values(
            dataset=candidate.dataset, score_date=candidate.score_date, version_id=version_id,
            replaced_id=candidate.replaces, run_id=run_id, moved_at=now,
        )
    )  # fmt: skip
    return version_id


def _standing(connection: sa.Connection, candidate: Candidate) -> tuple[int, str] | None:
    row = connection.execute(
        sa.select(partition_version.c.version_id, partition_version.c.md5)
        .join(partition_current, partition_current.c.version_id == partition_version.c.version_id)
        .where(_is_pointer_of(candidate))
        .with_for_update(of=partition_current)
    ).first()
    return None if row is None else (row.version_id, row.md5)


def _is_pointer_of(candidate: Candidate) -> sa.ColumnElement[bool]:
    return sa.and_(
        partition_current.c.dataset == candidate.dataset, partition_current.c.score_date == candidate.score_date
    )


def _refresh_fingerprint(connection: sa.Connection, candidate: Candidate) -> None:
    connection.execute(
        partition_current.update().where(_is_pointer_of(candidate)).values(fingerprint=candidate.fingerprint)
    )


def _insert_version(connection: sa.Connection, candidate: Candidate, run_id: str, now: datetime) -> int:
    values = {
        "dataset": candidate.dataset, "score_date": candidate.score_date, "md5": candidate.md5,
        "rows": candidate.rows, "bytes": candidate.bytes, "fingerprint": candidate.fingerprint,
        "inputs": list(candidate.inputs), "run_id": run_id, "created_at": now,
        "content_sha256": candidate.content_sha256, "origin": list(candidate.origin) or None,
    }  # fmt: skip
    returned = connection.scalar(partition_version.insert().values(values).returning(partition_version.c.version_id))
    return int(returned or 0)


def _move_pointer(
    connection: sa.Connection, candidate: Candidate, version_id: int, standing: tuple[int, str] | None, now: datetime
) -> None:
    if standing is not None:
        values = {"version_id": version_id, "fingerprint": candidate.fingerprint, "moved_at": now}
        connection.execute(partition_current.update().where(_is_pointer_of(candidate)).values(values))
        return
    first = insert(partition_current).values(
        dataset=candidate.dataset, score_date=candidate.score_date, version_id=version_id,
        fingerprint=candidate.fingerprint, moved_at=now,
    )  # fmt: skip
    # Two first writers both see no pointer to lock; the second insert finds the row and must lose.
    if connection.scalar(first.on_conflict_do_nothing().returning(partition_current.c.version_id)) is None:
        raise _conflict(candidate, _standing(connection, candidate))


def _conflict(candidate: Candidate, standing: tuple[int, str] | None) -> PartitionConflict:
    seen = "no version" if candidate.replaces is None else f"version {candidate.replaces}"
    now_there = "no version" if standing is None else f"version {standing[0]}"
    return PartitionConflict(
        f"Committing {candidate.dataset} {candidate.score_date}",
        f"this writer started from {seen}, but {now_there} is current now; both contents are kept in the lake",
        "run the night again: it starts from what is current",
    )
