"""Ensembles: each member scores as it would alone, the mean keeps its bits, and no damaged file becomes a model."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.measures.calibration import NO_CALIBRATION, Calibrator
from nightscore.training.algorithms import MODEL_FILES, ConstantModel, algorithm_of, read_model
from nightscore.training.contributions import contributions
from nightscore.training.ensemble import EnsembleModel, Member, recode, shares, union_encoding, weighted_mean
from nightscore.training.fit import Trained, train
from nightscore.training.matrix import Encoding, encode
from tests.unit.synthetic_flights import ALGORITHMS, make_flights, make_pipeline, training_section

FLIGHTS = make_flights(dates=20, rows_per_date=60)
EARLY = FLIGHTS.filter(pl.col("carrier") != "WN", pl.col("gate") < 9)
LATE = FLIGHTS.filter(pl.col("carrier") != "AA")
SIGMOID = Calibrator("sigmoid", (0.7, 0.1), ())
RULE = {"type": "rule", "score": "case when carrier in ('WN', 'UA') then 0.6 when hour > 12 then 0.4 end"}
MEMBERS = ("lightgbm", "linear", "rule", "constant")
NAMES = make_pipeline().feature_names


@cache
def trained(algorithm: str, late: bool = False) -> Trained:
    section = training_section(
        algorithm={**ALGORITHMS, "rule": RULE}[algorithm], baselines=[], window_days=20, holdout_days=4, min_rows=100
    )
    return train(LATE if late else EARLY, make_pipeline(training=section))


def member(algorithm: str, weight: float, late: bool = False, calibrator: Calibrator = NO_CALIBRATION) -> Member:
    made = trained(algorithm, late)
    return Member(weight, made.encoding, calibrator, made.model)


def old_and_new() -> EnsembleModel:
    return EnsembleModel.of([member("lightgbm", 1.0), member("linear", 3.0, late=True, calibrator=SIGMOID)])


def everything() -> EnsembleModel:
    return EnsembleModel.of([member(name, 1.0, late=bool(at % 2)) for at, name in enumerate(MEMBERS)])


def rows(frame: pl.DataFrame, encoding: Encoding) -> Any:
    return encode(frame.select(encoding.names), encoding)


def alone(one: Member, frame: pl.DataFrame) -> Any:
    return one.predict(rows(frame, one.encoding), 1)


def test_the_union_has_the_levels_of_all_and_then_the_columns_that_others_add() -> None:
    first = Encoding(("city", "age"), ("category", "float"), {"city": ("B", "K")})
    second = Encoding(("rain", "age", "city"), ("boolean", "float", "category"), {"city": ("A", "K", "Z")})
    expected = Encoding(
        ("city", "age", "rain"), ("category", "float", "boolean"), {"city": ("A", "B", "K", "Z")}
    )  # fmt: skip
    assert union_encoding([first, second]) == expected
    assert union_encoding([first, first]) == first


def test_columns_that_exclude_each_other_are_all_named() -> None:
    first = Encoding(("city", "age", "gate"), ("category", "float", "category"), {"city": ("B",), "gate": (1, 2)})
    second = Encoding(("city", "age", "gate"), ("float", "integer", "category"), {"gate": ("1",)})
    with pytest.raises(ValueError, match="feature city is category for one member and float for another") as failure:
        union_encoding([first, second])
    assert str(failure.value).split("; ")[1:] == [
        "feature age is float for one member and integer for another",
        "feature gate has levels of text for one member and whole numbers for another",
    ]


def test_levels_that_a_member_never_saw_are_missing_to_it() -> None:
    union = Encoding(("age", "city"), ("float", "category"), {"city": ("A", "B", "K")})
    own = Encoding(("city",), ("category",), {"city": ("A", "K")})
    found = recode(np.array([[1, 0], [2, 1], [3, 2], [4, np.nan]]), union, own)
    assert np.array_equal(found, [[0], [np.nan], [1], [np.nan]], equal_nan=True)


@pytest.mark.parametrize("at", range(len(MEMBERS)))
def test_every_member_scores_as_it_does_alone_to_the_bit(at: int) -> None:
    ensemble = everything()
    one, unknown = ensemble.members[at], FLIGHTS.head(50).with_columns(carrier=pl.lit("never seen"))
    for frame in (FLIGHTS, unknown):
        own = recode(rows(frame, ensemble.encoding), ensemble.encoding, one.encoding)
        assert one.predict(own, 1).tobytes() == alone(one, frame).tobytes()


def test_the_prediction_is_the_weighted_mean_of_calibrated_ones() -> None:
    ensemble = old_and_new()
    assert [one.weight for one in ensemble.members] == [0.25, 0.75]
    first, second = (alone(one, FLIGHTS) for one in ensemble.members)
    found = ensemble.predict(rows(FLIGHTS, ensemble.encoding))
    assert np.allclose(found, 0.25 * first + 0.75 * second, rtol=0, atol=1e-15)
    assert ensemble.raw(rows(FLIGHTS, ensemble.encoding)).tobytes() == found.tobytes()


def test_an_ensemble_of_equals_is_what_they_are() -> None:
    ensemble = EnsembleModel.of([member("lightgbm", weight) for weight in (0.1, 0.2, 0.3, 0.7)])
    assert (
        ensemble.predict(rows(FLIGHTS, ensemble.encoding)).tobytes() == alone(member("lightgbm", 1), FLIGHTS).tobytes()
    )


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([0.5, 0.5], [0.5, 0.5]), ([1, 3], [0.25, 0.75]), ([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]), ([2, 4], [1 / 3, 2 / 3])],
)
def test_weights_become_shares_and_shares_stay(weights: list[float], expected: list[float]) -> None:
    assert shares(weights) == expected
    assert shares(shares(weights)) == expected


def test_a_mean_never_leaves_the_range_of_its_parts() -> None:
    ones = [np.ones(3) for _ in range(10)]
    assert weighted_mean([0.1] * 10, ones).tolist() == [1.0] * 3
    assert np.isnan(weighted_mean([0.5, 0.5], [np.array([np.nan]), np.ones(1)])).all()


@pytest.mark.parametrize("make", [old_and_new, everything])
def test_chunks_threads_and_row_order_change_no_bit(make: Callable[[], EnsembleModel]) -> None:
    ensemble = make()
    matrix = rows(FLIGHTS, ensemble.encoding)
    whole = ensemble.predict(matrix)
    for size, threads in ((1, 1), (7, 2), (500, 4)):
        chunks = [ensemble.predict(matrix[at : at + size], threads) for at in range(0, len(matrix), size)]
        assert np.concatenate(chunks).tobytes() == whole.tobytes()
    order = np.random.default_rng(1).permutation(len(matrix))
    assert ensemble.predict(np.asfortranarray(matrix[order])).tobytes() == whole[order].tobytes()
    assert ensemble.predict(matrix[:0]).shape == (0,)


@pytest.mark.parametrize("make", [old_and_new, everything])
def test_a_file_becomes_the_same_model_again(make: Callable[[], EnsembleModel]) -> None:
    ensemble = make()
    data = ensemble.to_bytes()
    again = read_model(algorithm_of(ensemble), data, ensemble.encoding)
    assert (ensemble.file_name, again.file_name) == (MODEL_FILES["ensemble"],) * 2
    assert (again.to_bytes(), again.function_text()) == (data, ensemble.function_text())
    matrix = rows(FLIGHTS, ensemble.encoding)
    assert again.predict(matrix).tobytes() == ensemble.predict(matrix).tobytes()


def test_weights_calibrators_levels_and_members_are_part_of_the_function() -> None:
    ensemble = old_and_new()
    first, second = ensemble.members
    moved = replace(SIGMOID, x=(0.7, np.nextafter(0.1, 1)))
    levels = replace(first.encoding, levels={**first.encoding.levels, "gate": (1, 2)})
    others = [
        (replace(first, weight=np.nextafter(0.25, 1)), second), (first, replace(second, calibrator=moved)),
        (replace(first, encoding=levels), second), (second, first), (first, replace(second, model=ConstantModel(0.5))),
    ]  # fmt: skip
    texts = {replace(ensemble, members=one).function_text() for one in [ensemble.members, *others]}
    assert len(texts) == 6


def stored() -> Any:
    return json.loads(EnsembleModel.of([member("constant", 1.0), member("linear", 1.0, late=True)]).to_bytes())


def reason(content: object, encoding: Encoding | None = None) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    known = encoding or union_encoding([trained("constant").encoding, trained("linear", True).encoding])
    with pytest.raises(ValueError, match="the ensemble is damaged") as failure:
        read_model("ensemble", data, known)
    return str(failure.value)


@pytest.mark.parametrize("weight", [0.0, -0.5, float("nan"), float("inf"), "0.5", None, True])
def test_a_weight_that_is_none_is_refused(weight: object) -> None:
    content = stored()
    content["members"][0]["weight"] = weight
    assert "the weight is" in reason(content)


DAMAGES: dict[str, tuple[str, object, str]] = {
    "other sum": ("weight", 0.6, "weights add up to 1.1, expected 1"),
    "unknown algorithm": ("algorithm", "forest", "algorithm forest cannot be a member"),
    "an ensemble inside": ("algorithm", "ensemble", "algorithm ensemble cannot be a member"),
    "no columns": ("columns", [], "there are no columns"),
    "no levels": ("columns", [{"name": "gate", "type": "category"}], "KeyError: 'levels'"),
    "unsorted levels": ("columns", [{"name": "gate", "type": "category", "levels": [2, 1]}], "levels of gate are not"),
    "other calibrator": ("calibration", {"method": "magic", "x": [], "y": []}, "method is 'magic'"),
    "a damaged model": ("model", '{"value": Infinity}', "expected a finite number"),
    "no model": ("model", "", "JSONDecodeError"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_member_is_refused_by_name(damage: str) -> None:
    key, value, named = DAMAGES[damage]
    content = stored()
    content["members"][0][key] = value
    assert named in reason(content)


@pytest.mark.parametrize("key", ["weight", "algorithm", "columns", "calibration", "model"])
def test_a_member_that_lacks_something_is_refused(key: str) -> None:
    content = stored()
    del content["members"][1][key]
    assert f"KeyError: '{key}'" in reason(content)


@pytest.mark.parametrize("model", ["", "no base64!", "AAAA"])
def test_a_damaged_binary_model_is_refused(model: str) -> None:
    content = stored()
    content["members"][1]["model"] = model
    reason(content)


def test_a_damaged_text_of_trees_is_refused() -> None:
    ensemble = old_and_new()
    content = json.loads(ensemble.to_bytes())
    content["members"][0]["model"] = ""
    assert "LightGBM says" in reason(content, ensemble.encoding)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"members": []}', b'{"members": 1}', b"\xff", b"null"])
def test_a_file_that_is_no_ensemble_is_refused(data: bytes) -> None:
    reason(data)


def test_one_member_is_no_ensemble() -> None:
    content = stored()
    assert "1 members, expected at least 2" in reason({"members": content["members"][:1]})


def test_members_that_do_not_make_the_columns_of_the_capsule_are_refused() -> None:
    ensemble = old_and_new()
    content = json.loads(ensemble.to_bytes())
    swapped = replace(ensemble.encoding, names=(*ensemble.encoding.names[:2][::-1], *ensemble.encoding.names[2:]))
    assert "do not make the capsule's" in reason(content, swapped)
    assert "do not make the capsule's" in reason(content, trained("constant").encoding)


def test_contributions_are_the_weighted_mean_of_the_members() -> None:
    ensemble = old_and_new()
    matrix = rows(FLIGHTS.head(80), ensemble.encoding)
    moved, base = contributions(ensemble, matrix, ensemble.encoding, 2)
    assert (moved.shape, base.shape) == (matrix.shape, (80,))
    expected, start = np.zeros(matrix.shape), np.zeros(80)
    for one in ensemble.members:
        parts, begin = contributions(one.model, rows(FLIGHTS.head(80), one.encoding), one.encoding)
        expected += one.weight * parts
        start += one.weight * begin
    assert np.array_equal(moved, expected)
    assert np.array_equal(base, start)


def test_contributions_of_a_regression_add_up_to_its_score() -> None:
    frame = make_flights(dates=20, rows_per_date=60, task="regression")
    made = []
    for algorithm in ("lightgbm", "linear"):
        section = training_section(
            algorithm=ALGORITHMS[algorithm], baselines=[], window_days=20, holdout_days=4, min_rows=100
        )
        fitted = train(frame, make_pipeline(task="regression", training=section))
        made.append(Member(0.5, fitted.encoding, NO_CALIBRATION, fitted.model))
    ensemble = EnsembleModel.of(made)
    matrix = rows(frame, ensemble.encoding)
    moved, base = contributions(ensemble, matrix, ensemble.encoding)
    assert np.allclose(moved.sum(axis=1) + base, ensemble.raw(matrix), rtol=0, atol=1e-9)
