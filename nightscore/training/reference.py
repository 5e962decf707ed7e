"""What a model's reference looked like, kept with the model: profiles of its features and of its own scores.

The reference is every row of the training window, labelled or not, as a night will have them. A sample of its rows is
kept for the classifier that tells weeks apart, with what it made of the reference's own left-out weeks.
Added here: another thing that a later night is compared with. Not here: the measures (`nightscore/measures`), or what
follows from a comparison (`nightscore/monitoring`).
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import polars as pl

from nightscore.lake.parquet import read_batches
from nightscore.measures.domain import left_out_aucs
from nightscore.measures.profiles import Kind, ReferenceProfile
from nightscore.measures.profiling import build_reference
from nightscore.measures.sampling import Batch, sample_rows
from nightscore.training.matrix import SCORE_DATE

if TYPE_CHECKING:
    from nightscore.spec.pipeline import Pipeline
    from nightscore.training.fit import Trained

SCORE = "score"
"""The name under which the scores stand among the profiled columns."""
DOMAIN_ROWS = 20_000
BATCH_ROWS = 1 << 18
"""Rows that are profiled at once. Another number would change the last bits of means of dates with more rows."""
REFERENCE_FILE, SAMPLE_FILE = "reference.json", "reference.parquet"
_KINDS: dict[str, Kind] = {"float": "number", "integer": "number", "boolean": "boolean", "category": "category"}
Read = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Reference:
    """Profiles of features and score; `domain_aucs`: AUC of each left-out week against the others.

    `sample`: score_date and features of at most 20,000 rows.
    """

    profile: ReferenceProfile
    domain_aucs: tuple[float, ...]
    sample: pl.DataFrame

    def as_files(self) -> dict[str, bytes]:
        """What a capsule keeps of it, by file name."""
        content = {"profile": json.loads(self.profile.to_json()), "domain_aucs": self.domain_aucs}
        target = io.BytesIO()
        self.sample.write_parquet(target, compression="zstd", compression_level=3, statistics=False)
        return {REFERENCE_FILE: json.dumps(content).encode(), SAMPLE_FILE: target.getvalue()}

    @classmethod
    def from_folder(cls, folder: Path) -> Self | None:
        """The inverse of `as_files`; None for a capsule of an older release, which kept none."""
        path = folder / REFERENCE_FILE
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        sample = pl.read_parquet((folder / SAMPLE_FILE).read_bytes())
        profile = ReferenceProfile.from_json(json.dumps(content["profile"]))
        return cls(profile, tuple(content["domain_aucs"]), sample)


def kinds_of(pipeline: "Pipeline") -> dict[str, Kind]:
    """How each feature is measured."""
    return {column.name: _KINDS[column.type] for column in pipeline.features.columns}


def domain_kinds(pipeline: "Pipeline", profile: ReferenceProfile) -> dict[str, Kind]:
    """The features that a classifier of weeks may use: by one that moves of itself, a week gives itself away."""
    steady = {one.name for one in profile.columns if one.column_class == "distribution" and one.is_steady}
    return {name: kind for name, kind in kinds_of(pipeline).items() if name in steady}


def with_reference(trained: "Trained", read: Read) -> "Trained":
    """`trained` with the reference of the rows that `read` gives, each time anew: score date and frame, by date."""
    pipeline = trained.pipeline
    names = [SCORE_DATE, *(name for name in pipeline.feature_names if name != SCORE_DATE)]

    def scored() -> Iterable[Batch]:
        for night, frame in read():
            yield night, frame.select(names).with_columns(pl.Series(SCORE, trained.score(frame), dtype=pl.Float64))

    profile = build_reference(
        scored, {**kinds_of(pipeline), SCORE: "number"}, daily_share=pipeline.monitoring.daily_variance_share
    )
    sample = sample_rows(read(), names, DOMAIN_ROWS)
    kinds = domain_kinds(pipeline, profile)
    return replace(trained, reference=Reference(profile, left_out_aucs(sample, kinds, SCORE_DATE), sample))


def read_partitions(paths: Mapping[date, Path]) -> Read:
    """One file a score date, dates in order, in batches of at most BATCH_ROWS rows; a date may be without rows."""

    def read() -> Iterable[Batch]:
        for night in sorted(paths):
            yield from ((night, frame) for frame in read_batches(paths[night], BATCH_ROWS))

    return read


def read_frame(frame: pl.DataFrame) -> Read:
    """The rows of each score date of `frame`, dates in order, rows in theirs."""
    parts = frame.sort(SCORE_DATE, maintain_order=True).partition_by(SCORE_DATE, maintain_order=True)
    return lambda: ((part[SCORE_DATE][0], part) for part in parts)
