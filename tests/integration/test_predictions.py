"""A night's predictions from opened capsules: calibrated probabilities, reasons, and two versions side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.registry.capsule import Capsule, read_capsule, write_capsule
from nightscore.scoring.arms import Arms, Share
from nightscore.spec.pipeline import Pipeline
from nightscore.training.fit import train
from tests.integration.scored import predict_night
from tests.unit.synthetic_flights import LIGHTGBM, LINEAR, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
NIGHT = FLIGHTS.filter(pl.col("score_date") == FLIGHTS["score_date"].max()).drop("label")
CALIBRATION = {"method": "isotonic", "dates": 6}
SHARE = Share("canary", 2, "0" * 64, 40.0, "flights@2", ("carrier", "flight"))


def capsule(folder: Path, algorithm: dict[str, Any], calibration: dict[str, Any] | None) -> Capsule:
    section = training_section(algorithm=algorithm, baselines=[], calibration=calibration)
    write_capsule(folder, train(FLIGHTS, make_pipeline(training=section)), "", {})
    return read_capsule(folder)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    root = tmp_path_factory.mktemp("capsules")
    calibrated = capsule(root / "calibrated", LIGHTGBM, CALIBRATION)
    return Arms(1, calibrated, SHARE, capsule(root / "plain", LINEAR, None))


@pytest.fixture
def features(tmp_path: Path) -> Path:
    NIGHT.write_parquet(tmp_path / "features.parquet")
    return tmp_path / "features.parquet"


def explaining(**reasons: Any) -> Pipeline:
    return make_pipeline(publish={"columns": ["gate"], "reasons": reasons})


def test_the_probability_is_calibrated_and_decides(arms: Arms, features: Path) -> None:
    made = predict_night(make_pipeline(), Arms(1, arms.capsule), features, 1)
    scores, probabilities = made["score"].to_numpy(), made["probability"].to_numpy()
    assert probabilities.tobytes() == arms.capsule.calibrator.apply(scores).tobytes()
    assert not np.array_equal(scores, probabilities)
    assert made["decision"].to_list() == (probabilities >= 0.4).tolist()


def test_each_version_scores_its_share_and_one_ranking_holds_both(arms: Arms, features: Path) -> None:
    made = predict_night(make_pipeline(), arms, features, 1)
    alone = {
        1: predict_night(make_pipeline(), Arms(1, arms.capsule), features, 1),
        2: predict_night(make_pipeline(), Arms(2, arms.challenger or arms.capsule), features, 1),
    }
    taken = SHARE.takes(made)
    assert made["arm"].to_list() == ["canary" if one else "champion" for one in taken]
    for version, rows in ((1, ~taken), (2, taken)):
        columns = ["carrier", "flight", "score", "probability", "decision"]
        assert made.filter(rows).select(columns).equals(alone[version].filter(rows).select(columns))
    assert sorted(made["rank"]) == list(range(1, NIGHT.height + 1))
    assert made.sort("rank")["probability"].is_sorted(descending=True)


def test_reasons_are_given_for_the_rows_that_are_wanted(arms: Arms, features: Path) -> None:
    decided = predict_night(explaining(top=2, rows="decided"), arms, features, 1)
    assert decided.columns[-1] == "reason_codes"
    assert decided["reason_codes"].is_not_null().to_list() == decided["decision"].to_list()
    first = predict_night(explaining(top=1, rows="top_k", k=7), arms, features, 1)
    assert first.filter(pl.col("reason_codes").is_not_null())["rank"].sort().to_list() == list(range(1, 8))
    assert first.filter(pl.col("reason_codes").str.contains(";")).height == 0


def test_a_row_is_explained_by_the_version_that_scored_it(arms: Arms, features: Path) -> None:
    pipeline = explaining(top=2, rows="all")
    both = predict_night(pipeline, arms, features, 1)
    own = predict_night(pipeline, Arms(2, arms.challenger or arms.capsule), features, 1)
    taken = SHARE.takes(both)
    assert both.filter(taken)["reason_codes"].equals(own.filter(taken)["reason_codes"])
    assert not both.filter(~taken)["reason_codes"].equals(own.filter(~taken)["reason_codes"])


def test_reasons_change_no_other_column(arms: Arms, features: Path) -> None:
    plain = predict_night(make_pipeline(publish={"columns": ["gate"]}), arms, features, 1)
    assert predict_night(explaining(rows="all"), arms, features, 1).drop("reason_codes").equals(plain)


def test_a_night_without_rows_keeps_its_columns(arms: Arms, features: Path) -> None:
    whole = predict_night(explaining(rows="all"), arms, features, 1)
    NIGHT.clear().write_parquet(features)
    empty = predict_night(explaining(rows="all"), arms, features, 1)
    assert (empty.height, empty.schema) == (0, whole.schema)
