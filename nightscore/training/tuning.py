"""A search for better settings: trials measured on rolling-origin folds, hopeless ones stopped early, one chosen.

What a trial comes to depends on the data, the spec and the trials with smaller numbers, never on time or on who ran
them. The dates that calibrate and those that are held out are not looked at, so evaluation stays honest.
Added here: a rule of measuring, stopping or choosing. Not here: which settings a trial has (`search.py`), or storage.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from nightscore.errors import NotEnoughData, SpecError
from nightscore.measures.paired import losses
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Alone, Cascade
from nightscore.spec.tuning import Tuning
from nightscore.training.algorithms import fit_algorithm
from nightscore.training.folds import Fold, split_dates, tuning_folds
from nightscore.training.matrix import SCORE_DATE, Examples, Vector, encode, fit_encoding, row_key
from nightscore.training.search import INCUMBENT, settings_of

Status = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class DayLoss:
    """The mean loss of one date's rows."""

    score_date: date
    rows: int
    loss: float


Folds = tuple[tuple[DayLoss, ...], ...]


@dataclass(frozen=True)
class TrialResult:
    """What one trial came to; `folds` are those it was measured on, all of them when it is done.

    Losses are log loss in nats (binary) or squared error (regression), means over rows.
    """

    number: int
    status: Status
    settings: Mapping[str, Any]
    folds: Folds
    seconds: float
    reason: str = ""

    @property
    def days(self) -> tuple[DayLoss, ...]:
        """The measured dates, oldest first."""
        return tuple(day for fold in self.folds for day in fold)

    @property
    def fold_losses(self) -> tuple[float, ...]:
        """The mean loss on each fold."""
        return tuple(_mean_and_error(*_daily(fold))[0] for fold in self.folds)

    @property
    def loss(self) -> float | None:
        """The mean loss over every measured row; None when no fold was measured."""
        return _mean_and_error(*_daily(self.days))[0] if self.folds else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean loss, over dates; None with fewer than two."""
        return _mean_and_error(*_daily(self.days))[1] if self.folds else None

    def as_metrics(self) -> dict[str, Any]:
        """What the catalog keeps beside number, status, settings and seconds, as JSON."""
        days = [[{"score_date": str(day.score_date), "rows": day.rows, "loss": day.loss} for day in fold]
                for fold in self.folds]  # fmt: skip
        figures = {"loss": self.loss, "standard_error": self.standard_error, "fold_losses": list(self.fold_losses)}
        return figures | {"folds": days, "reason": self.reason}

    @classmethod
    def from_metrics(
        cls, number: int, status: Status, settings: Mapping[str, Any], metrics: Mapping[str, Any], seconds: float
    ) -> Self:
        """The inverse of `as_metrics`, to the last bit."""
        folds = tuple(
            tuple(DayLoss(date.fromisoformat(day["score_date"]), day["rows"], float(day["loss"])) for day in fold)
            for fold in metrics["folds"]
        )
        return cls(number, status, settings, folds, seconds, metrics["reason"])


@dataclass(frozen=True)
class Choice:
    """The trial whose settings the spec should have, and why."""

    trial: TrialResult
    reason: str

    @property
    def keeps_incumbent(self) -> bool:
        """Whether the spec stays as it is."""
        return self.trial.number == INCUMBENT


def require_tuning(pipeline: Pipeline) -> Tuning:
    """The spec's tuning section; SpecError when it has none."""
    tuning = pipeline.training.tuning
    if tuning is None:
        found, remedy = "the spec has no section training.tuning", "say there what may be tried: docs/experiments.md"
        raise SpecError(f"Tuning {pipeline.name}", found, remedy)
    return tuning


def tune(
    frame: pl.DataFrame, pipeline: Pipeline, known: Mapping[int, TrialResult], budget_left: Callable[[], bool],
    clock: Callable[[], float],
) -> Iterator[TrialResult]:  # fmt: skip
    """Each trial that is not `known` yet, as soon as it is measured, while there is budget; trial 0 in any case.

    `frame`: a training set, in any row order. `clock` tells seconds. Raises SpecError without a tuning section, and
    NotEnoughData with every reason when the dates before the held-out ones do not make the folds.
    """
    tuning, rows = require_tuning(pipeline), frame.sort(row_key(pipeline))
    folds, results = _make_folds(rows, pipeline, tuning), dict(known)
    for number in range(tuning.trials):
        if number in results:
            continue
        if number != INCUMBENT and not budget_left():
            return
        leader = _leader(result for result in results.values() if result.number < number)
        results[number] = _run_trial(rows, pipeline, folds, number, leader, clock)
        yield results[number]


def best_of(results: Iterable[TrialResult]) -> Choice:
    """The finished trial with the smallest loss; the incumbent, while it is within one standard error of that one.

    The standard error is that of the paired daily difference. Raises SpecError when no trial is done.
    """
    tried = sorted(results, key=lambda result: result.number)
    best = _leader(tried)
    if best is None:
        found = [f"trial {one.number} {one.status}: {one.reason}" for one in tried] or ["no trial was measured"]
        raise SpecError("Choosing settings", found, "change training.algorithm or training.tuning.space")
    incumbent = next((one for one in tried if one.number == INCUMBENT and one.status == "done"), None)
    if incumbent is None:
        return Choice(best, f"trial {best.number} has the smallest loss; the spec's own settings could not be measured")
    if best is incumbent:
        return Choice(incumbent, "no trial is better than the spec's own settings")
    worse, error = _compare(incumbent.days, best.days)
    gain = f"trial {best.number} is better than the spec's own settings by {worse:.6f}"
    if error is None or worse <= error:
        bound = "one date only" if error is None else f"within one standard error ({error:.6f} over dates)"
        return Choice(incumbent, f"{gain}, {bound}; the spec's own settings stay")
    return Choice(best, f"{gain}, more than one standard error ({error:.6f} over dates)")


