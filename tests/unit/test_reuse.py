"""Rows that an earlier night scored keep their scores when nothing of them has changed, and only then."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from nightscore.lake.parquet import write_batches, write_parquet
from nightscore.registry.capsule import Capsule, read_capsule, write_capsule
from nightscore.scoring import engine, reuse, rows, scores
from nightscore.scoring.arms import Arms
from nightscore.scoring.predictions import predict_night
from nightscore.scoring.reuse import EarlierNight
from nightscore.scoring.scores import score_night
from nightscore.training.fit import train
from tests.unit.synthetic_flights import LIGHTGBM, make_flights, make_pipeline, training_section

FLIGHTS = make_flights()
KEY = ["score_date", "carrier", "flight"]
EARLIER = date(2013, 4, 1)
NIGHT = FLIGHTS.drop("label").unique(["carrier", "flight"], keep="first", maintain_order=True)
ROWS = NIGHT.height
ONE = (pl.lit(NIGHT["carrier"][7]).alias("carrier"), pl.lit(NIGHT["flight"][7]).alias("flight"))


def on(night: date, frame: pl.DataFrame = NIGHT) -> pl.DataFrame:
    return frame.with_columns(pl.lit(night).alias("score_date"))


@pytest.fixture(scope="module")
def capsule(tmp_path_factory: pytest.TempPathFactory) -> Capsule:
    folder = tmp_path_factory.mktemp("capsules") / "a"
    section = training_section(algorithm=LIGHTGBM, baselines=[], calibration={"method": "isotonic", "dates": 6})
    write_capsule(folder, train(FLIGHTS, make_pipeline(training=section)), "", {})
    return read_capsule(folder)


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring is costly here, and pays from the first row on."""
    monkeypatch.setattr(engine, "find_instructions", lambda: ())
    monkeypatch.setattr(scores, "KERNEL_ROWS", 0)
    monkeypatch.setattr(engine, "KERNEL_ROWS", 0)


@pytest.fixture
def earlier(capsule: Capsule, tmp_path: Path) -> EarlierNight:
    features, predictions = tmp_path / "earlier.parquet", tmp_path / "scored.parquet"
    write_parquet(on(EARLIER), KEY, features)
    made = predict_night(make_pipeline(), Arms(1, capsule), features, 1)
    write_batches(made.batches(), KEY, predictions)
    return EarlierNight(EARLIER, "f", "p", {"f": features, "p": predictions}.__getitem__)


CHANGES = {
    "nothing": (pl.col("wind"), ROWS),
    "one row": (
        pl.when(pl.struct("carrier", "flight") == pl.struct(*ONE)).then(-1.0).otherwise("wind").alias("wind"),
        ROWS - 1,
    ),
    "a value becomes null": (
        pl.when(pl.col("carrier") == "AA").then(None).otherwise("wind").alias("wind"),
        NIGHT.filter((pl.col("carrier") != "AA") | pl.col("wind").is_null()).height,
    ),
    "every row": (pl.col("hour").fill_null(0) + 1, 0),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("batch", [1 << 17, 50])
def test_only_unchanged_rows_keep_their_scores_and_no_bit_differs(
    capsule: Capsule, earlier: EarlierNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch: int
) -> None:
    change, kept = CHANGES[name]
    monkeypatch.setattr(rows, "BATCH_ROWS", batch)
    monkeypatch.setattr(reuse, "BATCH_ROWS", batch)
    write_parquet(on(date(2013, 4, 2)).with_columns(change), KEY, tmp_path / "tonight.parquet")
    alone = score_night(Arms(1, capsule), tmp_path / "tonight.parquet", 1)
    found = score_night(Arms(1, capsule), tmp_path / "tonight.parquet", 1, earlier=earlier)
    assert found.score.tobytes() == alone.score.tobytes()
    assert found.merit.tobytes() == alone.merit.tobytes()
    (use,) = found.engines
    assert use.reused == kept
    assert use.reused_from == (earlier.as_json() if use.reused else None)


def test_entities_that_come_and_go_are_no_matter(capsule: Capsule, earlier: EarlierNight, tmp_path: Path) -> None:
    new = NIGHT.head(40).with_columns(pl.col("flight") + 1_000_000)
    tonight = on(date(2013, 4, 2), pl.concat([NIGHT.gather_every(3), new]))
    write_parquet(tonight, KEY, tmp_path / "tonight.parquet")
    alone = score_night(Arms(1, capsule), tmp_path / "tonight.parquet", 1)
    found = score_night(Arms(1, capsule), tmp_path / "tonight.parquet", 1, earlier=earlier)
    assert found.score.tobytes() == alone.score.tobytes()
    assert found.engines[0].reused == NIGHT.gather_every(3).height


def test_the_published_table_is_identical_to_the_byte(capsule: Capsule, earlier: EarlierNight, tmp_path: Path) -> None:
    write_parquet(on(date(2013, 4, 2)), KEY, tmp_path / "tonight.parquet")
    for name, known in (("alone", None), ("reused", earlier)):
        made = predict_night(make_pipeline(), Arms(1, capsule), tmp_path / "tonight.parquet", 1, known)
        write_batches(made.batches(), KEY, tmp_path / name)
    assert (tmp_path / "alone").read_bytes() == (tmp_path / "reused").read_bytes()
