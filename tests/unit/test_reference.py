"""The reference of a model: kept with it and read back, in the order of dates, and with dates that have no rows."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from nightscore.measures.domain import left_out_aucs
from nightscore.measures.profiling import build_reference
from nightscore.training.fit import Trained, train
from nightscore.training.reference import (
    REFERENCE_FILE,
    SAMPLE_FILE,
    SCORE,
    Reference,
    domain_kinds,
    kinds_of,
    read_frame,
    read_partitions,
    with_reference,
)
from tests.unit.synthetic_flights import make_flights, make_pipeline, training_section

PIPELINE = make_pipeline("linear", training=training_section(algorithm={"type": "linear"}, baselines=[]))
FLIGHTS = make_flights()
UNLABELLED = FLIGHTS.drop("label")
FIRST = date(2013, 1, 1)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return with_reference(train(FLIGHTS, PIPELINE), read_frame(UNLABELLED))


def reference_of(trained: Trained) -> Reference:
    assert trained.reference is not None
    return trained.reference


def kept_in(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def partitions(folder: Path, frame: pl.DataFrame) -> dict[date, Path]:
    """A file for each score date, the last one first."""
    paths = {}
    for part in reversed(frame.partition_by("score_date", maintain_order=True)):
        night = part["score_date"][0]
        paths[night] = folder / f"{night}.parquet"
        part.write_parquet(paths[night])
    return paths


def test_features_and_scores_are_profiled_as_a_night_has_them(trained: Trained) -> None:
    found = reference_of(trained)
    scored = UNLABELLED.with_columns(pl.Series(SCORE, trained.score(UNLABELLED)))
    kinds = {**kinds_of(PIPELINE), SCORE: "number"}
    assert found.profile == build_reference(read_frame(scored), kinds)
    assert [one.name for one in found.profile.columns] == [*PIPELINE.feature_names, SCORE]
    assert_frame_equal(found.sample, UNLABELLED.select("score_date", *PIPELINE.feature_names))
    steady = {"carrier": "category", "hour": "number", "wind": "number", "gate": "category"}
    assert domain_kinds(PIPELINE, found.profile) == steady
    assert found.domain_aucs == left_out_aucs(found.sample, domain_kinds(PIPELINE, found.profile), "score_date")


def test_an_input_that_wanders_tells_no_week_apart(trained: Trained) -> None:
    profile = reference_of(trained).profile
    columns = tuple(replace(one, week_psi=0.2) if one.name == "wind" else one for one in profile.columns)
    found = domain_kinds(PIPELINE, replace(profile, columns=columns))
    assert found == {"carrier": "category", "hour": "number", "gate": "category"}


def test_a_reference_is_read_back_to_the_last_bit(trained: Trained, tmp_path: Path) -> None:
    made = reference_of(trained)
    files = made.as_files()
    assert sorted(files) == sorted([REFERENCE_FILE, SAMPLE_FILE])
    again = Reference.from_folder(kept_in(tmp_path / "capsule", files))
    assert again is not None
    assert (again.profile, again.domain_aucs) == (made.profile, made.domain_aucs)
    assert_frame_equal(again.sample, made.sample)
    assert again.as_files() == files


def test_a_capsule_of_an_older_release_has_none(tmp_path: Path) -> None:
    assert Reference.from_folder(tmp_path) is None


def test_files_frames_and_the_order_of_rows_give_the_same_reference(trained: Trained, tmp_path: Path) -> None:
    expected = reference_of(trained).as_files()
    from_files = with_reference(trained, read_partitions(partitions(tmp_path, UNLABELLED)))
    assert reference_of(from_files).as_files() == expected
    # Dates may come in any order; a partition has its rows in the order of their key.
    late_first = UNLABELLED.sort(pl.col("score_date"), descending=True, maintain_order=True)
    assert reference_of(with_reference(trained, read_frame(late_first))).as_files() == expected


def test_partitions_are_read_by_date_each_time_anew(tmp_path: Path) -> None:
    paths = partitions(tmp_path, UNLABELLED)
    read = read_partitions(paths)
    assert list(paths) == sorted(paths, reverse=True)
    for found in (list(read()), list(read()), list(read_frame(UNLABELLED)())):
        assert [night for night, _ in found] == sorted(paths)
        assert_frame_equal(pl.concat([frame for _, frame in found]), UNLABELLED)


def test_a_large_date_comes_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightscore.training.reference.BATCH_ROWS", 64)
    found = list(read_partitions(partitions(tmp_path, UNLABELLED))())
    assert [len(frame) for _, frame in found] == [64, 64, 22] * 40
    assert [night for night, frame in found for _ in range(len(frame))] == UNLABELLED["score_date"].to_list()
    assert_frame_equal(pl.concat([frame for _, frame in found]), UNLABELLED)


def test_a_date_without_rows_is_a_date_of_the_reference(trained: Trained, tmp_path: Path) -> None:
    paths = partitions(tmp_path, UNLABELLED)
    empty = FIRST + timedelta(days=40)
    paths[empty] = tmp_path / "empty.parquet"
    UNLABELLED.clear().write_parquet(paths[empty])
    found = reference_of(with_reference(trained, read_partitions(paths)))
    assert (found.profile.dates[-1], found.profile.rows) == (empty, (*[150] * 40, 0))
    assert found.profile.weekday_rows(empty.weekday()) == (0, 150)
    assert {one.daily_values[-1] for one in found.profile.columns} == {None}
    assert_frame_equal(found.sample, reference_of(trained).sample)


def test_a_window_without_rows_has_an_empty_reference(trained: Trained, tmp_path: Path) -> None:
    paths = {FIRST: tmp_path / "empty.parquet"}
    UNLABELLED.clear().write_parquet(paths[FIRST])
    found = reference_of(with_reference(trained, read_partitions(paths)))
    assert (found.profile.rows, found.domain_aucs, found.sample.height) == ((0,), (), 0)
    again = Reference.from_folder(kept_in(tmp_path / "capsule", found.as_files()))
    assert again is not None
    assert again.profile == found.profile
