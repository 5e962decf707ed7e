"""Which objects the catalog names, and for whom: what must never be collected and what a remote must hold.

Added here: the query that finds the objects of another noun. Not here: what is inside a directory object, or deleting
(`nightscore/lake`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from nightscore.catalog.models import ModelVersion, list_versions
from nightscore.catalog.tables import (
    gate_result,
    partition_current,
    partition_version,
    publication,
    receipt,
    wheelhouse,
)


@dataclass(frozen=True)
class Pin:
    """An object (or directory object, `….dir`) and the sentence that says who needs it."""

    md5: str
    owner: str


def pinned_objects(connection: sa.Connection, pipeline: str | None = None) -> list[Pin]:
    """Every object that something names, of one pipeline or of all; one pin an owner, sorted.

    Wheelhouses belong to every pipeline. Directory objects stand for themselves: the lake expands them.
    """
    found = {
        *(pin for version in list_versions(connection, pipeline) for pin in pins_of_version(version)),
        *_of_receipts(connection, pipeline),
        *_of_publications(connection, pipeline),
        *_of_wheelhouses(connection),
        *current_pins(connection, pipeline),
        *_of_verdicts(connection, pipeline),
        *_of_inputs(connection, pipeline),
    }
    return sorted(found, key=lambda pin: (pin.owner, pin.md5))


def pins_of_version(version: ModelVersion) -> list[Pin]:
    """The capsule of a model version and the snapshot it was trained on."""
    capsule = Pin(version.capsule_md5, f"capsule of {version.name}")
    return [capsule, Pin(version.snapshot_md5, f"snapshot of {version.name}")]


def current_pins(connection: sa.Connection, pipeline: str | None = None) -> list[Pin]:
    """The partitions that readers see now."""
    query = sa.select(partition_version.c.md5, partition_version.c.dataset, partition_version.c.score_date)
    query = query.join(partition_current, partition_current.c.version_id == partition_version.c.version_id)
    query = query.where(_is_of(partition_version.c.dataset, pipeline))
    return [Pin(one.md5, f"{one.dataset} {one.score_date}, current") for one in connection.execute(query)]


def _of_receipts(connection: sa.Connection, pipeline: str | None) -> Iterable[Pin]:
    """The predictions of each receipt, also replaced ones, and the snapshot they were made of where it was kept."""
    query = (
        sa.select(receipt.c.receipt_id, receipt.c.pipeline, receipt.c.score_date, receipt.c.snapshot_md5,
                  partition_version.c.md5)
        .join(partition_version, partition_version.c.version_id == receipt.c.predictions_id)
        .where(_is_named(receipt.c.pipeline, pipeline))
    )  # fmt: skip
    for one in connection.execute(query):
        owner = f"receipt {one.receipt_id} ({one.pipeline} {one.score_date})"
        yield from (Pin(md5, owner) for md5 in (one.snapshot_md5, one.md5) if md5 is not None)


def _of_publications(connection: sa.Connection, pipeline: str | None) -> Iterable[Pin]:
    """The predictions that any revision published."""
    query = sa.select(publication).where(_is_named(publication.c.pipeline, pipeline))
    for one in connection.execute(query):
        owner = f"publication {one.publication_id} ({one.pipeline} {one.score_date}, revision {one.revision})"
        yield Pin(one.content_md5, owner)


def _of_wheelhouses(connection: sa.Connection) -> Iterable[Pin]:
    for one in connection.execute(sa.select(wheelhouse)):
        yield Pin(one.directory_md5, f"wheelhouse of lock {one.lock_sha256[:12]} ({one.platform})")


def _of_inputs(connection: sa.Connection, pipeline: str | None) -> Iterable[Pin]:
    """What the current partitions were made of, which the receipt of a night still to be scored will name."""
    made, read = partition_version.alias("made"), partition_version.alias("read")
    ids = sa.func.jsonb_array_elements_text(made.c.inputs).table_valued("value").render_derived(name="input")
    query = (
        sa.select(read.c.md5, made.c.dataset, made.c.score_date)
        .select_from(partition_current)
        .join(made, made.c.version_id == partition_current.c.version_id)
        .join(ids, sa.true())
        .join(read, read.c.version_id == sa.cast(ids.c.value, sa.BigInteger))
        .where(_is_of(made.c.dataset, pipeline))
        .distinct()
    )
    for one in connection.execute(query):
        yield Pin(one.md5, f"input of {one.dataset} {one.score_date}, current")


def _of_verdicts(connection: sa.Connection, pipeline: str | None) -> Iterable[Pin]:
    """What gates accepted and set aside on the way to the partitions that are current."""
    query = (
        sa.select(gate_result)
        .join(partition_version, sa.and_(
            partition_version.c.dataset == gate_result.c.dataset,
            partition_version.c.score_date == gate_result.c.score_date,
            partition_version.c.md5 == gate_result.c.accepted_md5,
        ))
        .join(partition_current, partition_current.c.version_id == partition_version.c.version_id)
        .where(gate_result.c.passed, _is_named(gate_result.c.pipeline, pipeline))
    )  # fmt: skip
    for one in connection.execute(query):
        by = f"by the gate of {one.dataset} {one.score_date}"
        named = ((one.accepted_md5, "accepted"), (one.quarantined_md5, "quarantined"))
        yield from (Pin(md5, f"{what} {by}") for md5, what in named if md5 is not None)


@dataclass(frozen=True)
class StandingVersion:
    """One version of a partition, and whether it is the one that readers see."""

    dataset: str
    score_date: date
    version_id: int
    md5: str
    content_sha256: str | None
    rows: int
    bytes: int
    created_at: datetime
    current: bool


def standing_versions(connection: sa.Connection, name: str, night: date | None = None) -> Sequence[StandingVersion]:
    """Every version of a dataset's partitions, or of all datasets of a pipeline; by dataset, date and age."""
    version = partition_version.c
    is_current = partition_current.c.version_id.is_not(None).label("current")
    columns = (
        version.dataset, version.score_date, version.version_id, version.md5, version.content_sha256, version.rows,
        version.bytes, version.created_at, is_current,
    )  # fmt: skip
    query = (
        sa.select(*columns)
        .outerjoin(partition_current, partition_current.c.version_id == version.version_id)
        .where(sa.or_(version.dataset == name, _is_of(version.dataset, name)))
        .order_by(version.dataset, version.score_date, version.version_id)
    )
    if night is not None:
        query = query.where(version.score_date == night)
    return [StandingVersion(**row) for row in connection.execute(query).mappings()]


def _is_named(column: sa.ColumnElement[str], pipeline: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if pipeline is None else column == pipeline


def _is_of(dataset: sa.ColumnElement[str], pipeline: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if pipeline is None else sa.func.split_part(dataset, ".", 1) == pipeline
