"""Folds: dates are split, never rows, and no fold knows a label that was not mature when its dates began."""

from datetime import date, timedelta
from functools import cache
from typing import Any

import polars as pl
import pytest

from nightscore.errors import NotEnoughData
from nightscore.spec.pipeline import Pipeline
from nightscore.training.fit import Trained, train
from nightscore.training.folds import split_dates, tuning_folds
from tests.unit.synthetic_flights import CONSTANT, LIGHTGBM, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
DATES = [date(2013, 1, 1) + timedelta(days=at) for at in range(20)]
CALIBRATION = {"method": "sigmoid", "dates": 6}


def pipeline_with(horizon_days: int = 1, **training: Any) -> Pipeline:
    label = {"model": "labels", "column": "label", "horizon_days": horizon_days}
    section = training_section(**{"baselines": [CONSTANT], **training})
    return make_pipeline(label=label, training=section)


def days(dates: tuple[date, ...]) -> list[int]:
    return [day.day for day in dates]


def test_one_fold_is_fitted_on_all_before_the_held_out_dates() -> None:
    split = split_dates(DATES, pipeline_with(holdout_days=5))
    assert (split.learn, split.calibrate, split.held_out) == (tuple(DATES), (), tuple(DATES[15:]))
    assert [(days(fold.fit), days(fold.evaluate)) for fold in split.folds] == [
        (list(range(1, 16)), [16, 17, 18, 19, 20]),
    ]


def test_each_fold_learns_what_was_mature_when_it_began_and_never_from_what_calibrates() -> None:
    training = {"holdout_days": 5, "folds": 2, "calibration": {"method": "isotonic", "dates": 3}}
    split = split_dates(DATES, pipeline_with(horizon_days=2, **training))
    assert (days(split.learn), days(split.calibrate)) == ([*range(1, 12), *range(15, 21)], [12, 13, 14])
    assert [(days(fold.fit), days(fold.evaluate)) for fold in split.folds] == [
        (list(range(1, 12)), [16, 17, 18]),
        ([*range(1, 12), 15, 16, 17], [19, 20]),
    ]


@pytest.mark.parametrize("dates", [[], DATES[:3], DATES[:5]])
def test_a_short_window_leaves_nothing_to_fit_on(dates: list[date]) -> None:
    split = split_dates(dates, pipeline_with(holdout_days=5, folds=2, calibration=CALIBRATION))
    assert split.held_out == tuple(dates)
    assert [fold.fit for fold in split.folds[:1]] == [()] * (len(dates) > 0)


def test_tuning_folds_end_with_the_newest_date() -> None:
    folds = tuning_folds(DATES, pipeline_with(horizon_days=3), 2, 4)
    assert [(days(fold.fit)[-1], days(fold.evaluate)) for fold in folds] == [
        (10, [13, 14, 15, 16]),
        (14, [17, 18, 19, 20]),
    ]


@cache
def rolled(flipped_from: date | None = None, flipped_to: date | None = None, horizon_days: int = 2) -> Trained:
    """Four folds over 2 to 9 February, with labels turned around from one date to another."""
    within = pl.col("score_date").is_between(flipped_from or date.max, flipped_to or date.max)
    frame = FLIGHTS.with_columns(label=pl.when(within).then(1 - pl.col("label")).otherwise("label"))
    return train(frame, pipeline_with(horizon_days=horizon_days, folds=4, calibration=CALIBRATION))


def test_the_spans_of_all_parts_are_kept() -> None:
    metrics = rolled().metrics
    assert {name: metrics[name] for name in ("fit", "calibrate", "held_out", "all")} == {
        "fit": {"first": "2013-01-01", "last": "2013-02-06", "dates": 31, "rows": 4650},
        "calibrate": {"first": "2013-01-26", "last": "2013-01-31", "dates": 6, "rows": 900},
        "held_out": {"first": "2013-02-02", "last": "2013-02-09", "dates": 8, "rows": 1200},
        "all": {"first": "2013-01-01", "last": "2013-02-09", "dates": 40, "rows": 6000},
    }


