"""Which score dates are learnt from, which calibrate, and which are held out: splits of dates, never of rows.

A fold knows no label that was not mature on the first night it is measured on.
Added here: another way to split dates. Not here: fitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from nightscore.spec.pipeline import Pipeline

Dates = tuple[date, ...]


@dataclass(frozen=True)
class Fold:
    """Dates to fit on, and the later ones that the fit is measured on."""

    fit: Dates
    evaluate: Dates


@dataclass(frozen=True)
class Split:
    """The dates of a training window: those that calibrate belong to neither training nor evaluation.

    `learn`: what the final model is fitted on, which is every date but those of `calibrate`.
    """

    learn: Dates
    calibrate: Dates
    folds: tuple[Fold, ...]

    @property
    def held_out(self) -> Dates:
        """The dates of all folds' evaluations."""
        return tuple(day for fold in self.folds for day in fold.evaluate)


def split_dates(dates: Sequence[date], pipeline: Pipeline) -> Split:
    """The split of the sorted `dates` of a window as the spec says: [fit][calibrate][held out].

    What calibrates is mature on the first night that is held out, like what is fitted on. Folds may have nothing to fit
    on where the window is too short; the caller judges.
    """
    training = pipeline.training
    calibrated = training.dates_apart
    at = max(len(dates) - training.holdout_days, 0)
    early, held_out = tuple(dates[:at]), tuple(dates[at:])
    mature = _mature(early, held_out[0], pipeline) if held_out else early
    calibrate = mature[max(len(mature) - calibrated, 0) :] if calibrated else ()
    learn = tuple(day for day in dates if day not in set(calibrate))
    steps = _parts(held_out, training.folds)
    return Split(learn, calibrate, tuple(_fold(learn, step, pipeline) for step in steps if step))


def tuning_folds(dates: Sequence[date], pipeline: Pipeline, folds: int, fold_days: int) -> tuple[Fold, ...]:
    """The last `folds` runs of `fold_days` dates, each with all that was mature before it; oldest first."""
    newest = tuple(dates[-folds * fold_days :])
    steps = [newest[at : at + fold_days] for at in range(0, len(newest), fold_days)]
    return tuple(_fold(tuple(dates), step, pipeline) for step in steps)


def _fold(dates: Dates, evaluate: Dates, pipeline: Pipeline) -> Fold:
    return Fold(_mature(dates, evaluate[0], pipeline), evaluate)


def _mature(dates: Dates, night: date, pipeline: Pipeline) -> Dates:
    """Those of `dates` whose labels are known on `night`."""
    last = night - timedelta(days=max(1, pipeline.label.horizon_days))
    return tuple(day for day in dates if day <= last)


def _parts(dates: Dates, parts: int) -> list[Dates]:
    """`dates` in runs of nearly equal length; earlier ones are the longer."""
    size, more = divmod(len(dates), parts)
    ends = [0]
    for at in range(parts):
        ends.append(ends[-1] + size + (at < more))
    return [dates[first:last] for first, last in pairwise(ends)]
