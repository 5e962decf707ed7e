"""What a night's rows, and the week behind it, show beside the reference of the model that scored them.

Nothing is fitted but the classifier that tells weeks apart, on samples, so nothing here grows with the rows.
Added here: a figure of the profile of a night or a week. Not here: how the rows of a night are counted (`profile.py`),
freshness and outcomes, which need more than rows (`freshness.py`, `nightscore/monitoring`), or what the figures are
judged by (`levels.py`).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from nightscore.measures import domain
from nightscore.measures.control import fit_chart
from nightscore.measures.distances import psi
from nightscore.measures.profiles import ColumnProfile
from nightscore.measures.swaps import swapped_levels
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE
from nightscore.training.reference import SCORE, Reference, domain_kinds
from nightscore.watch.evidence import Chart, ColumnNight, ColumnWeek, DomainClassifier, Swap
from nightscore.watch.profile import NightColumn, NightProfile

WEEK_DAYS, FEWEST_NIGHTS = 7, 5
"""Of the trailing days: with fewer nights a week is not compared."""


def measure_columns(night: NightProfile, reference: Reference) -> tuple[ColumnNight, ...]:
    """Every profiled column tonight; of one that follows the calendar, only nulls mean anything."""
    return tuple(
        _measure(column, night.columns[column.name], night.night.weekday())
        for column in reference.profile.columns
        if night.has(column.name)
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
        and all(night.has(column.name) or not night.rows for night in nights)
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