def _make_folds(rows: pl.DataFrame, pipeline: Pipeline, tuning: Tuning) -> tuple[Fold, ...]:
    split = split_dates(rows[SCORE_DATE].unique().sort().to_list(), pipeline)
    dates = [day for day in split.learn if day not in set(split.held_out)]
    folds = tuning_folds(dates, pipeline, tuning.folds, tuning.fold_days)
    found = [*_missing_dates(dates, tuning), *_unusable_folds(rows, folds, pipeline)]
    if found:
        remedy = "tune for a later night, or change training.tuning.folds, fold_days or training.window_days"
        raise NotEnoughData(f"Tuning {pipeline.name}", found, remedy)
    return folds


def _missing_dates(dates: Sequence[date], tuning: Tuning) -> Iterator[str]:
    measured = tuning.folds * tuning.fold_days
    if len(dates) <= measured:
        yield (
            f"{len(dates)} score dates beside those that calibrate or are held out, expected more than the {measured} "
            "of the folds"
        )


def _unusable_folds(rows: pl.DataFrame, folds: Sequence[Fold], pipeline: Pipeline) -> Iterator[str]:
    for fold in folds:
        labels = _rows_of(rows, fold.fit)[pipeline.label.column]
        if not len(labels):
            yield f"nothing is mature before {fold.evaluate[0]}, where a fold begins"
        elif pipeline.task == "binary" and labels.n_unique() < 2:
            yield f"one class only, {labels[0]}, before {fold.evaluate[0]}, where a fold begins"


def _run_trial(
    rows: pl.DataFrame, pipeline: Pipeline, folds: Sequence[Fold], number: int, leader: TrialResult | None,
    clock: Callable[[], float],
) -> TrialResult:  # fmt: skip
    from lightgbm.basic import LightGBMError

    begun, training = clock(), pipeline.training
    assert not isinstance(training.algorithm, Cascade)
    algorithm = settings_of(require_tuning(pipeline).space, training.algorithm, training.seed, number)
    settings, measured = algorithm.model_dump(mode="json"), Folds()

    def result(status: Status, reason: str = "") -> TrialResult:
        return TrialResult(number, status, settings, measured, clock() - begun, reason)

    for fold in folds:
        try:
            measured = (*measured, _measure(rows, fold, pipeline, algorithm))
        except (ValueError, ArithmeticError, LightGBMError) as error:
            return result("failed", f"{type(error).__name__}: {error}")
        if len(measured) < len(folds) and (reason := _hopeless(measured, leader)):
            return result("pruned", f"after {len(measured)} of {len(folds)} folds {reason}")
    return result("done")


def _measure(rows: pl.DataFrame, fold: Fold, pipeline: Pipeline, algorithm: Alone) -> tuple[DayLoss, ...]:
    """Fit on the past of a fold, lose on its dates; ValueError when a loss is no finite number."""
    early, late, column = _rows_of(rows, fold.fit), _rows_of(rows, fold.evaluate), pipeline.label.column
    encoding = fit_encoding(early, pipeline)
    matrices = [encode(part.select(encoding.names), encoding) for part in (early, late)]
    labels = [part[column].cast(pl.Float64).to_numpy() for part in (early, late)]
    examples = Examples(matrices[0], labels[0], encoding)
    model = fit_algorithm(algorithm, examples, pipeline.task, pipeline.training.seed)
    lost = losses(pipeline.task, labels[1], model.predict(matrices[1]))
    if not np.isfinite(lost).all():
        raise ValueError(f"the loss of {int((~np.isfinite(lost)).sum())} rows is not finite")
    return tuple(_day_loss(day, lost[(late[SCORE_DATE] == day).to_numpy()]) for day in fold.evaluate)


def _rows_of(rows: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
    return rows.filter(pl.col(SCORE_DATE).is_in(pl.Series(dates, dtype=pl.Date).implode()))


def _day_loss(day: date, lost: Vector) -> DayLoss:
    return DayLoss(day, len(lost), float(lost.mean()))


def _leader(results: Iterable[TrialResult]) -> TrialResult | None:
    """The finished trial with the smallest loss, of equal ones the first."""
    done = [(result.loss, result.number, result) for result in results if result.status == "done"]
    return min(done, key=lambda one: one[:2])[2] if done else None


def _hopeless(measured: Folds, leader: TrialResult | None) -> str:
    """Why a trial is not worth another fold, or nothing."""
    if leader is None:
        return ""
    worse, error = _compare([day for fold in measured for day in fold], leader.days)
    if error is None or worse <= error:
        return ""
    return f"worse than trial {leader.number} by {worse:.6f}, more than one standard error ({error:.6f} over dates)"


def _compare(days: Sequence[DayLoss], others: Sequence[DayLoss]) -> tuple[float, float | None]:
    """By how much more is lost on `days` than by another on them, the first of `others`; its standard error."""
    lost, rows = _daily(days)
    return _mean_and_error(lost - _daily(others[: len(days)])[0], rows)


def _daily(days: Sequence[DayLoss]) -> tuple[Vector, Vector]:
    return np.array([day.loss for day in days]), np.array([day.rows for day in days], dtype=np.float64)


def _mean_and_error(values: Vector, rows: Vector) -> tuple[float, float | None]:
    """The mean of daily values weighted by rows, and its standard error by linearisation: dates are the clusters."""
    mean, dates = float((values * rows).sum() / rows.sum()), len(values)
    if dates < 2:
        return mean, None
    residuals = rows * (values - mean)
    return mean, float(np.sqrt(dates / (dates - 1) * (residuals**2).sum()) / rows.sum())
