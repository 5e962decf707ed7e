"""A night's scores: the kernel's and LightGBM's bits, whatever batches, threads and row groups; and the proof of it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nightscore.errors import FeatureBuildFailed
from nightscore.lake import parquet
from nightscore.lake.parquet import write_parquet
from nightscore.registry.capsule import Capsule, read_capsule, write_capsule
from nightscore.scoring import engine, evaluate, rows, scores
from nightscore.scoring.arms import Arms, Share
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.forest import Forest, compile_forest
from nightscore.scoring.kernel import find_instructions
from nightscore.scoring.predictions import predict_night
from nightscore.scoring.scores import Scores, score_night
from nightscore.training.fit import train
from tests.unit.decided import decide
from tests.unit.synthetic_flights import LIGHTGBM, LINEAR, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
KEY = ["score_date", "carrier", "flight"]
NIGHT = pl.concat(
    FLIGHTS.drop("label").with_columns(pl.lit(FLIGHTS["score_date"].max()).alias("score_date"), pl.col("flight") + at)
    for at in (0, 100_000)
).unique(KEY)

SHARE = Share("canary", 2, "0" * 64, 40.0, "flights@2", ("carrier", "flight"))

pytestmark = pytest.mark.skipif(not find_instructions(), reason="the kernel was not built here")


@pytest.fixture(scope="module")
def capsules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Capsule, Capsule]:
    """One of boosted trees with a calibration, and a linear one without."""
    root = tmp_path_factory.mktemp("capsules")
    made = []
    for name, algorithm, calibration in (("a", LIGHTGBM, {"method": "isotonic", "dates": 6}), ("b", LINEAR, None)):
        section = training_section(algorithm=algorithm, baselines=[], calibration=calibration)
        write_capsule(root / name, train(FLIGHTS, make_pipeline(training=section)), "", {})
        made.append(read_capsule(root / name))
    return made[0], made[1]


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 400)
    write_parquet(NIGHT, KEY, tmp_path / "features.parquet")
    return tmp_path / "features.parquet"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small nights are scored by the kernel too."""
    monkeypatch.setattr(engine, "KERNEL_ROWS", 0)


def bits(found: Scores) -> tuple[bytes, bytes, bytes]:
    assert found.probability is not None
    return found.score.tobytes(), found.probability.tobytes(), found.arm.tobytes()


def test_a_small_night_is_left_to_lightgbm(capsules: tuple[Capsule, Capsule], features: Path) -> None:
    found = score_night(Arms(1, capsules[0]), features, 1)
    assert found.engines == (EngineUse(1, "lightgbm", None, "fewer than 50,000 rows"),)
    assert found.score.tobytes() == capsules[0].predict(NIGHT.sort(KEY)).tobytes()


