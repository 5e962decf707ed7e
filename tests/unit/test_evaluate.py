"""Models whose trees the kernel walks give the bits of their own code: cascades and ensembles besides single models."""

import numpy as np
import pytest

from nightscore.measures.calibration import NO_CALIBRATION, Calibrator
from nightscore.scoring.engine import choose_engine
from nightscore.scoring.evaluate import compile_model
from nightscore.scoring.kernel import find_instructions
from nightscore.scoring.model_text import UnsupportedModel
from nightscore.training.algorithms import Model
from nightscore.training.boosted import LightGbmModel, fit_lightgbm
from nightscore.training.cascade import Band, CascadeModel, Scale
from nightscore.training.ensemble import EnsembleModel, Member
from nightscore.training.linear import fit_linear
from nightscore.training.matrix import Encoding, Examples, Matrix
from tests.unit.synthetic_flights import make_flights, make_pipeline

pytestmark = pytest.mark.skipif(not find_instructions(), reason="the kernel was not built here")

ISOTONIC = Calibrator("isotonic", (0.1, 0.4, 0.9), (0.05, 0.5, 0.95))
INFINITE = float("inf")


@pytest.fixture(scope="module")
def examples() -> Examples:
    from nightscore.training.matrix import encode, fit_encoding

    frame, pipeline = make_flights(), make_pipeline()
    encoding = fit_encoding(frame, pipeline)
    matrix = encode(frame.select(encoding.names), encoding)
    return Examples(matrix, frame["label"].cast(float).to_numpy(), encoding)


@pytest.fixture(scope="module")
def trees(examples: Examples) -> LightGbmModel:
    return fit_lightgbm(make_pipeline().training.algorithm, examples, "binary", 1)  # type: ignore[arg-type]


def fewer_columns(examples: Examples) -> Examples:
    names = examples.encoding.names[:-1]
    levels = {name: known[1:] for name, known in examples.encoding.levels.items() if name in names}
    return Examples(
        np.nan_to_num(examples.matrix[:, :-1], nan=1.0), examples.labels,
        Encoding(names, examples.encoding.types[:-1], levels),
    )  # fmt: skip


def ensemble(examples: Examples, trees: LightGbmModel) -> EnsembleModel:
    other = fewer_columns(examples)
    few = fit_lightgbm(make_pipeline().training.algorithm, other, "binary", 2)  # type: ignore[arg-type]
    linear = fit_linear(make_pipeline("linear").training.algorithm, examples, "binary")  # type: ignore[arg-type]
    return EnsembleModel.of([
        Member(2.0, examples.encoding, ISOTONIC, trees), Member(1.0, other.encoding, NO_CALIBRATION, few),
        Member(1.0, examples.encoding, NO_CALIBRATION, linear),
        Member(1.0, examples.encoding, NO_CALIBRATION, cascade(trees, -0.5, 0.5)),
    ])  # fmt: skip


def cascade(trees: LightGbmModel, lower: float, upper: float) -> CascadeModel:
    return CascadeModel(trees, 7, Band(lower, upper), Scale(1.3, -0.1))


def columns(matrix: Matrix) -> list[np.ndarray]:
    return [np.ascontiguousarray(column) for column in matrix.T]


@pytest.mark.parametrize("band", [(-0.5, 0.5), (-INFINITE, INFINITE), (0.2, 0.2)])
def test_a_cascade_goes_on_from_its_first_sums(
    examples: Examples, trees: LightGbmModel, band: tuple[float, float]
) -> None:
    model = cascade(trees, *band)
    for instructions in find_instructions():
        found = compile_model(model, instructions)(columns(examples.matrix))
        assert found.tobytes() == model.predict(examples.matrix).tobytes()


def test_members_of_an_ensemble_keep_their_columns_and_calibrations(examples: Examples, trees: LightGbmModel) -> None:
    model = ensemble(examples, trees)
    found = compile_model(model, find_instructions()[-1])(columns(examples.matrix))
    assert found.tobytes() == model.predict(examples.matrix).tobytes()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_rows_of_any_model(examples: Examples, trees: LightGbmModel, threads: int) -> None:
    models: list[Model] = [trees, cascade(trees, -0.5, 0.5), ensemble(examples, trees)]
    for model in models:
        engine = choose_engine(model, 50_000, threads)
        assert (engine.name, engine.instructions) == ("quickscorer", find_instructions()[-1])
        for rows in (0, 1, 3, 1000):
            found = engine.score(columns(examples.matrix[:rows]))
            assert found.tobytes() == model.predict(examples.matrix[:rows]).tobytes()


def test_a_model_without_trees_is_left_to_its_own_code(examples: Examples) -> None:
    linear = fit_linear(make_pipeline("linear").training.algorithm, examples, "binary")  # type: ignore[arg-type]
    assert choose_engine(linear, 50_000, 1).reason == "LinearModel has no trees"
    alone = EnsembleModel.of([Member(1.0, examples.encoding, NO_CALIBRATION, linear)] * 2)
    with pytest.raises(UnsupportedModel, match="no trees"):
        compile_model(alone, find_instructions()[-1])
