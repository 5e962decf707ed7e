"""Publish a night: COPY into a fresh table, constrain it, attach it, move the pointer; one transaction.

Readers see the old revision or the new one, never a part. Added here: steps of that transaction.
Not here: what may be published, which the gate of predictions and the watch decide.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from psycopg import Connection, OperationalError

from nightscore.catalog.connect import database_unavailable
from nightscore.catalog.facts import read_fact, write_fact
from nightscore.catalog.nights import record_night
from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.publications import (
    Publication,
    Receipt,
    current_publications,
    insert_publication,
    lock_night,
    move_publication,
    require_receipt,
)
from nightscore.errors import AccountingError, DatabaseUnavailable
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.parquet import constants_of, read_batches
from nightscore.lake.workspace import Workspace
from nightscore.publishing.copy_stream import copy_frames
from nightscore.publishing.mart import (
    SHARED,
    add_shared,
    attach_partition,
    create_partition,
    ensure_table,
    mart_columns,
)
from nightscore.publishing.views import ensure_views
from nightscore.spec.datasets import predictions_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.verdicts import ensure_verdict

BATCH_ROWS = 1 << 16


def publish_nights(
    workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str, actor: str
) -> list[NightOutcome]:
    """Publish the predictions of `nights`, each atomically; a night that is published as it is stays so.

    A night that the watch holds back is blocked, and readers go on seeing what they saw.
    """
    with timed_step(workspace, pipeline.name, "publish", nights, run_id) as log:
        versions = workspace.lake.require(predictions_dataset(pipeline.name), nights)
        built = ensure_mart(workspace, pipeline, versions[0])
        with workspace.engine.connect() as connection:
            standing = current_publications(connection, pipeline.name, min(nights), max(nights))
        for version in versions:
            log.outcomes.append(_publish_night(workspace, pipeline, version, standing, run_id, actor))
        if built:
            log.outcomes[0] = replace(log.outcomes[0], facts={**log.outcomes[0].facts, "marts_built": built})
    return log.outcomes


def ensure_mart(workspace: Workspace, pipeline: Pipeline, version: PartitionVersion) -> list[str]:
    """The mart table and the views of a pipeline, in the shape of its newest predictions; returns the marts built."""
    schema = workspace.lake.scan([version]).collect_schema()
    columns = mart_columns(pipeline, schema)
    _tell_late_days(workspace, pipeline)
    return ensure_views(
        workspace, pipeline, columns, lambda connection: ensure_table(connection, pipeline.name, columns)
    )


def _tell_late_days(workspace: Workspace, pipeline: Pipeline) -> None:
    """`partition_status` calls nights provisional while their sources may be corrected; SQL knows no spec."""
    name, days = f"late_days:{pipeline.name}", str(pipeline.late_days)
    with workspace.engine.begin() as connection:
        if read_fact(connection, name) != days:
            write_fact(connection, name, days, workspace.clock.now())


def _publish_night(
    workspace: Workspace, pipeline: Pipeline, version: PartitionVersion, standing: dict[date, Publication],
    run_id: str, actor: str,
) -> NightOutcome:  # fmt: skip
    night = version.score_date
    with workspace.engine.connect() as connection:
        receipt = require_receipt(connection, pipeline.name, night, version.fingerprint)
    current = standing.get(night)
    if current is not None and current.content_md5 == version.md5:
        _record_published(workspace, current, run_id)
        return _outcome(current, "reused")
    verdict = ensure_verdict(workspace, pipeline, version, run_id)
    if not verdict.passed:
        return NightOutcome(f"{pipeline.name}.published", night, "blocked", 0, tuple(verdict.reasons))
    try:
        made = _load_and_point(workspace, pipeline, version, receipt, run_id, actor)
    except (OperationalError, DatabaseUnavailable) as error:
        made = _read_back(workspace, version, receipt, error)
    return _outcome(made, "made" if made.run_id == run_id else "reused")


def _load_and_point(
    workspace: Workspace, pipeline: Pipeline, version: PartitionVersion, receipt: Receipt, run_id: str, actor: str
) -> Publication:
    now = workspace.clock.now()
    values = {
        "pipeline": pipeline.name, "score_date": version.score_date, "receipt_id": receipt.receipt_id,
        "model_version": receipt.model_version, "rows": version.rows, "content_md5": version.md5,
        "kind": "night", "run_id": run_id, "published_at": now,
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        lock_night(connection, pipeline.name, version.score_date)
        standing = _standing(connection, receipt, version)
        if standing is not None:
            return standing
        made = insert_publication(connection, values)
        load_rows(connection, workspace, pipeline, version, receipt, made)
        move_publication(connection, made, actor, "nightly publication", now)
        record_night(connection, made.pipeline, made.score_date, "published", _publication_line(made), run_id, now)
    return made


def _standing(connection: sa.Connection, receipt: Receipt, version: PartitionVersion) -> Publication | None:
    """What readers see of the night, if it is this very content."""
    night = version.score_date
    current = current_publications(connection, receipt.pipeline, night, night).get(night)
    return current if current is not None and current.content_md5 == version.md5 else None


def load_rows(
    connection: sa.Connection, workspace: Workspace, pipeline: Pipeline, version: PartitionVersion,
    receipt: Receipt, made: Publication,
) -> None:  # fmt: skip
    """Copy predictions into a partition of the mart that no pointer leads to; AccountingError where rows are lost."""
    raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    path = workspace.lake.store.verified_path(version.md5)
    columns = [column.name for column in mart_columns(pipeline, workspace.lake.scan([version]).collect_schema())]
    copied = fill_partition(raw, made, pipeline.entity.key, receipt.made_at, columns, path)
    if copied != version.rows:
        raise AccountingError(
            f"Publishing {pipeline.name} {version.score_date}",
            f"{copied} rows were copied, the receipt says {version.rows}",
            "run `nightscore doctor`; nothing was published",
        )
    attach_partition(raw, made, pipeline.entity.key)


def fill_partition(
    raw: Connection[Any], made: Publication, key: Sequence[str], scored_at: datetime, columns: Sequence[str], path: Path
) -> int:
    """A table of its own with the `columns` of the predictions at `path`; returns the rows copied.

    What is the same in all rows, such as the arm or the version, neither travels nor is stored with each.
    """
    constants = {name: value for name, value in constants_of(path).items() if name in columns and name not in key}
    varying = [name for name in columns if name not in {*SHARED, *constants}]
    fresh = create_partition(raw, made, key, varying)
    copied = copy_frames(raw, fresh, varying, read_batches(path, BATCH_ROWS, varying))
    own = dict(zip(SHARED, (made.publication_id, made.score_date, scored_at), strict=True))
    add_shared(raw, made, {**constants, **own})
    return copied


def _read_back(
    workspace: Workspace, version: PartitionVersion, receipt: Receipt, error: OperationalError | DatabaseUnavailable
) -> Publication:
    """After a lost connection nobody knows whether the commit happened; the catalog does."""
    attempted = f"Publishing {receipt.pipeline} {version.score_date}"
    with workspace.engine.connect() as connection:
        standing = _standing(connection, receipt, version)
    if standing is None:
        said = error.found[0] if isinstance(error, DatabaseUnavailable) else error
        raise database_unavailable(attempted, said) from error
    return standing


def _record_published(workspace: Workspace, current: Publication, run_id: str) -> None:
    with workspace.engine.begin() as connection:
        reason = _publication_line(current)
        record_night(
            connection, current.pipeline, current.score_date, "published", reason, run_id, workspace.clock.now()
        )


def _publication_line(made: Publication) -> str:
    return f"publication {made.publication_id}, revision {made.revision}, {made.rows} rows"


def _outcome(made: Publication, result: str) -> NightOutcome:
    facts = {"publication_id": made.publication_id, "revision": made.revision, "model_version": made.model_version}
    return NightOutcome(
        f"{made.pipeline}.published", made.score_date, "made" if result == "made" else "reused", made.rows, facts=facts
    )