def changed_dates(one: Trained, other: Trained, column: str) -> list[int]:
    """Days of February on which a held-out row came out otherwise."""
    moved = one.held_out.filter(one.held_out[column] != other.held_out[column])
    return [day.day for day in moved["score_date"].unique().sort()]


def test_a_label_reaches_only_folds_that_begin_when_it_is_mature() -> None:
    flipped = rolled(date(2013, 2, 3), date(2013, 2, 3))
    assert changed_dates(rolled(), flipped, "_score") == [6, 7, 8, 9]
    assert changed_dates(rolled(), flipped, "_probability") == [6, 7, 8, 9]


def test_labels_that_calibrate_move_probabilities_and_no_score_or_model() -> None:
    flipped = rolled(date(2013, 1, 26), date(2013, 1, 31))
    assert changed_dates(rolled(), flipped, "_score") == []
    assert changed_dates(rolled(), flipped, "_probability") == [2, 3, 4, 5, 6, 7, 8, 9]
    assert flipped.model.to_bytes() == rolled().model.to_bytes()
    assert flipped.calibrator != rolled().calibrator


def test_the_final_model_learns_held_out_labels_and_its_calibrator_does_not() -> None:
    flipped = rolled(date(2013, 2, 9), date(2013, 2, 9))
    assert flipped.model.to_bytes() != rolled().model.to_bytes()
    assert flipped.held_out.drop("label").equals(rolled().held_out.drop("label"))


def test_row_order_changes_no_fold() -> None:
    shuffled = FLIGHTS.sample(fraction=1, shuffle=True, seed=3)
    again = train(shuffled, pipeline_with(horizon_days=2, folds=4, calibration=CALIBRATION))
    assert again.held_out.equals(rolled().held_out)
    assert (again.metrics, again.calibrator) == (rolled().metrics, rolled().calibrator)


@pytest.mark.parametrize(
    ("change", "training", "found"),
    [
        (pl.col("label"), {"holdout_days": 35, "calibration": CALIBRATION},
         ("40 score dates, expected more than the 35 that are held out and the 6 that calibrate",)),
        (pl.col("label") * 0, {"folds": 2, "calibration": CALIBRATION},
         ("one class only, 0, on the dates to fit on of fold 1", "one class only, 0, on the dates to fit on of fold 2",
          "one class only, 0, on the dates that calibrate",
          "one class only, 0, on all dates but those that calibrate")),
        (pl.when(pl.col("score_date").is_between(date(2013, 1, 27), date(2013, 2, 1))).then(1).otherwise("label"),
         {"calibration": CALIBRATION}, ("one class only, 1, on the dates that calibrate",)),
    ],
)  # fmt: skip
def test_every_shortage_of_a_part_is_named(change: pl.Expr, training: dict[str, Any], found: tuple[str, ...]) -> None:
    with pytest.raises(NotEnoughData) as failure:
        train(FLIGHTS.with_columns(change.alias("label")), pipeline_with(**training))
    assert failure.value.found == found


def test_too_few_rows_to_calibrate_are_named() -> None:
    few = pl.col("score_date").is_between(date(2013, 1, 27), date(2013, 2, 1)) & (pl.col("flight") % 25 > 0)
    with pytest.raises(NotEnoughData) as failure:
        train(FLIGHTS.filter(~few), pipeline_with(calibration=CALIBRATION))
    assert failure.value.found == ("36 rows on the dates that calibrate, expected at least 50",)


def test_labels_that_mature_after_the_held_out_dates_begin_leave_nothing_to_fit_on() -> None:
    with pytest.raises(NotEnoughData, match="no score date is mature by the first that is held out, 2013-02-02"):
        train(FLIGHTS, pipeline_with(horizon_days=40))


def test_algorithms_are_all_measured_on_the_same_folds() -> None:
    algorithms = train(FLIGHTS, pipeline_with(folds=3, algorithm=LIGHTGBM)).metrics["algorithms"]
    rows = {name: [one["rows"] for one in figures["by_date"]] for name, figures in algorithms.items()}
    assert rows == {"lightgbm": [150] * 8, "constant": [150] * 8}
    assert len({one["log_loss"] for one in algorithms["constant"]["by_date"]}) == 8
