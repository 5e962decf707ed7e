"""What a night's rows show beside the reference of the model that scored them, in one pass over the night.

The pass gives a `NightProfile`: counts in the reference's own bins and a small sample, kept by content, so that a week
is the sum of seven of them. Nothing is fitted but the classifier that tells weeks apart.
Added here: a figure of the rows of a night or a week. Not here: freshness and outcomes, which need more than rows
(`freshness.py`, `nightscore/monitoring`), or what the figures are judged by (`levels.py`).
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.parquet import read_batches
from nightscore.lake.workspace import Workspace
from nightscore.measures import domain
from nightscore.measures.control import fit_chart
from nightscore.measures.distances import psi
from nightscore.measures.profiles import ColumnProfile, ReferenceProfile, count_into, daily_value, out_of_range_rate
from nightscore.measures.sampling import Batch, sample_rows
from nightscore.measures.swaps import swapped_levels
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE
from nightscore.training.reference import SCORE, Reference, domain_kinds
from nightscore.watch.evidence import Chart, ColumnNight, ColumnWeek, DomainClassifier, Swap

BATCH_ROWS = 1 << 18
SAMPLE_ROWS = 20_000
MODEL_VERSION = "model_version"
"""The column of predictions that says by which version a row was scored."""
RANGE_MARGIN = 0.5
"""Of the reference's span: history wanders beyond its ends by itself, a wrong unit does so by far."""
WEEK_DAYS, FEWEST_NIGHTS = 7, 5
"""Of the trailing days: with fewer nights a week is not compared."""


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
    made = _profile(pipeline, reference.profile, version.version, features.score_date, verified(features.md5), scored)
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.lake.store.scratch() as scratch:
        scratch.write_bytes(_to_bytes(made))
        scratch.replace(path)
    return made


def _profile(
    pipeline: Pipeline, reference: ReferenceProfile, version: int, night: date, features: Path, scored: Path | None
) -> NightProfile:
    names = [name for name in pipeline.feature_names if name != SCORE_DATE]
    parts: list[dict[str, NightColumn]] = []

    def counted() -> Iterator[Batch]:
        for batch in read_batches(features, BATCH_ROWS):
            parts.append(_columns(reference, batch))
            yield night, batch

    sample = sample_rows(counted(), [SCORE_DATE, *names], SAMPLE_ROWS)
    if scored is not None:
        own = pl.col(MODEL_VERSION) == version
        parts += [_columns(reference, batch.filter(own).select(SCORE)) for batch in read_batches(scored, BATCH_ROWS)]
    columns: dict[str, NightColumn] = {}
    for name, one in (found for part in parts for found in part.items()):
        columns[name] = _merged(columns[name], one) if name in columns else one
    rows = sum(next(iter(columns.values())).counts) if columns else 0
    return NightProfile(night, rows, columns, sample)


def _columns(reference: ReferenceProfile, batch: pl.DataFrame) -> dict[str, NightColumn]:
    there = [column for column in reference.columns if column.name in batch.columns]
    return {column.name: _column(column, batch[column.name]) for column in there}


def _column(profile: ColumnProfile, values: pl.Series) -> NightColumn:
    counts = tuple(int(one) for one in count_into(profile, values))
    return NightColumn(counts, daily_value(profile, values), out_of_range_rate(profile, values, RANGE_MARGIN))


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


def measure_columns(night: NightProfile, reference: Reference) -> tuple[ColumnNight, ...]:
    """Every profiled column tonight; of one that follows the calendar, only nulls mean anything."""
    return tuple(
        _measure(column, night.columns[column.name], night.night.weekday())
        for column in reference.profile.columns
        if column.name in night.columns and any(night.columns[column.name].counts)
    )