def test_the_kernel_gives_the_same_bits_and_says_what_proved_it(
    capsules: tuple[Capsule, Capsule], features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = score_night(Arms(1, capsules[0]), features, 1)
    monkeypatch.setattr(engine, "KERNEL_ROWS", 0)
    found = score_night(Arms(1, capsules[0]), features, 2)
    assert bits(found) == bits(alone)
    assert found.engines == (EngineUse(1, "quickscorer", find_instructions()[-1], "", NIGHT.height),)
    assert str(found.engines[0]).endswith(f"{NIGHT.height:,} rows equal to LightGBM")


@pytest.mark.parametrize(("batch", "threads"), [(64, 1), (999, 2), (1 << 17, 3)])
def test_batches_and_threads_change_no_bit_of_two_arms(
    capsules: tuple[Capsule, Capsule], features: Path, kernel: None, monkeypatch: pytest.MonkeyPatch, batch: int,
    threads: int,
) -> None:  # fmt: skip
    arms = Arms(1, capsules[0], SHARE, capsules[1])
    whole = score_night(arms, features, 1)
    monkeypatch.setattr(rows, "BATCH_ROWS", batch)
    assert bits(score_night(arms, features, threads)) == bits(whole)
    assert sorted(set(whole.arm.tolist())) == [0, 1]


def test_row_groups_scored_apart_are_the_night(capsules: tuple[Capsule, Capsule], features: Path, kernel: None) -> None:
    arms = Arms(1, capsules[0])
    whole = score_night(arms, features, 1)
    last = len(parquet.rows_by_group(features))
    parts = [score_night(arms, features, 1, groups) for groups in (range(1), range(1, 3), range(3, last))]
    assert np.concatenate([one.score for one in parts]).tobytes() == whole.score.tobytes()


def test_a_kernel_that_differs_in_a_bit_scores_nothing(
    capsules: tuple[Capsule, Capsule], features: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(text: str) -> Forest:
        forest = compile_forest(text)
        forest.leaves[3] = np.nextafter(forest.leaves[3], 1)
        return forest

    monkeypatch.setattr(evaluate, "compile_forest", damaged)
    found = score_night(Arms(1, capsules[0]), features, 1)
    assert found.score.tobytes() == capsules[0].predict(NIGHT.sort(KEY)).tobytes()
    (use,) = found.engines
    assert (use.engine, use.instructions) == ("lightgbm", None)
    assert use.reason == f"the kernel differed from LightGBM in {use.differing} of {use.checked} rows"
    assert 0 < use.differing <= use.checked <= NIGHT.height


def test_a_version_whose_kernel_has_differed_is_scored_by_lightgbm(
    capsules: tuple[Capsule, Capsule], features: Path, kernel: None
) -> None:
    differed = EngineUse(1, "lightgbm", None, "the kernel differed from LightGBM in 1 of 10 rows", 10, 1)
    found = score_night(Arms(1, capsules[0]), features, 1, refused={1: differed})
    assert found.score.tobytes() == capsules[0].predict(NIGHT.sort(KEY)).tobytes()
    assert found.engines == (differed,)


def test_the_proof_is_spread_over_the_night(
    capsules: tuple[Capsule, Capsule], features: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "SAMPLE_ROWS", 100)
    monkeypatch.setattr(rows, "BATCH_ROWS", 500)
    (use,) = score_night(Arms(1, capsules[0]), features, 1).engines
    assert use.checked == -(-NIGHT.height // (NIGHT.height // 100))


def test_the_streamed_night_is_the_one_decided_as_a_whole(
    capsules: tuple[Capsule, Capsule], features: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH_ROWS", 700)
    late = {"name": "late_hours", "when": "hour >= 20 AND score >= 0.30", "decision": True}
    pipeline = make_pipeline(
        decision={"rule": {"type": "top_k", "k": 300}, "business_rules": [late]}, publish={"columns": ["gate"]}
    )
    made = predict_night(pipeline, Arms(1, capsules[0]), features, 2).frame()
    score = capsules[0].predict(NIGHT.sort(KEY))
    frame = NIGHT.sort(KEY).with_columns(score=score, probability=capsules[0].probability(score))
    columns = [*KEY, "gate", "score", "probability", "decision", "decision_reason", "rank", "decile"]
    assert made.select(columns).equals(decide(frame, pipeline).select(columns))


def test_a_feature_that_is_missing_is_named(capsules: tuple[Capsule, Capsule], features: Path, kernel: None) -> None:
    write_parquet(NIGHT.drop("hour"), KEY, features)
    with pytest.raises(FeatureBuildFailed, match="column hour is missing"):
        score_night(Arms(1, capsules[0]), features, 1)


def test_an_infinite_feature_is_named(capsules: tuple[Capsule, Capsule], features: Path, kernel: None) -> None:
    write_parquet(NIGHT.with_columns(pl.lit(float("inf")).alias("wind")), KEY, features)
    with pytest.raises(FeatureBuildFailed, match=r"column wind has \d+ infinite values"):
        score_night(Arms(1, capsules[0]), features, 1)
