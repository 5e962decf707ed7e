"""A night in shards: runs of whole row groups that are scored apart, and put together to what one process would give.

A shard is plain data, so it can be sent anywhere; its scores are one content-addressed object, so a second try of the
same shard gives the same one. Added here: a fact that travels. Not here: who scores shards (`worker.py`,
`cluster.py`), or ranks, which need the whole night (`predictions.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nightscore.catalog.models import ModelVersion
from nightscore.lake.objects import ObjectStore
from nightscore.lake.parquet import rows_by_group
from nightscore.scoring.arms import Arms, Share
from nightscore.scoring.crew import Crew
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.scores import Scores


@dataclass(frozen=True)
class ArmRef:
    """One arm's version, its capsule named by its bytes twice over."""

    version: int
    capsule_md5: str
    manifest_sha256: str

    @classmethod
    def of(cls, version: ModelVersion) -> "ArmRef":
        """What names a registered version anywhere."""
        return cls(version.version, version.capsule_md5, version.manifest_sha256)


@dataclass(frozen=True)
class Job:
    """What all shards of a night have in common.

    `token`: the name of a file that only those see who share the driver's lake; `remote` is for all others.
    `code_sha256`: the engine that the driver runs, and that a worker must run.
    """

    features_md5: str
    arms: tuple[ArmRef, ...]
    share: Share | None
    token: str
    remote: str | None
    code_sha256: str


@dataclass(frozen=True)
class Span:
    """Some row groups of a features partition, which give the rows `start` to `stop` of the night."""

    groups: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """A span of a job."""

    job: Job
    span: Span


@dataclass(frozen=True)
class ScoredShard:
    """Where a shard's scores are, and what evaluated its models."""

    md5: str
    engines: tuple[EngineUse, ...]


def arms_of(crew: Crew) -> tuple[tuple[ArmRef, ...], Share | None]:
    """The versions that score rows, and the share of the second one."""
    if crew.share is None or crew.challenger is None:
        return (ArmRef.of(crew.champion),), None
    return (ArmRef.of(crew.champion), ArmRef.of(crew.challenger)), crew.share


def cut(features: Path, shard_rows: int) -> list[Span]:
    """The night in spans of at least `shard_rows` rows but for the last, in the order of its rows."""
    spans: list[Span] = []
    groups: list[int] = []
    start = stop = 0
    by_group = rows_by_group(features)
    for at, rows in enumerate(by_group):
        groups.append(at)
        stop += rows
        if stop - start >= shard_rows or at == len(by_group) - 1:
            spans.append(Span(tuple(groups), start, stop))
            groups, start = [], stop
    return spans


def put_scores(store: ObjectStore, scores: Scores) -> str:
    """Store the scores of a shard as one `.npy` object; its MD5."""
    columns = {"score": scores.score}
    if scores.probability is not None and scores.probability is not scores.score:
        columns["probability"] = scores.probability
    table = np.empty(len(scores.score), dtype=[*((name, "<f8") for name in columns), ("arm", "u1")])
    for name, column in columns.items():
        table[name] = column
    table["arm"] = scores.arm
    with store.scratch() as path:
        with path.open("wb") as stream:
            np.save(stream, table, allow_pickle=False)
        return store.put_file(path).md5


def put_together(arms: Arms, rows: int, parts: Iterable[tuple[Span, ScoredShard, Path]]) -> Scores:
    """The scores (rows,) of a night out of those of its shards, each at its path, in any order; one at a time is read.

    Engines are told once where they were the same, with the rows that proved them summed.
    """
    score, arm = np.empty(rows), np.zeros(rows, dtype=np.uint8)
    probability = None if arms.capsule.task != "binary" else score
    engines: dict[int, tuple[EngineUse, ...]] = {}
    for span, scored, path in parts:
        table, places = np.load(path, mmap_mode="r", allow_pickle=False), slice(span.start, span.stop)
        score[places], arm[places] = table["score"], table["arm"]
        if "probability" in table.dtype.names:
            if probability is None or probability is score:
                probability = np.empty(rows)
            probability[places] = table["probability"]
        engines[span.start] = scored.engines
    return Scores(score, probability, arm, tuple(_summed([engines[start] for start in sorted(engines)])))


def _summed(engines: Sequence[Sequence[EngineUse]]) -> Iterator[EngineUse]:
    """The uses of all shards by version, in the order of the arms, those that only differ in counts as one."""
    alike: dict[tuple[int, str, str | None, str], list[EngineUse]] = {}
    arms = [one.version for one in engines[0]]
    for one in (one for of_shard in engines for one in of_shard):
        what = arms.index(one.version), one.engine, one.instructions, one.reason
        alike.setdefault(what, []).append(one)
    for _, uses in sorted(alike.items(), key=lambda item: item[0][0]):
        checked, differing = sum(one.checked for one in uses), sum(one.differing for one in uses)
        yield replace(uses[0], checked=checked, differing=differing)