def _measure(profile: ColumnProfile, found: NightColumn, weekday: int) -> ColumnNight:
    counts = np.array(found.counts, np.int64)
    rows = int(counts.sum())
    base = ColumnNight(
        name=profile.name, null_rate=float(counts[-1] / rows), reference_null_rate=profile.null_rate or 0.0,
        null_deviation_q95=profile.null_deviation or 0.0,
    )  # fmt: skip
    if profile.column_class == "calendar":
        return base
    if profile.column_class == "daily":
        return base.model_copy(update={"chart": _chart(profile, found), "unseen_share": _unseen(profile, counts)})
    same_weekday = profile.on_weekday(weekday)
    against = same_weekday if same_weekday.sum() else profile.reference
    return base.model_copy(
        update={
            "unseen_share": _unseen(profile, counts),
            "out_of_range_share": found.out_of_range if profile.is_steady else None,
            "psi": psi(against, counts),
            "psi_q99": _usual(profile, profile.night_psi, profile.night_limit),
        }
    )


def _usual(profile: ColumnProfile, left_out: float | None, ahead: float | None) -> float:
    """What PSI stays below while all is well: of left-out dates, and of an input against its past.

    The score is held to its left-out dates alone: when it moves, readers see it.
    """
    return max(left_out or 0.0, (ahead or 0.0) if profile.name != SCORE else 0.0)


def _unseen(profile: ColumnProfile, counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float | None:
    return float(counts[-2] / counts.sum()) if profile.kind == "category" else None


def _chart(profile: ColumnProfile, found: NightColumn) -> Chart | None:
    fitted = fit_chart(profile.daily_values)
    if fitted is None or found.value is None:
        return None
    low, high = fitted.limits
    return Chart(value=found.value, low=low, high=high)


def measure_week(nights: Sequence[NightProfile], reference: Reference) -> tuple[ColumnWeek, ...]:
    """PSI of the trailing week against the whole reference; nothing where too few nights are there."""
    if not _is_a_week(nights):
        return ()
    return tuple(_week_of(column, nights) for column in reference.profile.columns if _is_compared(column, nights))


def _is_a_week(nights: Sequence[NightProfile]) -> bool:
    return sum(night.rows > 0 for night in nights) >= FEWEST_NIGHTS


def _is_compared(column: ColumnProfile, nights: Sequence[NightProfile]) -> bool:
    # Without left-out weeks nobody knows how far weeks lie apart by themselves.
    return (
        column.week_psi is not None
        and (column.column_class == "distribution" or column.name == SCORE)
        and all(column.name in night.columns or not night.rows for night in nights)
    )


def _week_of(column: ColumnProfile, nights: Sequence[NightProfile]) -> ColumnWeek:
    counts = np.sum([night.columns[column.name].counts for night in nights if night.rows], axis=0)
    usual = _usual(column, column.week_psi, column.week_limit)
    return ColumnWeek(name=column.name, psi=psi(column.reference, counts) or 0.0, psi_q99=usual)


def tell_week_apart(
    nights: Sequence[NightProfile], reference: Reference, pipeline: Pipeline
) -> DomainClassifier | None:  # fmt: skip
    """How well the trailing week is told from the reference; None where there is too little of either."""
    kinds = domain_kinds(pipeline, reference.profile)
    if not _is_a_week(nights) or not reference.domain_aucs:
        return None
    week = pl.concat([night.sample for night in nights if night.rows], how="vertical_relaxed")
    found = domain.tell_apart(reference.sample, week, kinds, SCORE_DATE)
    if found.auc is None:
        return None
    swapped = [
        f"{one.name}: {first} and {second} look swapped" for one in found.columns for first, second in one.swapped
    ]
    return DomainClassifier(
        auc=found.auc, threshold=domain.threshold(reference.domain_aucs),
        columns=tuple(one.name for one in found.columns), detail="; ".join(swapped),
    )  # fmt: skip


def find_swaps(night: NightProfile, reference: Reference, pipeline: Pipeline) -> tuple[Swap, ...]:
    """For each category, levels that took each other's place tonight; a column without any is there with none."""
    kinds = domain_kinds(pipeline, reference.profile)
    categories = [name for name, kind in kinds.items() if kind == "category"]
    return tuple(
        Swap(name=name, pairs=swapped_levels(reference.sample, night.sample, name, kinds)) for name in categories
    )
