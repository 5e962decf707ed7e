"""Scoring with the three strongest reasons of every row, and of one row in ten, against scoring alone.

200,000 made-up rows of 40 features, 200 trees of 31 leaves, one thread. Prints the seconds of each repetition and the
median ratios (a quarter of an hour in all); scores are compared for equality, with reasons and without.
"""

import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
import polars as pl

from nightscore.scoring.reasons import choose_rows, reason_codes
from nightscore.spec.training import LightGbm
from nightscore.training.boosted import LightGbmModel, fit_lightgbm
from nightscore.training.contributions import contributions
from nightscore.training.matrix import Encoding, Examples, Vector, encode

ROWS = 200_000
TRAINING_ROWS = 20_000
REPETITIONS = 3
TOP = 3
LEVELS = ("AA", "B6", "DL", "UA", "WN")
NUMBERS, INTEGERS, FLAGS, CATEGORIES = 24, 8, 4, 4
TYPES = ("float",) * NUMBERS + ("integer",) * INTEGERS + ("boolean",) * FLAGS + ("category",) * CATEGORIES
NAMES = tuple(f"feature_{at}" for at in range(len(TYPES)))
ENCODING = Encoding(NAMES, TYPES, {name: LEVELS for name, kind in zip(NAMES, TYPES, strict=True) if kind == "category"})
Outcome = tuple[Vector, pl.Series | None]


def make_frame(rows: int, seed: int) -> pl.DataFrame:
    """Rows of features; one float in ten is null."""
    random = np.random.default_rng(seed)
    makers: dict[str, Callable[[], pl.Series]] = {
        "float": lambda: pl.Series(np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows))).fill_nan(
            None
        ),
        "integer": lambda: pl.Series(random.integers(0, 1000, rows)),
        "boolean": lambda: pl.Series(random.integers(0, 2, rows)).cast(pl.Boolean),
        "category": lambda: pl.Series(LEVELS).gather(random.integers(0, len(LEVELS), rows)),
    }
    return pl.DataFrame({name: makers[kind]() for name, kind in zip(NAMES, TYPES, strict=True)})


def fit_model() -> LightGbmModel:
    """200 trees of 31 leaves; the label leans on every feature a little, so that every feature is used."""
    matrix = encode(make_frame(TRAINING_ROWS, seed=7), ENCODING)
    random = np.random.default_rng(8)
    ranks = np.nan_to_num(matrix / np.nanstd(matrix, axis=0))
    labels = (ranks @ random.normal(size=len(NAMES)) + random.normal(size=TRAINING_ROWS) > 0).astype(np.float64)
    return fit_lightgbm(LightGbm(type="lightgbm"), Examples(matrix, labels, ENCODING), "binary", seed=1)


def score(model: LightGbmModel, frame: pl.DataFrame) -> Outcome:
    """Scores, and no reasons."""
    return model.predict(encode(frame, ENCODING)), None


def score_and_explain(model: LightGbmModel, frame: pl.DataFrame, k: int) -> Outcome:
    """Scores, and the reasons of the `k` highest."""
    matrix = encode(frame, ENCODING)
    scores = model.predict(matrix)
    ranks = pl.DataFrame({"rank": pl.Series(scores).rank("ordinal", descending=True)})
    chosen = choose_rows(ranks, "top_k", k)
    parts, _ = contributions(model, matrix[chosen.to_numpy()], ENCODING)
    reasons = reason_codes(frame.filter(chosen), parts, NAMES, {}, TOP)
    return scores, reasons


def measure(work: Callable[[], Outcome]) -> tuple[float, Outcome]:
    """Seconds, and what was made."""
    begun = perf_counter()
    outcome = work()
    return perf_counter() - begun, outcome


def main() -> None:
    """Fit, measure the three ways in turn, print seconds and ratios."""
    model, frame = fit_model(), make_frame(ROWS, seed=9)
    ways: dict[str, Callable[[], Outcome]] = {
        "alone": lambda: score(model, frame),
        "all rows": lambda: score_and_explain(model, frame, ROWS),
        "one in ten": lambda: score_and_explain(model, frame, ROWS // 10),
    }
    taken: list[dict[str, float]] = []
    for _ in range(REPETITIONS):
        measured = {name: measure(work) for name, work in ways.items()}
        assert len({scores.tobytes() for _, (scores, _) in measured.values()}) == 1
        taken.append({name: seconds for name, (seconds, _) in measured.items()})
        print("   ".join(f"{name} {seconds:6.2f} s" for name, seconds in taken[-1].items()), flush=True)
    for name in ("all rows", "one in ten"):
        ratio = statistics.median(repetition[name] / repetition["alone"] for repetition in taken)
        print(f"with reasons for {name}, scoring takes {ratio:.1f} times as long")


if __name__ == "__main__":
    main()
