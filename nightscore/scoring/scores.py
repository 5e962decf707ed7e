"""The first pass over a night: a score for every row, in bounded memory, proven on a spread sample of rows.

Rows are read, brought to the model and scored batch by batch; only numbers stay. Where the kernel and LightGBM differ
in one bit of the sample, the night is scored by LightGBM, and the receipt says so.
Added here: another number that is kept of every row. Not here: ranks, decisions and columns (`predictions.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nightscore.lake.parquet import rows_by_group
from nightscore.registry.capsule import Capsule
from nightscore.scoring.arms import Arms
from nightscore.scoring.engine import KERNEL_ROWS, Engine, EngineUse, choose_engine
from nightscore.scoring.reuse import EarlierNight, KnownScores
from nightscore.scoring.rows import Features, Rows, files_of, read_rows
from nightscore.training.matrix import Matrix, Vector

SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class Scores:
    """Scores and probabilities (rows,) of a night, the latter None but for a binary task; `arm`: 0 is the champion."""

    score: Vector
    probability: Vector | None
    arm: npt.NDArray[np.uint8]
    engines: tuple[EngineUse, ...] = ()

    @property
    def merit(self) -> Vector:
        """What ranks and thresholds go by."""
        return self.score if self.probability is None else self.probability


@dataclass
class _Member:
    """One arm's version at work."""

    version: int
    capsule: Capsule
    engine: Engine
    stride: int
    refused: EngineUse | None
    known: KnownScores | None
    seen: int = 0
    checked: int = 0
    reused: int = 0
    sample: list[Matrix] = field(default_factory=list)

    def score(self, rows: Rows) -> Vector:
        """Scores (rows,); of the kernel's every `stride`-th row is kept for `prove`."""
        columns = rows.columns(self.capsule.encoding)
        if self.known is not None:
            return self._score_changed(self.known, rows, columns)
        scores = self.engine.score(columns)
        if self.engine.evaluate is not None:
            self._keep_sample(columns, scores)
        return scores

    def _score_changed(self, known: KnownScores, rows: Rows, columns: list[Vector]) -> Vector:
        unchanged, earlier = known.find(rows, columns)
        scores = np.empty(rows.height)
        scores[unchanged] = earlier
        scores[~unchanged] = self.engine.score([column[~unchanged] for column in columns])
        self.reused += len(earlier)
        return scores

    def _keep_sample(self, columns: Sequence[Vector], scores: Vector) -> None:
        places = slice(-self.seen % self.stride, None, self.stride)
        self.seen += len(scores)
        self.sample.append(np.column_stack([*(column[places] for column in columns), scores[places]]))

    def prove(self) -> None:
        """Score the sample by the model's own code; raises _BitsDiffer."""
        if not self.sample:
            return
        sample = np.concatenate(self.sample)
        expected = self.engine.model.predict(np.ascontiguousarray(sample[:, :-1]), self.engine.threads)
        found = np.ascontiguousarray(sample[:, -1])
        self.checked = len(sample)
        if differing := int((expected.view(np.int64) != found.view(np.int64)).sum()):
            raise _BitsDiffer(self.version, self.checked, differing)

    def use(self) -> EngineUse:
        """What was used in the end."""
        engine, used = self.engine, self.refused
        used = used or EngineUse(self.version, engine.name, engine.instructions, engine.reason, self.checked)
        if self.known is None or not self.reused:
            return used
        return replace(used, reused=self.reused, reused_from=self.known.night.as_json())


class _BitsDiffer(Exception):
    """The kernel gave other bits than LightGBM."""

    def __init__(self, version: int, checked: int, differing: int) -> None:
        super().__init__(version, checked, differing)
        reason = f"the kernel differed from LightGBM in {differing} of {checked} rows"
        self.use = EngineUse(version, "lightgbm", None, reason, checked, differing)


def score_night(
    arms: Arms, features: Features, threads: int, groups: Sequence[int] | None = None,
    earlier: EarlierNight | None = None, refused: Mapping[int, EngineUse] | None = None,
) -> Scores:  # fmt: skip
    """Scores of the rows of a features partition, or of some of its row groups; `threads` change no bit.

    Neither does `earlier`, a night that the one version scored: where the model is costly, rows that are unchanged
    since then keep its scores. `refused`: versions whose kernel has differed from LightGBM already, which scores them.
    Raises FeatureBuildFailed where the features do not fit the model.
    """
    by_group = [rows for one in files_of(features) for rows in rows_by_group(one)]
    rows = sum(by_group if groups is None else (by_group[at] for at in groups))
    differed = dict(refused or {})
    while True:
        try:
            return _score(arms, features, rows, threads, groups, differed, earlier)
        except _BitsDiffer as found:
            differed[found.use.version] = found.use


def _score(
    arms: Arms, features: Features, rows: int, threads: int, groups: Sequence[int] | None,
    refused: Mapping[int, EngineUse], earlier: EarlierNight | None,
) -> Scores:  # fmt: skip
    members = [_member(version, capsule, rows, threads, refused, earlier) for version, capsule in arms.versions]
    made = _no_scores([one.capsule for one in members], rows)
    names, texts = _wanted(members, arms.entity)
    start = 0
    for batch in read_rows(features, texts, names, groups):
        for arm, (member, mask) in enumerate(zip(members, arms.masks(batch.frame(arms.entity)), strict=True)):
            rows_of_arm = batch if mask is None else batch.filter(mask)
            places = slice(start, start + batch.height) if mask is None else start + np.flatnonzero(mask)
            made.score[places] = scores = member.score(rows_of_arm)
            made.arm[places] = arm
            if made.probability is not None and made.probability is not made.score:
                made.probability[places] = member.capsule.probability(scores)
        start += batch.height
    for member in members:
        member.prove()
    return Scores(made.score, made.probability, made.arm, tuple(one.use() for one in members))


def _member(
    version: int, capsule: Capsule, rows: int, threads: int, refused: Mapping[int, EngineUse],
    earlier: EarlierNight | None,
) -> _Member:  # fmt: skip
    found = refused.get(version)
    engine = choose_engine(capsule.model, rows, threads, refused=found.reason if found else "")
    pays = earlier is not None and engine.is_costly and rows >= KERNEL_ROWS
    known = KnownScores(earlier, capsule.encoding, capsule.entity) if earlier and pays else None
    return _Member(version, capsule, engine, max(1, rows // SAMPLE_ROWS), found, known)


def _no_scores(capsules: Sequence[Capsule], rows: int) -> Scores:
    """Room for the scores; without a calibration probabilities are the scores themselves."""
    score = np.empty(rows)
    plain = all(one.calibrator.method == "none" for one in capsules)
    probability = None if capsules[0].task != "binary" else score if plain else np.empty(rows)
    return Scores(score, probability, np.zeros(rows, dtype=np.uint8))


def _wanted(members: Sequence[_Member], entity: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns to read, and those of them that are read as codes into their values."""
    encodings = [one.capsule.encoding for one in members]
    keys = {*entity, *(name for one in members if one.known for name in one.capsule.entity)}
    names = {name for one in encodings for name in one.names} | keys
    categories = {one.names[at] for one in encodings for at in one.category_indexes}
    return sorted(names), sorted(categories - keys)
