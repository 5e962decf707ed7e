"""A night in the bins of a reference: the same whatever the batches and the order of rows, kept and read back."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from nightscore.lake.parquet import write_parquet
from nightscore.measures.control import fit_chart
from nightscore.measures.distances import psi
from nightscore.measures.profiles import ColumnProfile, Kind, count_into, daily_value, out_of_range_rate
from nightscore.measures.profiling import build_reference
from nightscore.measures.sampling import sample_rows
from nightscore.training.reference import SCORE, Reference, kinds_of
from nightscore.watch import profile as profiling
from nightscore.watch.evidence import Chart, ColumnNight, ColumnWeek, Swap
from nightscore.watch.measure import find_swaps, measure_columns, measure_week, tell_week_apart
from nightscore.watch.profile import NightColumn, NightProfile, make_profile
from tests.unit.synthetic_flights import make_flights, make_pipeline

PIPELINE = make_pipeline()
KEY = ("score_date", "carrier", "flight")
VERSION, OTHER = 3, 4
OUTSIDE = pl.when(pl.col("hour") > 20).then(1000.0).otherwise(1.0)
OWN = pl.lit(VERSION)
KINDS: dict[str, Kind] = {**kinds_of(PIPELINE), SCORE: "number"}
DATES = make_flights()["score_date"].unique(maintain_order=True).to_list()
TONIGHT: date = DATES[-1]


def scored(frame: pl.DataFrame) -> pl.DataFrame:
    random = np.random.default_rng(1)
    return frame.with_columns(pl.Series(SCORE, random.random(frame.height)))


def parts(frame: pl.DataFrame) -> list[tuple[date, pl.DataFrame]]:
    return [(part["score_date"][0], part) for part in frame.partition_by("score_date", maintain_order=True)]


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return scored(make_flights())


@pytest.fixture(scope="module")
def reference(flights: pl.DataFrame) -> Reference:
    profile = build_reference(lambda: parts(flights), KINDS)
    return Reference(profile, (0.5, 0.5, 0.5, 0.5), flights.drop(SCORE, "label"))


def profile(
    reference: Reference, frame: pl.DataFrame, folder: Path, with_scores: bool = True, by: pl.Expr = OWN
) -> NightProfile:
    """`frame` as partitions of features and predictions, which versions `by` made, profiled as a night is."""
    folder.mkdir(exist_ok=True)
    features, predictions = folder / "features.parquet", folder / "predictions.parquet"
    write_parquet(frame.drop(SCORE, "label"), KEY, features)
    write_parquet(frame.select(*KEY, SCORE, by.alias("model_version")), KEY, predictions)
    night = frame["score_date"][0] if frame.height else TONIGHT
    scored_by_it = predictions if with_scores else None
    return make_profile(PIPELINE, reference.profile, VERSION, night, features, scored_by_it)


def whole(column: ColumnProfile, values: pl.Series) -> NightColumn:
    counts = tuple(int(one) for one in count_into(column, values))
    return NightColumn(counts, daily_value(column, values), out_of_range_rate(column, values, 0.5))


def rounded(columns: dict[str, NightColumn]) -> dict[str, tuple[object, ...]]:
    """Sums of batches differ in their last bits."""
    return {name: (one.counts, *map(nine_digits, (one.value, one.out_of_range))) for name, one in columns.items()}


def nine_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def test_a_night_has_its_counts_values_and_rows(reference: Reference, flights: pl.DataFrame, tmp_path: Path) -> None:
    night = flights.filter(score_date=TONIGHT)
    found = profile(reference, night, tmp_path)
    assert (found.night, found.rows) == (TONIGHT, 150)
    expected = {column.name: whole(column, night[column.name]) for column in reference.profile.columns}
    assert rounded(found.columns) == rounded(expected)
    assert found.sample.columns == ["score_date", *PIPELINE.feature_names]
    assert_frame_equal(found.sample, night.select(found.sample.columns))


@pytest.mark.parametrize("rows", [1, 7, 64, 149, 150])
def test_the_size_of_batches_does_not_show(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    night = flights.filter(score_date=TONIGHT).with_columns(wind=pl.col("wind") * 3)
    at_once = profile(reference, night, tmp_path)
    monkeypatch.setattr(profiling, "BATCH_ROWS", rows)
    found = profile(reference, night, tmp_path)
    assert rounded(found.columns) == rounded(at_once.columns)
    assert found.rows == at_once.rows
    assert_frame_equal(found.sample, at_once.sample)


@pytest.mark.parametrize("most_levels", [1, 1000])
@pytest.mark.parametrize("rows", [10, 64, 149])
def test_columns_counted_side_by_side_are_whole_batches_to_the_last_bit(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int,
    most_levels: int,
) -> None:  # fmt: skip
    """Stored profiles and weeks are compared by content, so a faster way has to give the same bits."""
    night = flights.filter(score_date=TONIGHT).with_columns(wind=pl.col("wind") / 3 * OUTSIDE)
    monkeypatch.setattr(profiling, "BATCH_ROWS", rows)
    monkeypatch.setattr(profiling, "SAMPLE_ROWS", 40)
    monkeypatch.setattr(profiling, "MOST_LEVELS", most_levels)
    found = profile(reference, night, tmp_path)
    batches = list(pl.read_parquet(tmp_path / "features.parquet").iter_slices(rows))
    own = list(pl.read_parquet(tmp_path / "predictions.parquet", columns=[SCORE]).iter_slices(rows))
    parts = [
        {one.name: whole(one, batch[one.name]) for one in reference.profile.columns if one.name in batch.columns}
        for batch in [*batches, *own]
    ]
    assert found.columns == profiling._merge(parts)
    assert list(found.columns) == [one.name for one in reference.profile.columns]
    drawn = sample_rows(((TONIGHT, batch) for batch in batches), found.sample.columns, 40)
    assert 0 < found.sample.height <= 40
    assert_frame_equal(found.sample, drawn)


def test_the_order_of_rows_does_not_show(reference: Reference, flights: pl.DataFrame, tmp_path: Path) -> None:
    night = flights.filter(score_date=TONIGHT)
    mixed = night.sample(fraction=1, shuffle=True, seed=3)
    one, other = (profile(reference, frame, tmp_path / str(at)) for at, frame in enumerate((night, mixed)))
    assert profiling._to_bytes(one) == profiling._to_bytes(other)


def test_a_profile_is_read_back_to_the_last_bit(reference: Reference, flights: pl.DataFrame, tmp_path: Path) -> None:
    for frame in (flights.filter(score_date=TONIGHT), flights.clear()):
        made = profile(reference, frame, tmp_path)
        again = profiling._from_bytes(profiling._to_bytes(made))
        assert (again.night, again.rows, again.columns) == (made.night, made.rows, made.columns)
        assert_frame_equal(again.sample, made.sample)
        assert profiling._to_bytes(again) == profiling._to_bytes(made)


def test_a_night_without_rows_or_scores_measures_neither(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    empty = profile(reference, flights.clear(), tmp_path)
    assert (empty.rows, measure_columns(empty, reference)) == (0, ())
    assert {(sum(one.counts), one.value, one.out_of_range) for one in empty.columns.values()} == {(0, None, None)}
    unscored = profile(reference, flights.filter(score_date=TONIGHT), tmp_path, with_scores=False)
    assert [one.name for one in measure_columns(unscored, reference)] == list(PIPELINE.feature_names)


def test_scores_of_another_version_are_not_compared_with_the_reference_of_this_one(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    night, canary = flights.filter(score_date=TONIGHT), pl.col("flight") % 2 == 0
    both = night.with_columns(pl.when(canary).then(99.0).otherwise(SCORE).alias(SCORE))
    by_arm = pl.when(canary).then(OTHER).otherwise(VERSION)
    found = profile(reference, both, tmp_path, by=by_arm)
    column, own = reference.profile.column(SCORE), night.filter(~canary)
    assert rounded({SCORE: found.columns[SCORE]}) == rounded({SCORE: whole(column, own[SCORE])})
    assert (found.rows, [one.name for one in measure_columns(found, reference)][-1]) == (150, SCORE)
    taken_over = profile(reference, both, tmp_path, by=pl.lit(OTHER))
    assert [one.name for one in measure_columns(taken_over, reference)] == list(PIPELINE.feature_names)


def test_every_class_of_column_has_the_figures_that_mean_something(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    wild = flights.filter(score_date=TONIGHT).with_columns(carrier=pl.lit("ZZ"), wind=pl.lit(1000.0))
    found = {one.name: one for one in measure_columns(profile(reference, wild, tmp_path), reference)}
    assert list(found) == [*PIPELINE.feature_names, SCORE]
    of = reference.profile.column
    nulls = {"reference_null_rate": 0.0, "null_deviation_q95": 0.0, "null_rate": 0.0}
    same_weekday = of("carrier").on_weekday(TONIGHT.weekday())
    assert found["carrier"] == ColumnNight(
        name="carrier", **nulls, unseen_share=1.0, psi=psi(same_weekday, np.array([0] * 5 + [150, 0])),
        psi_q99=max(of("carrier").night_psi or 0, of("carrier").night_limit or 0),
    )  # fmt: skip
    assert found["weekend"] == ColumnNight(name="weekend", **nulls)
    figures = found["wind"].model_dump(include={"null_rate", "unseen_share", "out_of_range_share", "chart"})
    assert figures == {"null_rate": 0.0, "unseen_share": None, "out_of_range_share": 1.0, "chart": None}


def test_a_column_that_moves_from_day_to_day_has_a_chart_in_place_of_a_distance(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    day = pl.col("score_date").dt.ordinal_day()
    warm = flights.with_columns(wind=50 + day % 7 + pl.col("hour") / 100)
    daily = replace(reference, profile=build_reference(lambda: parts(warm), KINDS))
    night = profile(daily, warm.filter(score_date=TONIGHT), tmp_path)
    (found,) = [one for one in measure_columns(night, daily) if one.name == "wind"]
    chart = fit_chart(daily.profile.column("wind").daily_values)
    assert chart is not None
    value, (low, high) = night.columns["wind"].value, chart.limits
    assert value is not None
    assert found == ColumnNight(
        name="wind", null_rate=0.0, reference_null_rate=0.0, chart=Chart(value=value, low=low, high=high)
    )


def test_an_input_is_held_to_its_past_too_and_the_score_is_not(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    columns = [replace(one, night_psi=0.2, week_psi=0.3, night_limit=4.0, week_limit=5.0)
               for one in reference.profile.columns]  # fmt: skip
    wandering = replace(reference, profile=replace(reference.profile, columns=tuple(columns)))
    nights = [profile(wandering, frame, tmp_path) for _, frame in parts(flights)[-7:]]
    tonight = {one.name: one.psi_q99 for one in measure_columns(nights[-1], wandering)}
    assert tonight == {"carrier": 4.0, "hour": 4.0, "wind": 4.0, "weekend": 0.0, "gate": 4.0, SCORE: 0.2}
    # What wanders leaves its range by itself.
    assert {one.out_of_range_share for one in measure_columns(nights[-1], wandering)} == {None}
    week = {one.name: one.psi_q99 for one in measure_week(nights, wandering)}
    assert week == {"carrier": 5.0, "hour": 5.0, "wind": 5.0, "gate": 5.0, SCORE: 0.3}


def usual(column: ColumnProfile) -> float:
    """What weeks stayed below: of left-out ones, and of a feature beside its past."""
    assert column.week_psi is not None
    assert column.week_limit is not None
    return column.week_psi if column.name == SCORE else max(column.week_psi, column.week_limit)


def test_a_week_is_the_sum_of_its_nights(reference: Reference, flights: pl.DataFrame, tmp_path: Path) -> None:
    nights = [profile(reference, frame, tmp_path) for _, frame in parts(flights)[-7:]]
    empty = profile(reference, flights.clear(), tmp_path)
    week = flights.filter(pl.col("score_date") > TONIGHT - timedelta(days=7))
    compared = [one for one in reference.profile.columns if one.column_class == "distribution"]
    expected = tuple(
        ColumnWeek(name=one.name, psi=psi(one.reference, count_into(one, week[one.name])), psi_q99=usual(one))
        for one in compared
    )
    assert measure_week(nights, reference) == expected
    assert measure_week([*nights, empty], reference) == expected


def test_with_few_nights_or_no_left_out_weeks_no_week_is_compared(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    nights = [profile(reference, frame, tmp_path) for _, frame in parts(flights)[-5:]]
    empty = [profile(reference, flights.clear(), tmp_path)] * 3
    few = [*nights[:4], *empty]
    assert (measure_week(few, reference), tell_week_apart(few, reference, PIPELINE)) == ((), None)
    assert [one.name for one in measure_week(nights, reference)] == ["carrier", "hour", "wind", "gate", SCORE]
    assert tell_week_apart(nights, replace(reference, domain_aucs=()), PIPELINE) is None


def test_a_column_that_a_night_lacks_is_not_compared_over_the_week(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    nights = [profile(reference, frame, tmp_path) for _, frame in parts(flights)[-7:]]
    unscored = profile(reference, flights.filter(score_date=TONIGHT), tmp_path, with_scores=False)
    assert [one.name for one in measure_week([*nights[:-1], unscored], reference)] == [
        "carrier",
        "hour",
        "wind",
        "gate",
    ]


def test_scores_of_another_version_are_not_compared_over_the_week(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    nights = [profile(reference, frame, tmp_path) for _, frame in parts(flights)[-7:]]
    by_other = profile(reference, flights.filter(score_date=TONIGHT), tmp_path, by=pl.lit(OTHER))
    assert by_other.has("wind")
    assert not by_other.has(SCORE)
    found = [one.name for one in measure_week([*nights[:-1], by_other], reference)]
    assert found == ["carrier", "hour", "wind", "gate"]


def test_a_feature_that_is_absent_is_an_error(reference: Reference, flights: pl.DataFrame, tmp_path: Path) -> None:
    night = flights.filter(score_date=TONIGHT)
    profile(reference, night, tmp_path)
    night.drop(SCORE, "label", "wind").write_parquet(tmp_path / "features.parquet")
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="wind"):
        make_profile(PIPELINE, reference.profile, VERSION, TONIGHT, tmp_path / "features.parquet", None)


def test_a_week_is_told_apart_by_the_column_that_changed(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    quiet = [profile(reference, frame, tmp_path) for _, frame in parts(flights)[-7:]]
    late = flights.with_columns(hour=(pl.col("hour") // 2 + 12))
    moved = [profile(reference, frame, tmp_path) for _, frame in parts(late)[-7:]]
    found = [tell_week_apart(nights, reference, PIPELINE) for nights in (quiet, moved)]
    assert [one is not None and one.auc > one.threshold for one in found] == [False, True]
    assert found[1] is not None
    assert found[1].columns[0] == "hour"


def test_swapped_codes_are_named_and_every_category_is_looked_at(
    reference: Reference, flights: pl.DataFrame, tmp_path: Path
) -> None:
    routes = flights.with_columns(gate=pl.col("carrier").replace_strict({"AA": 1, "B6": 2, "DL": 3, "UA": 4, "WN": 5}))
    tonight = routes.filter(pl.col("score_date") > TONIGHT - timedelta(days=3))
    swapped = tonight.with_columns(carrier=pl.col("carrier").replace({"B6": "DL", "DL": "B6"}))
    known = Reference(build_reference(lambda: parts(routes), KINDS), (), routes.drop(SCORE, "label"))
    found = [find_swaps(profile(known, frame, tmp_path), known, PIPELINE) for frame in (tonight, swapped)]
    names = [one.name for one in found[0]]
    assert found == [
        tuple(Swap(name=name) for name in names),
        tuple(Swap(name=name, pairs=(("B6", "DL"),) if name == "carrier" else (("2", "3"),)) for name in names),
    ]
