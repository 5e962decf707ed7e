"""LightGBM by its C interface: the bits of its Python package, without the package."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import lightgbm
import numpy as np
import pytest

from nightscore.training.predictor import Predictor
from tests.unit.lightgbm_models import make_values, train

OBJECTIVES = ("binary", "regression", "poisson", "cross_entropy")
COLUMNS = "fnzic"
HEAVY = ("lightgbm", "sklearn", "scipy", "pandas")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_bit_is_that_of_the_python_package(objective: str, threads: int) -> None:
    text, values = train(COLUMNS, trees=7, objective=objective), make_values(COLUMNS, 500, seed=3)
    ours, theirs = Predictor(text), lightgbm.Booster(model_str=text)
    found = [
        ours.scores(values, threads), ours.scores(values, threads, raw=True),
        ours.scores(values, threads, raw=True, iterations=3), ours.contributions(values, threads),
        ours.contributions(values, threads, iterations=3),
    ]  # fmt: skip
    expected = [
        theirs.predict(values), theirs.predict(values, raw_score=True),
        theirs.predict(values, raw_score=True, num_iteration=3), theirs.predict(values, pred_contrib=True),
        theirs.predict(values, pred_contrib=True, num_iteration=3),
    ]  # fmt: skip
    assert [(one.shape, one.tobytes()) for one in found] == [(one.shape, one.tobytes()) for one in expected]


def test_it_says_what_the_package_says_of_a_model() -> None:
    text = train(COLUMNS, trees=7)
    ours, theirs = Predictor(text), lightgbm.Booster(model_str=text)
    assert (ours.iterations, ours.feature_names()) == (theirs.current_iteration(), tuple(theirs.feature_name()))


def test_names_of_any_length_and_alphabet_come_back_whole() -> None:
    names = ("größe", "x" * 300, "件数", "d", "e")
    text = train(COLUMNS).replace("feature_names=" + " ".join(f"Column_{at}" for at in range(5)),
                                  "feature_names=" + " ".join(names))  # fmt: skip
    assert Predictor(text).feature_names() == names


def test_the_layout_of_a_matrix_does_not_matter() -> None:
    predictor, values = Predictor(train(COLUMNS)), make_values(COLUMNS, 100, seed=3)
    expected = predictor.scores(values, threads=1).tobytes()
    assert predictor.scores(np.asfortranarray(values), threads=1).tobytes() == expected
    assert predictor.scores(np.repeat(values, 2, axis=0)[::2], threads=1).tobytes() == expected


def test_no_rows_have_no_scores() -> None:
    predictor, none = Predictor(train(COLUMNS)), np.empty((0, 5))
    assert [predictor.scores(none, 1).shape, predictor.contributions(none, 1).shape] == [(0,), (0, 6)]


def test_threads_share_one_predictor() -> None:
    predictor, values = Predictor(train(COLUMNS, trees=20)), make_values(COLUMNS, 2000, seed=3)
    with ThreadPoolExecutor(8) as pool:
        found = {scores.tobytes() for scores in pool.map(predictor.scores, repeat(values, 40), repeat(1))}
    assert found == {predictor.scores(values, threads=1).tobytes()}


def test_a_matrix_of_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="LightGBM says: The number of features in data"):
        Predictor(train(COLUMNS)).scores(np.zeros((3, 4)), threads=1)


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n"])
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="LightGBM says: Model f"):
        Predictor(text)


def test_scoring_imports_nothing_of_the_package_or_of_what_it_looks_for() -> None:
    script = (
        "import sys, numpy; from nightscore.training.boosted import LightGbmModel;"
        "from nightscore.training.matrix import Encoding; text = sys.stdin.buffer.read();"
        "names = tuple(f'Column_{at}' for at in range(5));"
        "model = LightGbmModel.from_bytes(text, Encoding(names, ('number',) * 5, {}));"
        "model.predict(numpy.zeros((2, 5)), 2), model.contributions(numpy.zeros((2, 5)), 1);"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=train(COLUMNS).encode(), capture_output=True, check=True
    )  # fmt: skip
    assert done.stdout == b"[]\n"
