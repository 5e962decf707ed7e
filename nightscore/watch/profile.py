"""A night in the bins of one reference: counts, daily values and a small sample, in one pass over its columns.

It is kept by content, so that a week is the sum of seven of them. Columns are counted side by side and never whole, so
memory does not grow with the rows, and the processor's threads share the work.
Added here: a figure of the rows of one night that is stored. Not here: what stored figures show (`measure.py`).
"""

import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.workspace import Workspace
from nightscore.measures.profiles import ColumnProfile, ReferenceProfile, measure_into
from nightscore.measures.profiling import MOST_LEVELS
from nightscore.measures.sampling import Numbers, sample_numbers
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE
from nightscore.training.reference import SCORE, Reference
from nightscore.watch.columns import read_columns, share_columns

BATCH_ROWS = 1 << 18
"""Means are those of so many rows at a time, so another number gives other last bits."""
SAMPLE_ROWS = 20_000
MODEL_VERSION = "model_version"
"""The column of predictions that says by which version a row was scored."""
RANGE_MARGIN = 0.5
"""Of the reference's span: history wanders beyond its ends by itself, a wrong unit does so by far."""


@dataclass(frozen=True)
class NightColumn:
    """One column of one night: counts in the reference's bins, its daily value, and rows out of its range."""

    counts: tuple[int, ...]
    value: float | None
    out_of_range: float | None


@dataclass(frozen=True)
class NightProfile:
    """A night in the bins of one reference; `sample`: at most 20,000 of its rows, date and features."""

    night: date
    rows: int
    columns: dict[str, NightColumn]
    sample: pl.DataFrame

    def has(self, name: str) -> bool:
        """Whether rows of the column were counted: of scores, those of the reference's own version."""
        return name in self.columns and any(self.columns[name].counts)


def profile_night(
    workspace: Workspace, pipeline: Pipeline, reference: Reference, version: ModelVersion, features: PartitionVersion,
    predictions: PartitionVersion | None,
) -> NightProfile:  # fmt: skip
    """A night in the bins of `reference`, of the capsule of `version`; made once for a content.

    Its scores are those of `version`: a canary's are no drift of the champion's. Without `predictions` it has none.
    """
    folder = workspace.settings.home_path / "watch" / version.manifest_sha256
    path = folder / f"{features.md5}-{predictions.md5 if predictions else 'unscored'}"
    if path.is_file():
        return _from_bytes(path.read_bytes())
    verified = workspace.lake.store.verified_path
    scored = verified(predictions.md5) if predictions else None
    made = make_profile(
        pipeline, reference.profile, version.version, features.score_date, verified(features.md5), scored
    )
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.lake.store.scratch() as scratch:
        scratch.write_bytes(_to_bytes(made))
        scratch.replace(path)
    return made


def make_profile(
    pipeline: Pipeline, reference: ReferenceProfile, version: int, night: date, features: Path, scored: Path | None
) -> NightProfile:
    """The profile of the rows at `features`, and of those at `scored` that `version` scored.

    Raises ColumnNotFoundError where a feature is absent.
    """
    names = [SCORE_DATE, *(name for name in pipeline.feature_names if name != SCORE_DATE)]
    rows = int(pl.scan_parquet(features).select(pl.len()).collect().item())
    looked_at = {*names, *(one.name for one in reference.columns)}
    wanted = {name: kind for name, kind in pl.read_parquet_schema(features).items() if name in looked_at}
    count = partial(_count, reference, features, sample_numbers(rows, SAMPLE_ROWS))
    if rows > BATCH_ROWS:
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            counted = list(pool.map(count, share_columns(wanted, 2 * pl.thread_pool_size())))
    else:
        counted = [count(list(wanted))]
    found = {name: one for columns, _ in counted for name, one in columns.items()}
    columns = {one.name: found[one.name] for one in reference.columns if one.name in found}
    if scored is not None:
        columns |= _count_scores(reference, scored, version)
    sample = pl.concat([part for _, part in counted], how="horizontal").select(names)
    return NightProfile(night, sum(next(iter(columns.values())).counts) if columns else 0, columns, sample)


def _count(
    reference: ReferenceProfile, path: Path, picked: Numbers, names: Sequence[str]
) -> tuple[dict[str, NightColumn], pl.DataFrame]:
    """The columns `names` of the night, and of them the rows with the numbers `picked`."""
    parts: list[dict[str, NightColumn]] = []
    sampled: list[pl.DataFrame] = []
    start = 0
    few = [one.name for one in reference.columns if one.kind == "category" and len(one.levels) < MOST_LEVELS]
    for batch in read_columns(path, names, BATCH_ROWS, coded=few):
        first, behind = np.searchsorted(picked, [start, start + batch.height])
        sampled.append(batch[picked[first:behind] - start].with_columns(pl.col(pl.Categorical).cast(pl.String)))
        parts.append(_columns(reference, batch))
        start += batch.height
    return _merge(parts), pl.concat(sampled)


def _count_scores(reference: ReferenceProfile, scored: Path, version: int) -> dict[str, NightColumn]:
    batches = read_columns(scored, [MODEL_VERSION, SCORE], BATCH_ROWS)
    own = pl.col(MODEL_VERSION) == version
    return _merge(_columns(reference, batch.filter(own).select(SCORE)) for batch in batches)


def _columns(reference: ReferenceProfile, batch: pl.DataFrame) -> dict[str, NightColumn]:
    there = [column for column in reference.columns if column.name in batch.columns]
    return {column.name: _column(column, batch[column.name]) for column in there}


def _column(profile: ColumnProfile, values: pl.Series) -> NightColumn:
    counts, value, out_of_range = measure_into(profile, values, RANGE_MARGIN)
    return NightColumn(tuple(counts.tolist()), value, out_of_range)


def _merge(parts: Iterable[dict[str, NightColumn]]) -> dict[str, NightColumn]:
    columns: dict[str, NightColumn] = {}
    for name, one in (found for part in parts for found in part.items()):
        columns[name] = _merged(columns[name], one) if name in columns else one
    return columns


def _merged(one: NightColumn, other: NightColumn) -> NightColumn:
    """Batches of one night; means and rates are weighted by the rows behind them."""
    known = [sum(part.counts[:-1]) for part in (one, other)]
    rows = [sum(part.counts) for part in (one, other)]
    return NightColumn(
        tuple(first + second for first, second in zip(one.counts, other.counts, strict=True)),
        _weighted([one.value, other.value], known),
        _weighted([one.out_of_range, other.out_of_range], rows),
    )


def _weighted(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    found = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None and weight]
    total = sum(weight for _, weight in found)
    return sum(value * weight for value, weight in found) / total if total else None


def _to_bytes(made: NightProfile) -> bytes:
    sample = io.BytesIO()
    made.sample.write_parquet(sample, compression="zstd", statistics=False)
    columns = {name: asdict(one) for name, one in made.columns.items()}
    head = json.dumps({"night": str(made.night), "rows": made.rows, "columns": columns}).encode()
    return len(head).to_bytes(8, "big") + head + sample.getvalue()


def _from_bytes(data: bytes) -> NightProfile:
    size = int.from_bytes(data[:8], "big")
    head = json.loads(data[8 : 8 + size])
    columns = {name: NightColumn(**{**one, "counts": tuple(one["counts"])}) for name, one in head["columns"].items()}
    sample = pl.read_parquet(data[8 + size :])
    return NightProfile(date.fromisoformat(head["night"]), head["rows"], columns, sample)
