"""Slimming: fewer trees that stay within what may be lost, or a refusal with the figures."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.catalog.models import ModelVersion
from nightscore.errors import NotEnoughData, PromotionRefused
from nightscore.registry.families import allowance
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import LightGbm
from nightscore.training.boosted import LightGbmModel
from nightscore.training.fit import Trained, train
from nightscore.training.matrix import encode
from nightscore.training.savings import savings_line
from nightscore.training.slimming import Diet, slim
from tests.unit.synthetic_flights import CONSTANT, LIGHTGBM, make_flights, make_pipeline, training_section


@cache
def flights(task: str = "binary") -> pl.DataFrame:
    return make_flights(dates=30, rows_per_date=80, task=task)


@cache
def pipeline(task: str = "binary", calibrated: bool = False) -> Pipeline:
    calibration = {"calibration": {"method": "sigmoid", "dates": 6}} if calibrated else {}
    section = training_section(
        algorithm=LIGHTGBM, baselines=[CONSTANT], folds=2, window_days=30, holdout_days=6, **calibration
    )
    return make_pipeline(task=task, training=section)


@cache
def trained(task: str = "binary", calibrated: bool = False) -> Trained:
    return train(flights(task), pipeline(task, calibrated))


@cache
def slimmed(task: str = "binary", calibrated: bool = False, max_loss: float = 0.2) -> Trained:
    return make(trained(task, calibrated), flights(task), max_loss)


def make(full: Trained, frame: pl.DataFrame, max_loss: float) -> Trained:
    algorithm = full.pipeline.training.algorithm
    assert isinstance(algorithm, LightGbm)
    assert isinstance(full.model, LightGbmModel)
    return slim(frame, full.pipeline, algorithm, (full.model, full.encoding), full.held_out, max_loss)


@pytest.mark.parametrize(("task", "calibrated"), [("binary", False), ("binary", True), ("regression", False)])
def test_a_slimmed_model_has_fewer_trees_and_is_measured_on_the_same_held_out_rows(task: str, calibrated: bool) -> None:
    made, full = slimmed(task, calibrated), trained(task, calibrated)
    told = made.metrics["slimming"]
    assert isinstance(made.model, LightGbmModel)
    assert made.model.trees == told["trees"] < told["full_trees"] == 25
    assert told["loss_share"] <= told["max_loss_share"] == 0.2
    key = ["score_date", "carrier", "flight", "label"]
    assert made.held_out.select(key).equals(full.held_out.select(key))
    assert made.metrics["algorithms"]["constant"] == full.metrics["algorithms"]["constant"]
    assert [made.metrics[part] for part in ("fit", "held_out", "all")] == [
        full.metrics[part] for part in ("fit", "held_out", "all")
    ]
    overall = made.metrics["algorithms"]["lightgbm"]["overall"]
    loss = overall["log_loss"] if task == "binary" else overall["rmse"] ** 2
    assert loss == pytest.approx(told["loss"], rel=1e-9)
    assert (made.calibrator.method == "sigmoid") == calibrated
    said = savings_line(made.metrics | {"slimming": told | {"of": 7}})
    assert said is not None
    assert said.startswith("Version 7 ")


def test_slimming_again_gives_the_same_whatever_the_order_of_rows() -> None:
    again = make(trained(), flights().sample(fraction=1, shuffle=True, seed=1), 0.2)
    assert again.model.to_bytes() == slimmed().model.to_bytes()
    assert (again.metrics, again.golden.equals(slimmed().golden)) == (slimmed().metrics, True)


def test_a_pruned_model_is_the_first_trees_and_a_distilled_one_is_taught() -> None:
    full, encoding, frame = trained().model, trained().encoding, flights()
    assert isinstance(full, LightGbmModel)
    algorithm = pipeline().training.algorithm
    assert isinstance(algorithm, LightGbm)
    from nightscore.training.fit import examples_of

    examples = examples_of(frame, encoding, pipeline())
    rows = encode(frame.select(encoding.names), encoding)
    pruned = Diet("pruned", 6).apply(full, examples, algorithm, "binary", 1)
    assert pruned.raw(rows).tobytes() == full.raw_of_first(rows, 6).tobytes()
    student = Diet("distilled", 6).apply(full, examples, algorithm, "binary", 1)
    assert student.trees == 6
    away = [np.abs(one.predict(rows) - full.predict(rows)).mean() for one in (student, pruned)]
    assert away[0] < away[1]
    assert Diet("distilled", 6).apply(full, examples, algorithm, "binary", 1).text == student.text


def test_a_loss_beyond_what_is_allowed_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightscore.training.slimming.choose_diet", lambda *_: (Diet("pruned", 1), {}))
    with pytest.raises(PromotionRefused, match="1 of 25 trees, pruned, lose") as failure:
        make(trained(), flights(), 0.01)
    (found,) = failure.value.found
    assert "at most 1 % may be lost" in found
    assert "log_loss 0." in found


def test_a_model_that_needs_all_its_trees_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"pruned_trees": 25, "distilled_trees": 0}
    monkeypatch.setattr("nightscore.training.slimming.choose_diet", lambda *_: (Diet("pruned", 25), needs))
    with pytest.raises(PromotionRefused, match="all 25 trees are needed; pruned 25, distilled never"):
        make(trained(), flights(), 0.01)


def test_folds_that_come_out_otherwise_are_refused() -> None:
    full = trained()
    moved = replace(full, held_out=full.held_out.with_columns(pl.col("_score") * (1 + 1e-15)))
    with pytest.raises(PromotionRefused, match="come out otherwise than they are stored"):
        make(moved, flights(), 0.2)


def test_a_window_without_dates_to_choose_by_is_refused() -> None:
    section = training_section(algorithm=LIGHTGBM, baselines=[], window_days=7, holdout_days=6, min_rows=1)
    few = make_pipeline(training=section)
    frame = flights().filter(pl.col("score_date") < pl.date(2013, 1, 8))
    with pytest.raises(NotEnoughData, match="1 score dates before the held-out ones"):
        make(train(frame, few), frame, 0.2)


def version(family: str | None, metrics: dict[str, Any]) -> ModelVersion:
    made: Any = object.__new__(ModelVersion)
    made.__dict__.update(family=family, metrics=metrics)
    return made


@pytest.mark.parametrize(
    ("champion", "challenger", "expected"),
    [
        (("a", {}), ("a", {"slimming": {"max_loss_share": 0.02}}), 0.02),
        (("a", {}), ("a", {"cascade": {"max_loss_share": 0.01}}), 0.01),
        (("a", {}), ("b", {"cascade": {"max_loss_share": 0.01}}), 0.0),
        (("a", {}), ("a", {}), 0.0),
        ((None, {}), (None, {"slimming": {"max_loss_share": 0.02}}), 0.0),
        (("a", {"cascade": {"max_loss_share": 0.01}}), ("a", {"slimming": {"max_loss_share": 0.02}}), 0.0),
    ],
)
def test_only_a_cheaper_version_of_the_champions_family_may_cost_something(
    champion: tuple[str | None, dict[str, Any]], challenger: tuple[str | None, dict[str, Any]], expected: float
) -> None:
    assert allowance(version(*champion), version(*challenger)) == expected
