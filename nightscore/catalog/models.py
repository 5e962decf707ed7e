"""Model versions, what became of them, and their aliases; the current holder of an alias is its newest event.

Added here: queries on `model_version`, `model_event` and `alias_event`. Not here: capsules (`nightscore/registry`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from nightscore.catalog.tables import alias_event, model_event, model_version


@dataclass(frozen=True)
class ModelVersion:
    """One registered version: `flight_delay@7`."""

    pipeline: str
    version: int
    capsule_md5: str
    manifest_sha256: str
    function_hash: str
    recipe_hash: str
    snapshot_md5: str
    algorithm: str
    task: str
    as_of: date
    parent: int | None
    status: str
    metrics: Mapping[str, Any]
    created_by: str
    purpose: str
    run_id: str
    created_at: datetime
    provenance: Mapping[str, Any] | None = None
    family: str | None = None

    @property
    def name(self) -> str:
        """`pipeline@version`."""
        return f"{self.pipeline}@{self.version}"


def list_versions(connection: sa.Connection, pipeline: str | None = None) -> list[ModelVersion]:
    """All versions, of one pipeline or of all, oldest first."""
    query = sa.select(model_version).order_by(model_version.c.pipeline, model_version.c.version)
    if pipeline is not None:
        query = query.where(model_version.c.pipeline == pipeline)
    return [ModelVersion(**row) for row in connection.execute(query).mappings()]


def find_version(connection: sa.Connection, pipeline: str, version: int) -> ModelVersion | None:
    """One version, or None."""
    query = sa.select(model_version).where(model_version.c.pipeline == pipeline, model_version.c.version == version)
    row = connection.execute(query).mappings().first()
    return None if row is None else ModelVersion(**row)


def version_of_recipe(connection: sa.Connection, pipeline: str, recipe_hash: str) -> ModelVersion | None:
    """The version that this very recipe on this very data made before, or None."""
    query = sa.select(model_version).where(
        model_version.c.pipeline == pipeline, model_version.c.recipe_hash == recipe_hash
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else ModelVersion(**row)


def next_version(connection: sa.Connection, pipeline: str) -> int:
    """The next free version number; the caller's transaction holds the lock until its insert commits."""
    connection.execute(sa.text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model:{pipeline}"})
    newest = sa.select(sa.func.max(model_version.c.version)).where(model_version.c.pipeline == pipeline)
    return int(connection.scalar(newest) or 0) + 1


def insert_version(connection: sa.Connection, version: ModelVersion) -> None:
    """Append a version."""
    connection.execute(model_version.insert().values(vars(version) | {"metrics": dict(version.metrics)}))


def alias_holder(connection: sa.Connection, pipeline: str, alias: str) -> int | None:
    """The version that holds `alias` now, or None."""
    query = (
        sa.select(alias_event.c.version)
        .where(alias_event.c.pipeline == pipeline, alias_event.c.alias == alias)
        .order_by(alias_event.c.event_id.desc())
        .limit(1)
    )
    return connection.scalar(query)


def alias_history(
    connection: sa.Connection, pipeline: str, alias: str, version: int, until: datetime
) -> list[dict[str, Any]]:
    """When, by whom and why `version` was given the alias, up to an instant; oldest first."""
    event = alias_event
    query = (
        sa.select(event.c.actor, event.c.reason, event.c.at, event.c.previous)
        .where(event.c.pipeline == pipeline, event.c.alias == alias, event.c.version == version, event.c.at <= until)
        .order_by(event.c.event_id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def alias_events(connection: sa.Connection, pipeline: str, alias: str) -> list[tuple[datetime, int]]:
    """Every instant at which a version was given the alias, oldest first."""
    event = alias_event
    query = sa.select(event.c.at, event.c.version).where(
        event.c.pipeline == pipeline, event.c.alias == alias, event.c.version.is_not(None)
    )
    return [(row.at, row.version) for row in connection.execute(query.order_by(event.c.event_id))]


def holders_of(connection: sa.Connection, pipeline: str) -> dict[str, int]:
    """Every alias that a version holds now, with that version."""
    event = alias_event
    newest = (
        sa.select(event.c.alias, event.c.version)
        .where(event.c.pipeline == pipeline)
        .ext(distinct_on(event.c.alias))
        .order_by(event.c.alias, event.c.event_id.desc())
    )
    return {row.alias: row.version for row in connection.execute(newest) if row.version is not None}


def list_alias_events(connection: sa.Connection, pipeline: str) -> list[dict[str, Any]]:
    """Every move of every alias of a pipeline, oldest first: alias, version (None: given back), previous, who, why."""
    event = alias_event
    query = sa.select(event).where(event.c.pipeline == pipeline).order_by(event.c.event_id)
    return [dict(row) for row in connection.execute(query).mappings()]


def append_model_event(
    connection: sa.Connection, version: ModelVersion, event: str, actor: str, reason: str, now: datetime
) -> None:
    """Append what became of a version: approved, rejected."""
    values = {"pipeline": version.pipeline, "version": version.version, "event": event, "actor": actor}
    connection.execute(model_event.insert().values(values | {"reason": reason, "at": now}))


def list_model_events(connection: sa.Connection, pipeline: str, version: int | None = None) -> list[dict[str, Any]]:
    """What became of one version or of all of a pipeline, oldest first: version, event, actor, reason, at."""
    query = sa.select(model_event).where(model_event.c.pipeline == pipeline).order_by(model_event.c.event_id)
    if version is not None:
        query = query.where(model_event.c.version == version)
    return [dict(row) for row in connection.execute(query).mappings()]


def move_alias(
    connection: sa.Connection, pipeline: str, alias: str, version: int | None, actor: str, reason: str, now: datetime,
    only_if_free: bool = False,
) -> bool:  # fmt: skip
    """Append the event that gives `alias` to `version`, or to none; False when nothing would change, or it must be free
    and another holds it.
    """
    lock = sa.text("select pg_advisory_xact_lock(hashtext(:name))")
    connection.execute(lock, {"name": f"alias:{pipeline}:{alias}"})
    previous = alias_holder(connection, pipeline, alias)
    if previous == version or (only_if_free and previous is not None):
        return False
    values = {
        "pipeline": pipeline, "alias": alias, "version": version, "actor": actor, "reason": reason, "at": now,
        "previous": previous,
    }  # fmt: skip
    connection.execute(alias_event.insert().values(values))
    return True
