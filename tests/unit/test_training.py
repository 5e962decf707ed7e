"""Training: held-out score dates, baselines, the same model whatever the row order, and every shortage named."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.errors import FeatureBuildFailed, NotEnoughData
from nightscore.registry.capsule import function_hash
from nightscore.training.fit import EXPECTED, EXPECTED_SCORE, Trained, train
from nightscore.training.linear import LinearModel
from nightscore.training.matrix import encode
from tests.unit.synthetic_flights import ALGORITHMS, LIGHTGBM, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
FEATURES = make_pipeline().feature_names


@cache
def trained(algorithm: str = "lightgbm", task: str = "binary") -> Trained:
    return train(make_flights(task=task), make_pipeline(algorithm, task, training=_section(algorithm)))


def _section(algorithm: str) -> dict[str, Any]:
    settings = {"algorithm": ALGORITHMS[algorithm]}
    return training_section(**settings) if algorithm == "lightgbm" else training_section(**settings, baselines=[])


def test_the_last_score_dates_are_held_out_and_the_final_model_sees_all() -> None:
    metrics = trained().metrics
    assert {name: metrics[name] for name in ("algorithm", "fit", "held_out", "all")} == {
        "algorithm": "lightgbm",
        "fit": {"first": "2013-01-01", "last": "2013-02-01", "dates": 32, "rows": 4800},
        "held_out": {"first": "2013-02-02", "last": "2013-02-09", "dates": 8, "rows": 1200},
        "all": {"first": "2013-01-01", "last": "2013-02-09", "dates": 40, "rows": 6000},
    }


def test_held_out_labels_do_not_reach_the_evaluated_models() -> None:
    late = pl.col("score_date") >= pl.date(2013, 2, 2)
    flipped = FLIGHTS.with_columns(label=pl.when(late).then(1 - pl.col("label")).otherwise("label"))
    auc = [train(frame, make_pipeline()).metrics["algorithms"]["lightgbm"]["overall"]["roc_auc"]
           for frame in (FLIGHTS, flipped)]  # fmt: skip
    assert auc[0] + auc[1] == pytest.approx(1, abs=1e-12)


def test_the_signal_is_found_and_the_constant_knows_nothing() -> None:
    overall = {name: figures["overall"] for name, figures in trained().metrics["algorithms"].items()}
    assert list(overall) == ["lightgbm", "linear", "constant"]
    assert (overall["lightgbm"]["roc_auc"] > 0.65, overall["linear"]["roc_auc"] > 0.65) == (True, True)
    assert overall["constant"]["roc_auc"] == 0.5
    assert overall["lightgbm"]["log_loss"] < overall["constant"]["log_loss"]


def test_figures_are_cut_by_date_and_by_segment() -> None:
    figures = trained().metrics["algorithms"]["lightgbm"]
    assert [row["rows"] for row in figures["by_date"]] == [150] * 8
    losses = [row["log_loss"] * row["rows"] for row in figures["by_date"]]
    assert sum(losses) / 1200 == pytest.approx(figures["overall"]["log_loss"], abs=1e-12)
    assert {name: sum(level["rows"] for level in levels) for name, levels in figures["segments"].items()} == {
        "carrier": 1200,
        "weekend": 1200,
    }


def test_importance_names_every_feature() -> None:
    importance = trained().importance
    assert tuple(importance) == FEATURES
    assert importance["hour"] > importance["weekend"]


def test_golden_rows_spread_over_the_frame_and_carry_the_final_scores() -> None:
    final = trained()
    golden = final.golden
    expected = final.model.predict(encode(golden.drop(EXPECTED), final.encoding))
    assert (golden.height, golden.columns) == (200, [*FEATURES, *EXPECTED])
    assert golden[EXPECTED_SCORE].to_numpy().tobytes() == expected.tobytes()
    assert golden.row(0)[:5] == FLIGHTS.select(FEATURES).row(0)
    assert golden.row(-1)[:5] == FLIGHTS.select(FEATURES).row(-1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_shuffled_rows_train_the_same_model(algorithm: str) -> None:
    shuffled = FLIGHTS.sample(fraction=1, shuffle=True, seed=1).select(reversed(FLIGHTS.columns))
    pipeline = make_pipeline(algorithm, training=_section(algorithm))
    again = train(shuffled, pipeline)
    assert again.model.to_bytes() == trained(algorithm).model.to_bytes()
    assert again.metrics == trained(algorithm).metrics
    assert again.golden.equals(trained(algorithm).golden)


def test_the_linear_model_scores_as_scikit_learn_does() -> None:
    for task in ("binary", "regression"):
        final = trained("linear", task)
        assert isinstance(final.model, LinearModel)
        matrix = encode(FLIGHTS.select(FEATURES), final.encoding)
        pipeline = final.model.pipeline
        expected = pipeline.predict_proba(matrix)[:, 1] if task == "binary" else pipeline.predict(matrix)
        np.testing.assert_allclose(final.model.predict(matrix), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_regression_trains_and_evaluates(algorithm: str) -> None:
    metrics = trained(algorithm, "regression").metrics
    overall = metrics["algorithms"][algorithm]["overall"]
    assert set(overall) == {"rmse", "mae", "r2", "mean_bias"}
    assert (overall["r2"] > 0.5) == (algorithm != "constant")
    assert set(metrics["algorithms"][algorithm]["by_date"][0]) == {"score_date", "rows", "rmse"}


def test_features_without_categories_or_without_numbers_train_too() -> None:
    columns = [column.model_dump() for column in make_pipeline().features.columns]
    for kinds in ({"category"}, {"float", "integer", "boolean"}):
        kept = [column for column in columns if column["type"] in kinds]
        pipeline = make_pipeline("linear", features={"model": "features", "columns": kept})
        dropped = [c["name"] for c in columns if c not in kept and c["name"] != "carrier"]
        assert train(FLIGHTS.drop(dropped), pipeline).metrics["algorithm"] == "linear"


def test_a_feature_without_any_value_trains() -> None:
    frame = FLIGHTS.with_columns(wind=pl.lit(None, pl.Float64), gate=pl.lit(None, pl.Int64))
    final = train(frame, make_pipeline("linear"))
    pipeline = final.model.pipeline  # type: ignore[attr-defined]
    matrix = encode(FLIGHTS.select(FEATURES), final.encoding)
    np.testing.assert_allclose(final.model.predict(matrix), pipeline.predict_proba(matrix)[:, 1], rtol=0, atol=1e-10)


def test_a_top_k_rule_is_measured_night_by_night() -> None:
    pipeline = make_pipeline(decision={"rule": {"type": "top_k", "k": 15}})
    overall = train(FLIGHTS, pipeline).metrics["algorithms"]["lightgbm"]["overall"]
    positives = FLIGHTS.filter(pl.col("score_date") >= pl.date(2013, 2, 2))["label"].sum()
    assert overall["precision"] * 15 * 8 == pytest.approx(overall["recall"] * positives)


def test_two_baselines_of_one_type_keep_their_figures() -> None:
    baselines = [{**LIGHTGBM, "trees": 3}, {"type": "constant"}]
    metrics = train(FLIGHTS, make_pipeline(training=training_section(baselines=baselines))).metrics
    assert list(metrics["algorithms"]) == ["lightgbm", "lightgbm_2", "constant"]


def test_the_function_hash_ignores_parameters_and_sees_every_leaf() -> None:
    final = trained()
    text = final.model.to_bytes().decode()

    def rehash(change: Callable[[str], str]) -> str:
        return function_hash(replace(final, model=replace(final.model, text=change(text))))  # type: ignore[type-var]

    leaf = next(line for line in text.splitlines() if line.startswith("leaf_value="))
    other_leaf = leaf.replace("=", "=9", 1)
    assert rehash(lambda t: t.replace("[num_threads: 1]", "[num_threads: 2]")) == function_hash(final)
    assert rehash(lambda t: t.replace(leaf, other_leaf, 1)) != function_hash(final)


def test_a_known_model_has_its_known_function() -> None:
    """It changes when a release of LightGBM, or this project, computes another function from the same rows."""
    assert function_hash(trained()) == "81bea429b40c5f994020d8cb209d81365f0a4b61ea4f7b1d8a1936f84aec54fc"


def test_every_shortage_is_named() -> None:
    few = FLIGHTS.head(450).with_columns(label=0)
    with pytest.raises(NotEnoughData) as failure:
        train(few, make_pipeline())
    assert failure.value.found == (
        "450 rows, expected at least 500",
        "3 score dates, expected more than the 8 that are held out",
        "one class only, 0, on all dates",
    )


def test_one_class_before_the_held_out_dates_is_not_enough() -> None:
    early = pl.col("score_date") < pl.date(2013, 2, 2)
    frame = FLIGHTS.with_columns(label=pl.when(early).then(1).otherwise("label"))
    with pytest.raises(NotEnoughData, match="one class only, 1, on the dates to fit on"):
        train(frame, make_pipeline())


def test_an_empty_frame_is_not_enough() -> None:
    with pytest.raises(NotEnoughData, match="0 rows, expected at least 500"):
        train(FLIGHTS.clear(), make_pipeline())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: pl.concat([f, f.head(3)]), "6 rows share a key (score_date, carrier, flight)"),
        (lambda f: f.with_columns(label=pl.lit(None, pl.Int64)), "label label has 6000 rows without a finite value"),
        (lambda f: f.with_columns(label=pl.lit("yes")), "label label is String, expected a number or Boolean"),
        (lambda f: f.with_columns(label=2), "label label has 6000 values other than 0 and 1"),
        (lambda f: f.drop("label"), "column label is missing"),
        (lambda f: f.with_columns(tailnum=pl.lit("N1")), "column tailnum is not a feature"),
        (lambda f: f.rename({"wind": "winds"}), "column wind is missing; was it renamed winds?"),
    ],
)
def test_a_frame_that_does_not_fit_is_named(change: Callable[[pl.DataFrame], pl.DataFrame], named: str) -> None:
    with pytest.raises(FeatureBuildFailed) as failure:
        train(change(FLIGHTS), make_pipeline())
    assert named in failure.value.found


@pytest.mark.parametrize(("algorithm", "task"), list(itertools.product(ALGORITHMS, ("binary", "regression"))))
def test_chunks_and_row_order_change_no_bit_of_a_score(algorithm: str, task: str) -> None:
    final = trained(algorithm, task)
    unseen = pl.DataFrame({"carrier": "ZZ", "hour": None, "wind": None, "weekend": None, "gate": 99})
    frame = pl.concat([FLIGHTS.select(FEATURES).head(700), unseen], how="vertical_relaxed")
    matrix = encode(frame, final.encoding)
    whole = final.model.predict(matrix)
    for size in (1, 7):
        chunks = [final.model.predict(matrix[at : at + size]) for at in range(0, len(matrix), size)]
        assert np.concatenate(chunks).tobytes() == whole.tobytes()
    order = np.random.default_rng(0).permutation(len(matrix))
    assert final.model.predict(matrix[order]).tobytes() == whole[order].tobytes()
    assert final.model.predict(matrix, threads=2).tobytes() == whole.tobytes()
    assert final.model.predict(matrix[:0]).shape == (0,)
