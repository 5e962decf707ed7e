"""Datasets as their readers see them: partitions by (dataset, score date), read through the catalog's pointers.

A partition is visible only by its pointer, and a pointer moves only after the gates; so what a reader can open here
has passed. Added here: a way to read or commit partitions. Not here: what a dataset means.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl
import sqlalchemy as sa

from nightscore.catalog.gates import latest_verdict, verdicts_of_night
from nightscore.catalog.partitions import (
    Candidate,
    PartitionVersion,
    commit_partitions,
    current_partitions,
    partition_history,
    partitions_as_of,
)
from nightscore.clock import Clock
from nightscore.errors import NotReadable
from nightscore.lake.objects import ObjectStore, StoredObject
from nightscore.lake.parquet import stated_content_hash, write_batches, write_parquet
from nightscore.spec.windows import nights_between


@dataclass(frozen=True)
class Lake:
    """The object store and the catalog's pointers to it, as one thing."""

    store: ObjectStore
    engine: sa.Engine
    clock: Clock

    def put(self, frame: pl.DataFrame, key: Sequence[str]) -> StoredObject:
        """Store `frame` as one Parquet object; it is not a partition of anything yet."""
        with self.store.scratch() as path:
            content_sha256 = write_parquet(frame, key, path)
            return replace(self.store.put_file(path), content_sha256=content_sha256)

    def put_batches(self, batches: Iterable[pl.DataFrame], key: Sequence[str]) -> StoredObject:
        """Store rows that come in strict order of `key` as one Parquet object, in bounded memory; see `put`."""
        with self.store.scratch() as path:
            written = write_batches(batches, key, path)
            return replace(self.store.put_file(path), content_sha256=written.content_sha256)

    def stored(self, md5: str) -> StoredObject:
        """What is known of a table that is in the lake already."""
        path = self.store.path(md5)
        return StoredObject(md5, path.stat().st_size, stated_content_hash(path))

    def commit(self, candidates: Sequence[Candidate], run_id: str) -> dict[tuple[str, date], int]:
        """Make candidates current, all in one transaction; PartitionConflict when one has moved meanwhile."""
        with self.engine.begin() as connection:
            return commit_partitions(connection, candidates, run_id, self.clock.now())

    def current(
        self, dataset: str, first: date, last: date, as_of: datetime | None = None
    ) -> dict[date, PartitionVersion]:
        """The versions of a range that are current, or were at the instant `as_of`."""
        with self.engine.connect() as connection:
            if as_of is None:
                return current_partitions(connection, dataset, first, last)
            return partitions_as_of(connection, dataset, first, last, as_of)

    def history(self, dataset: str, night: date) -> list[PartitionVersion]:
        """Every version a partition ever had, oldest first."""
        with self.engine.connect() as connection:
            return partition_history(connection, dataset, night)

    def require(self, dataset: str, nights: Sequence[date], as_of: datetime | None = None) -> list[PartitionVersion]:
        """The versions of exactly `nights`; NotReadable says of every absent one why it is."""
        if not nights:
            return []
        found = self.current(dataset, min(nights), max(nights), as_of)
        absent = [night for night in nights if night not in found]
        if absent:
            raise self._not_readable(dataset, absent)
        return [found[night] for night in nights]

    def read(self, dataset: str, first: date, last: date, as_of: datetime | None = None) -> pl.LazyFrame:
        """One date or a range, every date present, as one lazy frame; bytes are verified before they are read."""
        return self.scan(self.require(dataset, nights_between(first, last), as_of))

    def scan(self, versions: Sequence[PartitionVersion]) -> pl.LazyFrame:
        """The rows of exactly these versions, in their order."""
        return pl.scan_parquet([self.store.verified_path(version.md5) for version in versions])

    def _not_readable(self, dataset: str, absent: Sequence[date]) -> NotReadable:
        with self.engine.connect() as connection:
            reasons = [_why_absent(connection, dataset, night) for night in absent[:20]]
        if len(absent) > 20:
            reasons.append(f"and {len(absent) - 20} more dates")
        return NotReadable(
            f"Reading {dataset} for {_span(absent)}", reasons,
            "repair the source, or make the missing nights, then run the night again",
        )  # fmt: skip


def _why_absent(connection: sa.Connection, dataset: str, night: date) -> str:
    verdict = latest_verdict(connection, dataset, night)
    if verdict is None:
        return f"{night}: never made{_what_became_of(connection, dataset, night)}"
    if verdict.passed:
        return f"{night}: judged good by run {verdict.run_id}, but not committed"
    return f"{night}: held back by its gate in run {verdict.run_id}: {'; '.join(verdict.reasons)}"


def _what_became_of(connection: sa.Connection, dataset: str, night: date) -> str:
    """What was held back earlier in the chain that night; a later dataset has no verdict of its own then."""
    verdicts = verdicts_of_night(connection, dataset.partition(".")[0], night)
    return "".join(f"; {one.dataset} was held back: {'; '.join(one.reasons)}" for one in verdicts if not one.passed)


def _span(nights: Sequence[date]) -> str:
    return str(nights[0]) if len(nights) == 1 else f"{min(nights)} to {max(nights)}"


def candidate(
    dataset: str, night: date, stored: StoredObject, rows: int, fingerprint: str,
    standing: Mapping[date, PartitionVersion], inputs: Sequence[PartitionVersion] = (),
    origin: Sequence[str] = (),
) -> Candidate:  # fmt: skip
    """A candidate that replaces what `standing` shows as current; `origin`: the files or table that a source read."""
    replaces = standing[night].version_id if night in standing else None
    ids = tuple(version.version_id for version in inputs)
    return Candidate(
        dataset, night, stored.md5, rows, stored.bytes, fingerprint, replaces, ids, stored.content_sha256, tuple(origin)
    )
