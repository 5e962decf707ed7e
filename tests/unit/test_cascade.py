"""Cascades: bounds that keep to their limits, scores that are one of two to the bit, files that do not lie."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from nightscore.measures.metrics import Vector
from nightscore.training.algorithms import MODEL_FILES, algorithm_of, read_model
from nightscore.training.band import Limits, choose_band, fit_scale
from nightscore.training.boosted import LightGbmModel
from nightscore.training.cascade import Band, CascadeModel, Scale, link
from nightscore.training.contributions import contributions
from nightscore.training.fit import Trained, train
from nightscore.training.matrix import Matrix, encode
from nightscore.training.routing import decision_by_row
from nightscore.training.savings import savings_line
from tests.unit.synthetic_flights import LIGHTGBM, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
CASCADE = {"type": "cascade", "full": LIGHTGBM, "dates": 10, "max_loss_share": 0.02, "max_flip_share": 0.05}


@cache
def trained(calibrated: bool = False, top_k: bool = False) -> Trained:
    calibration = {"calibration": {"method": "sigmoid", "dates": 6}} if calibrated else {}
    decision = {"decision": {"rule": {"type": "top_k", "k": 30}}} if top_k else {}
    section = training_section(algorithm=CASCADE, baselines=[], folds=2, **calibration)
    return train(FLIGHTS, make_pipeline(training=section, **decision))


def cascade() -> CascadeModel:
    model = trained().model
    assert isinstance(model, CascadeModel)
    return model


def matrix(frame: pl.DataFrame = FLIGHTS) -> Matrix:
    encoding = trained().encoding
    return encode(frame.select(encoding.names), encoding)


def split_in_half() -> CascadeModel:
    """A cascade whose band holds the middle half of the flights."""
    model = cascade()
    lower, upper = np.quantile(model.full.raw_of_first(matrix(), 5), [0.25, 0.75]).tolist()
    return replace(model, prefix=5, band=Band(lower, upper), scale=Scale(1.5, 0.25))


def test_rows_of_the_band_have_the_full_score_and_others_the_first_one_stretched() -> None:
    model, rows = split_in_half(), matrix()
    pruned, uncertain = model.full.first(5, trained().encoding), model.escalates(rows)
    assert 0.4 < uncertain.mean() < 0.6
    assert model.predict(rows)[uncertain].tobytes() == model.full.predict(rows)[uncertain].tobytes()
    assert model.raw(rows)[uncertain].tobytes() == model.full.raw(rows)[uncertain].tobytes()
    early = pruned.raw(rows)[~uncertain]
    assert model.raw(rows)[~uncertain].tobytes() == (1.5 * early + 0.25).tobytes()
    assert (early < model.band.lower).sum() + (early >= model.band.upper).sum() == len(early)


def test_other_means_of_walking_trees_give_the_same_bits() -> None:
    """By two models of their own, as a kernel has them."""
    model, rows = split_in_half(), matrix()
    first, whole = (
        LightGbmModel.from_bytes(text.encode(), trained().encoding)
        for text in (model.full.booster.model_to_string(num_iteration=model.prefix), model.full.text)
    )
    raw = model.combine(first.raw(rows), lambda uncertain: whole.raw(rows[uncertain]))
    assert link(raw).tobytes() == model.predict(rows).tobytes()


@pytest.mark.parametrize(("bounds", "share"), [((-np.inf, np.inf), 1.0), ((0.0, 0.0), 0.0), ((-np.inf, -np.inf), 0.0)])
def test_a_band_may_hold_all_rows_or_none(bounds: tuple[float, float], share: float) -> None:
    model = replace(cascade(), band=Band(*bounds))
    assert model.escalates(matrix()).mean() == share
    if share:
        assert model.predict(matrix()).tobytes() == model.full.predict(matrix()).tobytes()
    again = read_model("cascade", model.to_bytes(), trained().encoding)
    assert again.predict(matrix()).tobytes() == model.predict(matrix()).tobytes()


def test_chunks_threads_and_row_order_change_no_bit() -> None:
    model, rows = split_in_half(), matrix()
    whole = model.predict(rows)
    for size, threads in ((1, 1), (7, 2), (2500, 4)):
        some = rows[: 300 * size]
        chunks = [model.predict(some[at : at + size], threads) for at in range(0, len(some), size)]
        assert np.concatenate(chunks).tobytes() == whole[: len(some)].tobytes()
    order = np.random.default_rng(1).permutation(len(rows))
    assert model.predict(np.asfortranarray(rows[order])).tobytes() == whole[order].tobytes()
    assert model.predict(rows[:0]).shape == (0,)


def test_a_file_becomes_the_same_model_again() -> None:
    model = cascade()
    again = read_model(algorithm_of(model), model.to_bytes(), trained().encoding)
    assert (model.file_name, again.file_name) == (MODEL_FILES["cascade"],) * 2
    assert (again.to_bytes(), again.function_text()) == (model.to_bytes(), model.function_text())
    assert again.predict(matrix()).tobytes() == model.predict(matrix()).tobytes()


def test_prefix_band_scale_and_trees_are_part_of_the_function() -> None:
    model = cascade()
    others = [
        replace(model, prefix=model.prefix + 1), replace(model, full=model.full.first(20, trained().encoding)),
        replace(model, band=replace(model.band, lower=np.nextafter(model.band.lower, -9))),
        replace(model, band=replace(model.band, upper=9.0)), replace(model, scale=replace(model.scale, slope=9.0)),
        replace(model, scale=replace(model.scale, intercept=9.0)),
    ]  # fmt: skip
    assert len({one.function_text() for one in [model, *others]}) == 7


DAMAGES: dict[str, tuple[object, str]] = {
    "prefix": (26, "prefix is 26, expected 1 to 25"), "trees": (24, "it has 25 trees, expected 24"),
    "lower": ("inf", "the band is inf to"), "upper": ("nan", "to nan"), "slope": ("-0x1p+0", "the slope is -1.0"),
    "intercept": ("inf", "the intercept is inf"), "model": ("", "LightGBM says"),
}  # fmt: skip


@pytest.mark.parametrize("key", DAMAGES)
def test_a_damaged_value_is_refused_by_name(key: str) -> None:
    value, named = DAMAGES[key]
    content = json.loads(split_in_half().to_bytes()) | {key: value}
    with pytest.raises(ValueError, match="the cascade is damaged") as failure:
        read_model("cascade", json.dumps(content).encode(), trained().encoding)
    assert named in str(failure.value)


@pytest.mark.parametrize("key", [*DAMAGES])
def test_a_cascade_that_lacks_something_or_has_more_is_refused(key: str) -> None:
    content = json.loads(cascade().to_bytes())
    for changed in (content | {"more": 1}, {name: one for name, one in content.items() if name != key}):
        with pytest.raises(ValueError, match="it has the keys"):
            read_model("cascade", json.dumps(changed).encode(), trained().encoding)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b"null", b'"text"'])
def test_a_file_that_is_no_cascade_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the cascade is damaged"):
        read_model("cascade", data, trained().encoding)


def test_trees_of_other_columns_or_of_another_task_are_refused() -> None:
    encoding = trained().encoding
    swapped = replace(encoding, names=(*encoding.names[:2][::-1], *encoding.names[2:]))
    with pytest.raises(ValueError, match="the model's columns are"):
        read_model("cascade", cascade().to_bytes(), swapped)
    other = cascade().to_bytes().replace(b"objective=binary sigmoid:1", b"objective=regression", 1)
    with pytest.raises(ValueError, match="not fitted as objective=binary"):
        read_model("cascade", other, encoding)


def test_contributions_add_up_to_the_score_that_was_given() -> None:
    model, rows = split_in_half(), matrix(FLIGHTS.head(400))
    moved, base = contributions(model, rows, trained().encoding, 2)
    assert np.allclose(moved.sum(axis=1) + base, model.raw(rows), rtol=0, atol=1e-9)
    one_by_one = [contributions(model, rows[at : at + 1], trained().encoding)[0] for at in range(50)]
    assert np.concatenate(one_by_one).tobytes() == moved[:50].tobytes()


@pytest.mark.parametrize(("calibrated", "top_k"), [(False, False), (True, False), (False, True)])
def test_savings_and_losses_are_measured_on_held_out_dates(calibrated: bool, top_k: bool) -> None:
    made = trained(calibrated, top_k)
    told, overall = made.metrics["cascade"], made.metrics["algorithms"]["cascade"]["overall"]
    assert told["rows"] == made.metrics["held_out"]["rows"] == made.held_out.height
    assert told["log_loss"] == overall["log_loss"]
    assert told["loss_share"] == (told["log_loss"] - told["full_log_loss"]) / told["full_log_loss"] < 0.05
    assert 0 < told["saved_share_lightgbm"] <= told["saved_share"] < 1
    assert 0 <= told["escalated_share"] < 1
    assert made.metrics["calibrate"]["dates"] == 10
    assert savings_line(made.metrics) is not None
    json.dumps(made.metrics, allow_nan=False)


def test_the_full_model_is_what_lightgbm_alone_makes_of_the_same_dates() -> None:
    """With the band's dates set aside for a calibration, which changes no score."""
    section = training_section(
        algorithm=LIGHTGBM, baselines=[], folds=2, calibration={"method": "sigmoid", "dates": 10}
    )
    alone = train(FLIGHTS, make_pipeline(training=section))
    assert alone.model.to_bytes() == cascade().full.to_bytes()
    assert alone.importance == trained().importance
    assert alone.metrics["curve"] == trained().metrics["curve"]
    assert "cascade" not in alone.metrics
    assert savings_line(alone.metrics) is None


