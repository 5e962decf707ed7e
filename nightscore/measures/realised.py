"""Realised performance over mature score dates, beside the constant's and a challenger's, and curves at equal maturity.

The score date is the unit of evidence: every interval resamples whole dates (`bootstrap.py`, `control.py`), and with
too few dates or positives there are no figures at all but the word `insufficient`, never a number that looks like one.
Added here: a figure of labels that have come. Not here: which dates are mature, the metrics themselves (`metrics.py`),
a verdict between two models (`paired.py`), or what follows from it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal

import numpy as np

from nightscore.measures.bootstrap import Codes, Interval, metric_intervals, regression_metric_intervals
from nightscore.measures.control import daily_interval
from nightscore.measures.metrics import Mask, Vector, decision_metrics
from nightscore.measures.paired import losses

Task = Literal["binary", "regression"]
Insufficient = Literal["insufficient"]

INSUFFICIENT: Final = "insufficient"


@dataclass(frozen=True)
class Terms:
    """What is enough evidence, and how intervals are drawn; `min_positives` is of binary tasks only."""

    min_days: int = 10
    min_positives: int = 100
    confidence: float = 0.9
    resamples: int = 200
    seed: int = 0


DEFAULT_TERMS = Terms()


@dataclass(frozen=True)
class Predicted:
    """Probabilities, or of a regression predictions, (rows,), NaN where there is none.

    `decided` (rows,) is where the decision of a binary task is yes; without it there are no figures of decisions.
    """

    values: Vector
    decided: Mask | None = None


@dataclass(frozen=True)
class Realised:
    """What came true of one predictor, on the rows that have a label, its prediction and the model's.

    `figures` has the names of `metrics.py`. `excess_loss` is its mean loss (`paired.losses`) less that of the model on
    the same rows, above 0 where the model is better; None for the model itself. `positives` is None for a regression.
    """

    days: int
    rows: int
    positives: int | None
    figures: Mapping[str, Interval] | Insufficient
    excess_loss: Interval | Insufficient | None = None

    def as_json(self) -> dict[str, Any]:
        """Every figure by name."""
        figures = self.figures
        return {
            "days": self.days,
            "rows": self.rows,
            "positives": self.positives,
            "figures": figures if figures == INSUFFICIENT else {name: one.as_json() for name, one in figures.items()},
            "excess_loss": self.excess_loss.as_json() if isinstance(self.excess_loss, Interval) else self.excess_loss,
        }


@dataclass(frozen=True)
class Performance:
    """The model, the constant predictor, and the challenger if there is one."""

    task: Task
    model: Realised
    constant: Realised
    challenger: Realised | None

    def as_json(self) -> dict[str, Any]:
        """Every figure by predictor and name."""
        challenger = self.challenger.as_json() if self.challenger else None
        there = {"model": self.model.as_json(), "constant": self.constant.as_json()}
        return {"task": self.task, **there, "challenger": challenger}


def realised_performance(
    task: Task,
    dates: Codes,
    labels: Vector,
    model: Predicted,
    constant: float,
    constant_decided: bool | None = None,
    challenger: Predicted | None = None,
    terms: Terms = DEFAULT_TERMS,
) -> Performance:
    """Figures of all predictors over rows (rows,) of mature dates; `dates` tells them apart, `labels` NaN if unknown.

    `constant` predicts the same for every row, and decides `constant_decided` if it decides. The challenger is judged,
    and its days and positives are counted, only where it has a prediction too.
    """
    rows = len(labels)
    always = Predicted(
        np.full(rows, float(constant)), None if constant_decided is None else np.full(rows, constant_decided)
    )

    def of(one: Predicted) -> Realised:
        return _realised(task, dates, labels, model, one, terms)

    return Performance(task, of(model), of(always), None if challenger is None else of(challenger))


def _realised(
    task: Task, dates: Codes, labels: Vector, model: Predicted, predicted: Predicted, terms: Terms
) -> Realised:
    known = np.isfinite(labels) & np.isfinite(model.values) & np.isfinite(predicted.values)
    there, came, values = dates[known], labels[known], predicted.values[known]
    days, positives = len(np.unique(there)), int((came == 1).sum()) if task == "binary" else None
    if not days or days < terms.min_days or (positives is not None and positives < terms.min_positives):
        return Realised(days, len(came), positives, INSUFFICIENT, None if predicted is model else INSUFFICIENT)
    decided = None if predicted.decided is None else predicted.decided[known]
    figures = _figures(task, came, values, decided, there, terms)
    if predicted is model:
        return Realised(days, len(came), positives, figures)
    excess = losses(task, came, values) - losses(task, came, model.values[known])
    return Realised(days, len(came), positives, figures, _daily_mean(excess, there, terms))


def _figures(
    task: Task, labels: Vector, values: Vector, decided: Mask | None, dates: Codes, terms: Terms
) -> dict[str, Interval]:
    drawn = (terms.confidence, terms.resamples, terms.seed)
    if task == "regression":
        return regression_metric_intervals(labels, values, dates, *drawn)
    yes = labels == 1 if decided is None else decided
    found = metric_intervals(labels, values, yes, dates, *drawn)
    undecided = decision_metrics(labels, yes) if decided is None else {}
    return {name: one for name, one in found.items() if name not in undecided}


def _daily_mean(values: Vector, dates: Codes, terms: Terms) -> Interval:
    _, codes = np.unique(dates, return_inverse=True)
    totals, rows = np.bincount(codes, weights=values), np.bincount(codes)
    return daily_interval(totals.tolist(), rows.tolist(), terms.confidence, terms.resamples, terms.seed)


@dataclass(frozen=True)
class KnownFigure:
    """A figure of one score date as it was known on one date; None where it had no meaning then."""

    score_date: date
    known_on: date
    value: float | None

    @property
    def age_days(self) -> int:
        """Days from the score date to the date of the knowledge."""
        return (self.known_on - self.score_date).days


@dataclass(frozen=True)
class EqualMaturity:
    """The figure of each score date, in order of time, as it was known `age_days` later; None: nothing was, yet."""

    age_days: int
    figures: tuple[tuple[date, float | None], ...]


def curves_at_equal_maturity(
    figures: Iterable[KnownFigure], ages_days: Sequence[int] | None = None, until: date | None = None
) -> tuple[EqualMaturity, ...]:
    """A curve for each age, by default the `common_ages`, ascending; one figure a score date and date of knowledge.

    Knowledge lasts: a score date has at an age its newest figure known by then. A score date that had not reached an
    age by `until`, by default the newest date of knowledge, is left out of that curve.
    """
    given = sorted(figures, key=lambda one: (one.score_date, one.known_on))
    if not given:
        return ()
    last = until or max(one.known_on for one in given)
    by_date: dict[date, list[KnownFigure]] = defaultdict(list)
    for one in given:
        by_date[one.score_date].append(one)
    ages = common_ages(given) if ages_days is None else sorted(set(ages_days))
    return tuple(EqualMaturity(age, _curve(by_date, age, last)) for age in ages)


def common_ages(figures: Iterable[KnownFigure], fewest: int = 2) -> tuple[int, ...]:
    """The ages in days, ascending, at which `fewest` score dates or more have a figure of exactly that age."""
    found = Counter(age for _, age in {(one.score_date, one.age_days) for one in figures})
    return tuple(sorted(age for age, dates in found.items() if dates >= fewest))


def _curve(
    by_date: Mapping[date, Sequence[KnownFigure]], age_days: int, last: date
) -> tuple[tuple[date, float | None], ...]:
    age = timedelta(days=age_days)
    return tuple((day, _as_known(known, day + age)) for day, known in by_date.items() if day + age <= last)


def _as_known(figures: Sequence[KnownFigure], by: date) -> float | None:
    """The newest of `figures`, ascending, that was known by then."""
    return next((one.value for one in reversed(figures) if one.known_on <= by), None)
