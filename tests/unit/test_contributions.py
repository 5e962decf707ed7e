"""Contributions: they add up to the raw score, and depend on a row's own values alone, bit for bit."""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import pytest

from nightscore.errors import FeatureBuildFailed, SpecError
from nightscore.spec.training import Constant, LightGbm, Linear, Rule
from nightscore.training.algorithms import ConstantModel, Model, fit_algorithm, read_model
from nightscore.training.contributions import contributions
from nightscore.training.linear import CategoryTerm, LinearModel, MissingTerm, NumberTerm
from nightscore.training.matrix import Encoding, Examples, Matrix, Vector, encode, fit_encoding
from tests.unit.synthetic_flights import make_flights, make_pipeline

FEATURES = make_pipeline().feature_names
STRANGE = pl.DataFrame({
    "carrier": ["ZZ", None, "AA"],
    "hour": [None, 900, 12],
    "wind": [None, -1e6, float("nan")],
    "weekend": [None, True, None],
    "gate": [99, None, 3],
})  # fmt: skip
ROWS = pl.concat([make_flights().select(FEATURES).head(700), STRANGE], how="vertical_relaxed")
ALGORITHMS = {
    "lightgbm": LightGbm(type="lightgbm", trees=25, leaves=15),
    "linear": Linear(type="linear"),
    "constant": Constant(type="constant"),
    "rule": Rule(type="rule", score="0.02 * hour + 0.01 * wind"),
}
EVERY = list(itertools.product(ALGORITHMS, ("binary", "regression")))


@cache
def fitted(algorithm: str, task: str) -> tuple[Model, Encoding, Matrix]:
    """A model, its encoding, and ROWS as a matrix."""
    frame, pipeline = make_flights(task=task), make_pipeline(task=task)
    encoding = fit_encoding(frame, pipeline)
    labels = frame["label"].cast(pl.Float64).to_numpy()
    examples = Examples(encode(frame.select(FEATURES), encoding), labels, encoding)
    model = fit_algorithm(ALGORITHMS[algorithm], examples, pipeline.task, seed=1)
    return model, encoding, encode(ROWS, encoding)


@pytest.mark.parametrize(("algorithm", "task"), EVERY)
def test_contributions_and_base_add_up_to_the_raw_score(algorithm: str, task: str) -> None:
    model, encoding, matrix = fitted(algorithm, task)
    parts, base = contributions(model, matrix, encoding)
    assert (parts.shape, base.shape) == (matrix.shape, (len(matrix),))
    np.testing.assert_allclose(parts.sum(axis=1) + base, model.raw(matrix), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("algorithm", "task"), EVERY)
def test_chunks_row_order_and_threads_change_no_bit(algorithm: str, task: str) -> None:
    model, encoding, matrix = fitted(algorithm, task)
    parts, base = contributions(model, matrix, encoding)
    for size in (1, 7, 500):
        chunks = [contributions(model, matrix[at : at + size], encoding) for at in range(0, len(matrix), size)]
        assert np.concatenate([chunk for chunk, _ in chunks]).tobytes() == parts.tobytes()
        assert np.concatenate([chunk for _, chunk in chunks]).tobytes() == base.tobytes()
    order = np.random.default_rng(0).permutation(len(matrix))
    assert contributions(model, matrix[order], encoding)[0].tobytes() == parts[order].tobytes()
    for threads in (2, 3):
        threaded = contributions(model, matrix, encoding, threads)
        assert [part.tobytes() for part in threaded] == [parts.tobytes(), base.tobytes()]


@pytest.mark.parametrize(("algorithm", "task"), EVERY)
def test_a_model_read_back_gives_the_same_contributions(algorithm: str, task: str) -> None:
    model, encoding, matrix = fitted(algorithm, task)
    again = read_model(algorithm, model.to_bytes(), encoding)
    assert contributions(again, matrix, encoding)[0].tobytes() == contributions(model, matrix, encoding)[0].tobytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_rows_have_no_contributions(algorithm: str) -> None:
    model, encoding, matrix = fitted(algorithm, "binary")
    parts, base = contributions(model, matrix[:0], encoding)
    assert (parts.shape, base.shape) == ((0, len(FEATURES)), (0,))


@pytest.mark.parametrize("algorithm", ["lightgbm", "linear"])
def test_the_features_with_the_signal_contribute_most(algorithm: str) -> None:
    model, encoding, matrix = fitted(algorithm, "regression")
    size = np.abs(contributions(model, matrix[:700], encoding)[0]).mean(axis=0)
    assert set(np.argsort(-size)[:3]) == {FEATURES.index(name) for name in ("carrier", "hour", "wind")}


def test_a_constant_is_all_base() -> None:
    encoding = Encoding(("hour", "wind"), ("integer", "float"), {})
    parts, base = contributions(ConstantModel(0.25), np.ones((2, 2)), encoding)
    assert (parts.tolist(), base.tolist()) == ([[0.0, 0.0], [0.0, 0.0]], [0.25, 0.25])


def test_a_rule_is_all_base() -> None:
    model, encoding, matrix = fitted("rule", "binary")
    parts, base = contributions(model, matrix, encoding)
    assert (parts.any(), base.tobytes()) == (False, model.raw(matrix).tobytes())


def test_linear_terms_are_counted_from_the_mean_and_from_no_category() -> None:
    terms = (NumberTerm(0, 3.0, 4.0, 2.0, 10.0), MissingTerm(0, 0.5, 0.5, 1.0), CategoryTerm(1, (0.5, -1.0)))
    model = LinearModel(b"", None, "binary", -2.0, terms)
    encoding = Encoding(("wind", "carrier"), ("float", "category"), {"carrier": ("AA", "UA")})
    nan = float("nan")
    parts, base = contributions(model, np.array([[4.0, 0.0], [8.0, 1.0], [nan, nan]]), encoding)
    assert parts.tolist() == [[-1.0, 0.5], [19.0, -1.0], [-4.0, 0.0]]
    assert base.tolist() == [-2.0] * 3


@dataclass(frozen=True)
class Opaque:
    """A model of a kind that nobody knows how to take apart."""

    file_name: str = "model.bin"

    def to_bytes(self) -> bytes:
        return b""

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        return self.raw(matrix)

    def raw(self, matrix: Matrix) -> Vector:
        return np.asarray(matrix.sum(axis=1))

    def function_text(self) -> str:
        return "sum"


class Additive(Opaque):
    """The same, with a method of its own."""

    def contributions(self, matrix: Matrix, threads: int) -> tuple[Matrix, Vector]:
        return matrix * threads, np.zeros(len(matrix))


ENCODING = Encoding(("hour", "wind"), ("integer", "float"), {})


def test_a_model_may_bring_its_own_method() -> None:
    parts, base = contributions(Additive(), np.array([[1.0, 2.0]]), ENCODING, threads=3)
    assert (parts.tolist(), base.tolist()) == ([[3.0, 6.0]], [0.0])


def test_a_model_that_cannot_be_taken_apart_is_named() -> None:
    with pytest.raises(SpecError) as failure:
        contributions(Opaque(), np.ones((1, 2)), ENCODING)
    assert failure.value.found == ("Opaque cannot be taken apart into its features' contributions",)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_matrix_of_another_width_is_refused(algorithm: str) -> None:
    model, encoding, matrix = fitted(algorithm, "binary")
    with pytest.raises(FeatureBuildFailed) as failure:
        contributions(model, matrix[:, :-1], encoding)
    assert failure.value.found == ("the matrix has 4 columns, expected 5: carrier, hour, wind, weekend, gate",)