def test_the_order_of_rows_does_not_matter_and_training_again_gives_the_same() -> None:
    shuffled = FLIGHTS.sample(fraction=1, shuffle=True, seed=3)
    again = train(shuffled, trained().pipeline)
    assert again.model.to_bytes() == cascade().to_bytes()
    assert again.metrics == trained().metrics


def test_a_first_stage_of_the_specs_length_is_kept() -> None:
    section = training_section(algorithm={**CASCADE, "small": {"trees": 3}}, baselines=[])
    model = train(FLIGHTS, make_pipeline(training=section)).model
    assert isinstance(model, CascadeModel)
    assert model.prefix == 3


def test_the_decision_by_row_is_that_of_the_rule() -> None:
    """For top k the cut of each date is where the full scores have it; a date of fewer rows decides all."""
    frame = FLIGHTS.head(300).select("score_date", "carrier", "flight", "label")
    pipeline = make_pipeline(decision={"rule": {"type": "top_k", "k": 200}})
    scores = np.random.default_rng(2).random(300)
    decide = decision_by_row(frame, scores, np.zeros(300), pipeline)
    assert decide(scores).all()
    few = make_pipeline(decision={"rule": {"type": "top_k", "k": 10}})
    yes = decision_by_row(frame, scores, np.zeros(300), few)(scores)
    assert [int(yes[:150].sum()), int(yes[150:].sum())] == [10, 10]
    assert scores[:150][yes[:150]].min() > scores[:150][~yes[:150]].max()


