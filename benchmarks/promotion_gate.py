"""An equal challenger, the champion's recipe with another seed, proposed 40 times on shifted windows as a new recipe.

Made-up flights: a day's rows share its wind, its congestion and what happens to each carrier. Both versions learn from
the same 42 dates before each window of 14, and no date is judged twice. Prints the share that the gate would promote,
and the share that a bootstrap over rows would, at the same nominal 10 %. In all worlds together the gate's may be 15 %
at most; one world's 40 proposals alone scatter by some 5 points.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from nightscore.measures.metrics import Vector
from nightscore.measures.paired import losses
from nightscore.registry.gate import Verdict, judge
from nightscore.registry.unseen import CHALLENGER_SCORE, CHAMPION_SCORE, PairedRows
from nightscore.spec.pipeline import Pipeline
from nightscore.training.algorithms import fit_algorithm
from nightscore.training.matrix import Examples, encode, fit_encoding
from tests.unit.synthetic_flights import CARRIERS, make_flights, make_pipeline, training_section

WORLDS = range(1, 11)
PROPOSALS, STEP_DAYS = 40, 14
TRAINING_DAYS, JUDGED_DAYS, ROWS_PER_DATE = 42, 14, 200
RESAMPLES = 400
MOST_PROMOTED = 0.15
ALGORITHM = {
    "type": "lightgbm", "trees": 60, "leaves": 15, "learning_rate": 0.1, "min_rows_in_leaf": 20,
    "bagging_fraction": 0.7, "feature_fraction": 0.7,
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """The gate's verdict on one proposal, and whether rows resampled one by one would promote."""

    verdict: Verdict
    promoted_by_rows: bool


def make_world(seed: int) -> pl.DataFrame:
    """Flights of enough dates for every window; what rows of a day have in common moves their labels together."""
    dates = TRAINING_DAYS + JUDGED_DAYS + STEP_DAYS * (PROPOSALS - 1)
    flights = make_flights(dates, ROWS_PER_DATE, seed)
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(dates), ROWS_PER_DATE)
    carrier = flights["carrier"].replace_strict(CARRIERS, range(len(CARRIERS))).to_numpy()
    wind, congestion = rng.gamma(2.0, 5.0, dates), rng.normal(0, 0.5, dates)
    signal = 0.3 * (carrier - 2) + 0.1 * (flights["hour"].to_numpy() - 14) + 0.05 * (wind[day] - 10) - 0.8
    signal += congestion[day] + rng.normal(0, 0.4, (dates, len(CARRIERS)))[day, carrier]
    label = (rng.random(len(day)) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    return flights.with_columns(wind=wind[day], label=label)


def fit_and_score(pipeline: Pipeline, learnt: pl.DataFrame, judged: pl.DataFrame, seed: int) -> Vector:
    """Scores of `judged` by the pipeline's algorithm, fitted to `learnt` with this seed."""
    encoding = fit_encoding(learnt, pipeline)
    labels = learnt["label"].cast(pl.Float64).to_numpy()
    examples = Examples(encode(learnt.select(encoding.names), encoding), labels, encoding)
    model = fit_algorithm(pipeline.training.algorithm, examples, pipeline.task, seed)
    return model.predict(encode(judged.select(encoding.names), encoding))


def attempt(pipeline: Pipeline, flights: pl.DataFrame, number: int) -> Attempt:
    """One proposal of a version that differs from the champion by its seed alone."""
    begin = number * STEP_DAYS * ROWS_PER_DATE
    learnt = flights.slice(begin, TRAINING_DAYS * ROWS_PER_DATE)
    judged = flights.slice(begin + TRAINING_DAYS * ROWS_PER_DATE, JUDGED_DAYS * ROWS_PER_DATE)
    champion, challenger = (fit_and_score(pipeline, learnt, judged, seed) for seed in (2 * number, 2 * number + 1))
    scores = (pl.Series(CHAMPION_SCORE, champion), pl.Series(CHALLENGER_SCORE, challenger))
    rows = PairedRows(judged.with_columns(*scores), tuple(judged["score_date"].unique().sort()), {})
    labels = judged["label"].cast(pl.Float64).to_numpy()
    saved = losses(pipeline.task, labels, champion) - losses(pipeline.task, labels, challenger)
    drawn = np.random.default_rng(number).integers(0, len(saved), (RESAMPLES, len(saved)))
    by_rows = np.quantile(saved[drawn].mean(axis=1), 1 - pipeline.promotion.confidence) > 0
    return Attempt(judge(pipeline, rows, is_refresh=False), bool(by_rows))


def main() -> None:
    """Every world's proposals, and all together."""
    pipeline = make_pipeline(training=training_section(algorithm=ALGORITHM))
    made: list[Attempt] = []
    for world in WORLDS:
        flights = make_world(world)
        attempts = [attempt(pipeline, flights, number) for number in range(PROPOSALS)]
        made.extend(attempts)
        say(f"world {world}", attempts)
    say("all", made)
    promoted = np.mean([one.verdict.promotable for one in made])
    if promoted > MOST_PROMOTED:
        raise SystemExit(f"the gate promotes {promoted:.1%} of equal challengers, at most {MOST_PROMOTED:.0%} may be")


def say(name: str, attempts: list[Attempt]) -> None:
    """Shares of promotions, by the gate and by rows, and the median gain that the gate could have seen."""
    by_gate, by_rows = (
        float(np.mean([promoted(one) for one in attempts]))
        for promoted in (lambda one: one.verdict.promotable, lambda one: one.promoted_by_rows)
    )
    detectable = np.median([one.verdict.evidence["paired"]["detectable"] for one in attempts])
    print(
        f"{name}: {len(attempts)} equal challengers, the gate promotes {by_gate:.1%}, a bootstrap over rows "
        f"{by_rows:.1%}; gains of {detectable:.2%} would be seen in 8 of 10 cases",
        flush=True,
    )


if __name__ == "__main__":
    main()
