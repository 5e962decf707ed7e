"""Can a classifier tell this week's rows from the reference's? The only measure that sees columns change together.

Category codes that were swapped leave every column's own distribution nearly as it was; what changes is which codes
go with which values of other columns, and trees find that (Lopez-Paz & Oquab, Revisiting Classifier Two-Sample Tests,
2017). Folds are whole dates on both sides, so what one date alone looks like is no evidence. Season moves rows too:
the figure is judged against the reference's own left-out weeks, never against 0.5.
Give columns of the class `distribution` only: the date gives itself away by any other.
Added here: evidence from rows of two domains. Not here: the model that is watched, or when this is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.domain_scores import Domains, make_domains, score_out_of_fold, texts
from nightscore.measures.left_out import percentile
from nightscore.measures.metrics import Vector, roc_auc
from nightscore.measures.profiles import Kind
from nightscore.measures.swaps import FEWEST_ROWS, swapped_levels

ROWS = 20_000
LEAST_EXCESS = 0.15
FACTOR = 1.5
_LEVELS, _FEWEST_PAST = 5, 3


@dataclass(frozen=True)
class ColumnEvidence:
    """What a column adds to telling the domains apart.

    `auc_loss` is how much AUC goes when its values are shuffled, `level_aucs` how well rows of each level are told from
    the reference's rows of that level, the best first, at most five; `swapped` pairs of levels whose rows now look like
    the reference's rows of the other.
    """

    name: str
    auc_loss: float
    level_aucs: tuple[tuple[str, float], ...]
    swapped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DomainEvidence:
    """AUC of telling the domains apart, 0.5 by chance; None with fewer than two dates or 30 rows on a side.

    `columns` are the strongest first.
    """

    auc: float | None
    reference_rows: int
    current_rows: int
    columns: tuple[ColumnEvidence, ...]

    def as_json(self) -> dict[str, Any]:
        """Every figure by name."""
        return asdict(self)


def tell_apart(
    reference: pl.DataFrame, current: pl.DataFrame, kinds: Mapping[str, Kind], date_column: str, strongest: int = 3
) -> DomainEvidence:
    """How well `current` is told from `reference` by the columns `kinds`, and by which `strongest` ones.

    Of each side 20,000 rows are drawn at most, the same for the same rows in the same order.
    """
    old, new = _drawn(reference), _drawn(current)
    if not _are_enough(old, new, date_column) or not kinds:
        return DomainEvidence(None, len(old), len(new), ())
    domains = make_domains(old, new, kinds, date_column)
    scored = score_out_of_fold(domains, shuffle=True)
    if scored.auc is None:
        return DomainEvidence(None, len(old), len(new), ())
    losses = dict(zip(kinds, (scored.auc - scored.shuffled).tolist(), strict=True))
    named = sorted(losses, key=lambda name: -losses[name])[:strongest]
    found = [_evidence(name, losses[name], old, new, domains, scored.scores) for name in named]
    # A swapped column breaks what others had to do with it, so that they weigh as much: the swapped one is named first.
    return DomainEvidence(
        scored.auc, len(old), len(new), tuple(sorted(found, key=lambda one: (not one.swapped, -one.auc_loss)))
    )


def left_out_aucs(reference: pl.DataFrame, kinds: Mapping[str, Kind], date_column: str) -> tuple[float, ...]:
    """The AUC of each whole week of `reference` against the weeks before it, as a week to come will be compared.

    The first three have too little of a past, and are compared with all others. Weeks end with the last date.
    """
    dates = reference[date_column].unique().sort().to_list()
    weeks = ((dates[-1] - dates[0]).days + 1) // 7 if dates else 0
    found = [_left_out_auc(reference, kinds, date_column, dates[-1], week, weeks) for week in range(weeks)]
    return tuple(auc for auc in found if auc is not None)


def threshold(left_out: Sequence[float], least_excess: float = LEAST_EXCESS, factor: float = FACTOR) -> float:
    """0.5 and `factor` times what the 99th percentile of left-out weeks has above it, `least_excess` at least."""
    found = percentile(np.array(left_out), 0.99)
    return 0.5 + max(least_excess, factor * (found - 0.5) if found is not None else 0.0)


def _left_out_auc(
    reference: pl.DataFrame, kinds: Mapping[str, Kind], date_column: str, last: date, week: int, weeks: int
) -> float | None:
    ago = (pl.lit(last) - pl.col(date_column)).dt.total_days() // 7
    others = ago > week if week < weeks - _FEWEST_PAST else ago != week
    old, new = _drawn(reference.filter(others)), _drawn(reference.filter(ago == week))
    if not _are_enough(old, new, date_column) or not kinds:
        return None
    return score_out_of_fold(make_domains(old, new, kinds, date_column), shuffle=False).auc


def _are_enough(old: pl.DataFrame, new: pl.DataFrame, date_column: str) -> bool:
    return all(len(side) >= FEWEST_ROWS and side[date_column].n_unique() > 1 for side in (old, new))


def _drawn(frame: pl.DataFrame) -> pl.DataFrame:
    """At most 20,000 rows, in their order."""
    if len(frame) <= ROWS:
        return frame
    return frame[np.sort(np.random.default_rng(0).choice(len(frame), ROWS, replace=False))]


def _evidence(
    name: str, loss: float, old: pl.DataFrame, new: pl.DataFrame, domains: Domains, scores: Vector
) -> ColumnEvidence:
    if domains.kinds[name] == "number":
        return ColumnEvidence(name, loss, (), ())
    return ColumnEvidence(
        name, loss, _level_aucs(texts(old, new, name), domains, scores), swapped_levels(old, new, name, domains.kinds)
    )


def _level_aucs(levels: pl.Series, domains: Domains, scores: Vector) -> tuple[tuple[str, float], ...]:
    """Of levels with 30 scored rows on both sides; the five highest."""
    found: list[tuple[str, float]] = []
    for level in levels.drop_nulls().unique().sort():
        own = (levels == level).fill_null(value=False).to_numpy() & np.isfinite(scores)
        auc = roc_auc(domains.current[own], scores[own])
        if auc is not None and min(np.bincount(domains.current[own].astype(np.int64), minlength=2)) >= FEWEST_ROWS:
            found.append((level, auc))
    return tuple(sorted(found, key=lambda one: (-one[1], one[0]))[:_LEVELS])