def world(seed: int, rows: int, noise: float) -> tuple[Vector, Vector, Vector]:
    rng = np.random.default_rng(seed)
    full = rng.normal(-1, 1.5, rows)
    early = np.round(0.4 * full + rng.normal(0, noise, rows), 3)
    return early, full, (rng.random(rows) < expit(full)).astype(np.float64)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999), rows=st.integers(1, 600), noise=st.sampled_from([0.0, 0.05, 0.5]),
    loss=st.sampled_from([0.001, 0.01, 0.1]), flips=st.sampled_from([0.0, 0.01, 0.2]),
)  # fmt: skip
def test_a_band_keeps_to_its_limits_and_a_narrower_one_would_not_be_chosen(
    seed: int, rows: int, noise: float, loss: float, flips: float
) -> None:
    early, full, labels = world(seed, rows, noise)
    decide: Any = lambda probabilities: probabilities >= 0.4  # noqa: E731
    choice = choose_band(early, full, labels, decide, Limits(loss, flips))
    held = choice.band.holds(early)
    assert held.mean() == choice.share
    raw = np.where(held, full, choice.scale.apply(early))
    lost = [float((np.logaddexp(0, one) - labels * one).sum()) for one in (raw, full)]
    assert lost[0] <= (1 + loss) * lost[1] + 1e-6
    yes = decide(expit(full))
    assert (decide(expit(raw)) != yes).sum() <= flips * yes.sum()
    order = np.random.default_rng(seed).permutation(rows)
    assert choose_band(early[order], full[order], labels[order], lambda p: p >= 0.4, Limits(loss, flips)) == choice
    wider = choose_band(early, full, labels, decide, Limits(2 * loss, flips + 0.1))
    assert wider.share <= choice.share


def test_a_first_score_that_says_all_needs_no_band_and_one_that_says_nothing_needs_all_rows() -> None:
    _, full, labels = world(1, 500, 0.0)
    decide: Any = lambda probabilities: probabilities >= 0.4  # noqa: E731
    exact = choose_band(full / 2, full, labels, decide, Limits(0.001, 0.0))
    assert (exact.share, exact.work(10, 100)) == (0.0, 10.0)
    blind = choose_band(np.zeros(500), full, labels, decide, Limits(0.001, 0.0))
    assert (blind.share, blind.band) == (1.0, Band(-np.inf, np.inf))


def test_the_scale_is_the_least_squares_line() -> None:
    early, full, _ = world(4, 400, 0.1)
    found = fit_scale(early, full)
    assert np.allclose([found.slope, found.intercept], np.polyfit(early, full, 1), rtol=1e-9)
    assert fit_scale(np.ones(3), np.array([1.0, 2.0, 3.0])) == Scale(1.0, 1.0)
    assert fit_scale(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == Scale(1.0, 0.0)


def test_the_first_trees_are_a_model_of_their_own() -> None:
    full = cascade().full
    pruned = full.first(7, trained().encoding)
    assert (pruned.trees, full.trees) == (7, 25)
    assert pruned.raw(matrix()).tobytes() == full.raw_of_first(matrix(), 7, 2).tobytes()
    assert full.function_text().startswith(pruned.function_text())
    assert LightGbmModel.from_bytes(pruned.to_bytes(), trained().encoding).text == pruned.text
