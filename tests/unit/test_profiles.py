"""Profiles are exact, bounded, the same for any batches, and say what a left-out night and week look like."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.measures import profiling, sampling
from nightscore.measures.bins import count_levels, to_vector
from nightscore.measures.distances import psi
from nightscore.measures.left_out import (
    forward_psi,
    left_out_psi,
    limit_ahead,
    limit_of_next,
    null_deviations,
    percentile,
    week_counts,
)
from nightscore.measures.profiles import (
    ColumnProfile,
    Kind,
    ReferenceProfile,
    count_into,
    daily_value,
    measure_into,
    out_of_range_rate,
)
from nightscore.measures.profiling import build_reference
from nightscore.measures.sampling import Batch, sample_numbers, sample_rows

FIRST = date(2013, 1, 1)
KINDS: dict[str, Kind] = {
    "delay": "number", "temperature": "number", "weekday": "number", "carrier": "category", "night": "boolean",
    "season": "category",
}  # fmt: skip


def nights(count: int = 35, rows: int = 200) -> list[Batch]:
    return [(FIRST + timedelta(night), night_frame(night, rows)) for night in range(count)]


def night_frame(night: int, rows: int, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(night)
    return pl.DataFrame(
        {
            "delay": pl.Series(random.normal(shift, 10, rows)).set(pl.Series(random.random(rows) < 0.1), None),
            "temperature": 40 + 10 * math.sin(night) + random.normal(0, 5, rows),
            "weekday": np.full(rows, (FIRST + timedelta(night)).isoweekday()),
            "carrier": random.choice(["UA", "B6", "DL"], rows, p=[0.5, 0.3, 0.2]),
            "night": random.random(rows) < 0.25,
            "season": ["winter" if night < 20 else "spring"] * rows,
        }
    )


@pytest.fixture(scope="module")
def reference() -> ReferenceProfile:
    return build_reference(nights, KINDS)


def test_a_profile_of_few_rows_has_the_exact_figures(reference: ReferenceProfile) -> None:
    whole = pl.concat([frame for _, frame in nights()])
    delay, found = whole["delay"].drop_nulls().to_numpy(), reference.column("delay")
    assert (reference.sampled_rows, reference.rows) == (7000, (200,) * 35)
    assert found.edges == tuple(np.quantile(delay, np.arange(1, 10) / 10))
    assert found.quantiles == tuple(np.quantile(delay, np.arange(101) / 100))
    assert (found.mean, found.sd) == (pytest.approx(delay.mean(), abs=1e-12), pytest.approx(delay.std(), rel=1e-12))
    assert (found.minimum, found.maximum) == (delay.min(), delay.max())
    assert (found.counts, found.null_rate) == (tuple(count_into(found, whole["delay"])), (7000 - len(delay)) / 7000)
    carrier = reference.column("carrier")
    assert (carrier.levels, carrier.counts[-2:]) == (("UA", "B6", "DL"), (0, 0))
    assert dict(zip(carrier.levels, carrier.counts, strict=False)) == dict(whole["carrier"].value_counts().iter_rows())
    assert reference.column("night").counts == (7000 - whole["night"].sum(), whole["night"].sum(), 0, 0)


def test_columns_are_classed_by_what_varies_between_dates(reference: ReferenceProfile) -> None:
    classes = {column.name: column.column_class for column in reference.columns}
    assert classes == {
        "delay": "distribution", "temperature": "daily", "weekday": "calendar", "carrier": "distribution",
        "night": "distribution", "season": "calendar",
    }  # fmt: skip
    declared = build_reference(nights, KINDS, calendar=("temperature",))
    assert declared.column("temperature").column_class == "calendar"


def test_the_share_between_dates_is_that_of_an_analysis_of_variance(reference: ReferenceProfile) -> None:
    values = np.stack([frame["temperature"].to_numpy() for _, frame in nights()])
    raw = 200 * ((values.mean(axis=1) - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum()
    corrected = 1 - (1 - raw) * (7000 - 1) / (7000 - 35)
    assert reference.column("temperature").between_day_share == pytest.approx(corrected, rel=1e-12)
    assert reference.column("delay").between_day_share == pytest.approx(0, abs=0.005)
    ones = [(day, frame.with_columns(night=pl.col("night").cast(pl.Float64))) for day, frame in nights()]
    as_number = build_reference(lambda: ones, {"night": "number"}).column("night")
    assert reference.column("night").between_day_share == pytest.approx(as_number.between_day_share, abs=1e-12)


def test_left_out_nights_and_weeks_are_compared_with_the_others(reference: ReferenceProfile) -> None:
    found = reference.column("delay")
    counts = [count_into(found, frame["delay"]) for _, frame in nights()]
    same = [[other for at, other in enumerate(counts) if at % 7 == own % 7 and at != own] for own in range(35)]
    night_psi = [psi(sum(others), own) for others, own in zip(same, counts, strict=True)]  # type: ignore[arg-type]
    assert found.night_psi == pytest.approx(np.quantile(night_psi, 0.99), rel=1e-12)
    weeks = [sum(counts[start : start + 7]) for start in range(0, 35, 7)]
    week_psi = [psi(sum(weeks) - own, own) for own in weeks]  # type: ignore[arg-type]
    assert found.week_psi == pytest.approx(np.quantile(week_psi, 0.99), rel=1e-12)
    assert found.on_weekday(1).tolist() == sum(counts[0::7]).tolist()  # type: ignore[union-attr]


def test_the_next_night_is_limited_by_what_nights_were_beside_their_past(reference: ReferenceProfile) -> None:
    found = reference.column("delay")
    counts = np.array([count_into(found, frame["delay"]) for _, frame in nights()])
    pasts = [counts[own % 7 : own : 7] for own in range(14, 35)]
    ahead = [psi(past.sum(axis=0), own) for past, own in zip(pasts, counts[14:], strict=True)]
    weeks = [counts[start : start + 7].sum(axis=0) for start in range(0, 35, 7)]
    of_weeks = [psi(sum(weeks[:own]), weeks[own]) for own in (2, 3, 4)]  # type: ignore[arg-type]
    assert (found.is_steady, found.night_limit, found.week_limit) == (True, max(ahead), max(of_weeks))
    wandering = reference.column("season")
    by_night = np.array([count_into(wandering, frame["season"]) for _, frame in nights()])
    limit = limit_of_next(forward_psi(by_night, np.arange(35) % 7))
    assert (wandering.is_steady, wandering.night_limit, wandering.week_limit) == (False, limit, None)


@pytest.mark.parametrize(
    ("night_psi", "week_psi", "expected"),
    [(None, None, True), (9.0, 0.1, True), (0.0, 0.11, False), (0.1, None, True), (0.11, None, False)],
)
def test_a_column_is_steady_when_its_left_out_weeks_lie_close_together(
    reference: ReferenceProfile, night_psi: float | None, week_psi: float | None, expected: bool
) -> None:
    found = replace(reference.column("delay"), night_psi=night_psi, week_psi=week_psi)
    assert found.is_steady is expected


def test_a_moved_night_is_beyond_every_left_out_one(reference: ReferenceProfile) -> None:
    found, day = reference.column("delay"), FIRST + timedelta(40)
    quiet, moved = (count_into(found, night_frame(40, 200, shift)["delay"]) for shift in (0.0, 20.0))
    assert found.night_psi is not None
    assert psi(found.on_weekday(day.weekday()), quiet) < 1.5 * found.night_psi  # type: ignore[operator]
    assert psi(found.on_weekday(day.weekday()), moved) > 5 * found.night_psi  # type: ignore[operator]


def test_weekdays_know_their_rows_and_null_rates() -> None:
    batches = [(FIRST + timedelta(at), pl.DataFrame({"x": [1.0, None, *[2.0] * at]})) for at in range(10)]
    found = build_reference(lambda: batches, {"x": "number"})
    assert (found.weekday_rows(1), found.weekday_null_rates("x", 1)) == ((2, 9), (1 / 9, 1 / 2))
    short = build_reference(lambda: batches[:2], {"x": "number"})
    assert (short.weekday_rows(6), short.weekday_null_rates("x", 6)) == (None, None)


def test_a_profile_goes_through_json_to_the_last_bit(reference: ReferenceProfile) -> None:
    assert ReferenceProfile.from_json(reference.to_json()) == reference
    assert ReferenceProfile.from_json(reference.to_json()).to_json() == reference.to_json()
    with pytest.raises(ValueError, match="dates"):
        ReferenceProfile.from_json("{}")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_every_double_survives_json(values: list[float]) -> None:
    found = build_reference(lambda: [(FIRST, pl.DataFrame({"x": values}))], {"x": "number"})
    assert ReferenceProfile.from_json(found.to_json()) == found


@settings(max_examples=15)
@given(st.integers(1, 90))
def test_the_size_of_batches_does_not_show(rows: int) -> None:
    def split() -> Iterator[Batch]:
        for day, frame in nights(10, 90):
            for part in frame.iter_slices(rows):
                yield day, part

    one, other = build_reference(lambda: nights(10, 90), KINDS), build_reference(split, KINDS)
    assert [rounded(column) for column in other.columns] == [rounded(column) for column in one.columns]


def rounded(column: ColumnProfile) -> tuple[ColumnProfile, list[Any]]:
    figures = [column.mean, column.sd, column.between_day_share, *column.daily_values]
    plain = replace(column, mean=None, sd=None, between_day_share=None, daily_values=())
    return plain, [figure if figure is None else pytest.approx(figure, rel=1e-9, abs=1e-12) for figure in figures]


def test_a_large_reference_is_sampled_but_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SLICE", 1000)
    batches = [(FIRST + timedelta(at), pl.DataFrame({"x": np.arange(at, 300_000, 3)})) for at in range(3)]
    sample = sample_rows(batches, ("x",), most=20_000)
    assert 10_000 <= len(sample) <= 20_000
    found = np.quantile(to_vector(sample["x"]), np.arange(1, 10) / 10)
    assert found == pytest.approx(np.arange(1, 10) * 30_000, abs=4 * 300_000 / (2 * math.sqrt(10_000)))
    again = [(FIRST, part) for _, frame in batches for part in frame.iter_slices(777)]
    assert sample_rows(again, ("x",), most=20_000).equals(sample)


@pytest.mark.parametrize(
    ("rows", "most", "kept", "digest"),
    [
        (0, 20_000, 0, "e3b0c44298fc1c14"),
        (20_000, 20_000, 20_000, "b49ed4334fe4a57f"),
        (20_001, 20_000, 10_046, "f95e3acba1a13d18"),
        (300_000, 20_000, 18_851, "a8baedce72072aff"),
        (1_000_000, 1 << 18, 249_828, "94efe33332501edc"),
    ],
)
def test_the_rows_that_are_kept_of_so_many_are_the_same_for_ever(rows: int, most: int, kept: int, digest: str) -> None:
    """Profiles that are stored have samples of these rows."""
    found = sample_numbers(rows, most)
    assert (len(found), hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16]) == (kept, digest)
    frames = ((FIRST, pl.DataFrame({"x": np.arange(at, min(at + 77_777, rows))})) for at in range(0, rows, 77_777))
    assert sample_rows(frames, ("x",), most)["x"].to_list() == found.tolist()


VALUES = st.lists(st.sampled_from([None, math.nan, math.inf, -math.inf, -7.0, -0.5, 0.0, 0.1, 0.3, 2.0, 9.0]))


@given(VALUES, st.sampled_from([0.0, 0.5, math.inf]))
def test_figures_taken_at_once_are_those_taken_one_by_one(values: list[float | None], margin: float) -> None:
    column = pl.Series("x", values, dtype=pl.Float64)
    found = build_reference(lambda: [(FIRST, pl.DataFrame({"x": [0.0, 0.1, 0.2, 2.0]}))], {"x": "number"}).column("x")
    counts, value, beyond = measure_into(found, column, margin)
    known = [one for one in values if one is not None and math.isfinite(one)]
    outside = [one for one in values if one is not None and (one < -2 * margin or one > 2 + 2 * margin)]
    assert counts.tolist() == count_into(found, column).tolist()
    assert value == (float(np.mean(known)) if known else None)
    assert beyond == (len(outside) / len(values) if values else None)
    assert (value, beyond) == (daily_value(found, column), out_of_range_rate(found, column, margin))


@given(st.lists(st.sampled_from([None, "a", "b", "ü"])), st.lists(st.booleans() | st.none()))
def test_levels_are_counted_alike_as_texts_categories_and_flags(
    texts: list[str | None], flags: list[bool | None]
) -> None:
    levels = ("b", "a")
    expected = [texts.count("b"), texts.count("a"), texts.count("ü"), texts.count(None)]
    for kind in (pl.String, pl.Categorical):
        assert count_levels(pl.Series("x", texts, dtype=pl.String).cast(kind), levels).tolist() == expected
    flagged = count_levels(pl.Series("x", flags, dtype=pl.Boolean), ("false", "true"))
    assert flagged.tolist() == [flags.count(False), flags.count(True), 0, flags.count(None)]


EMPTY: list[Batch] = []
NO_ROWS: list[Batch] = [(FIRST, pl.DataFrame({"x": []}, schema={"x": pl.Float64}))]
NULLS: list[Batch] = [(FIRST + timedelta(at), pl.DataFrame({"x": [None, math.nan]}, strict=False)) for at in range(5)]
ONE: list[Batch] = [(FIRST, pl.DataFrame({"x": [0.1]}))]
CONSTANT: list[Batch] = [(FIRST + timedelta(at), pl.DataFrame({"x": [0.1] * (40 + at)})) for at in range(5)]


@pytest.mark.parametrize(
    ("batches", "edges", "counts", "mean", "sd", "null_rate", "null_deviation"),
    [
        (EMPTY, (), (0, 0), None, None, None, None),
        (NO_ROWS, (), (0, 0), None, None, None, None),
        (NULLS, (), (0, 10), None, None, 1.0, 0.0),
        (ONE, (0.1,), (1, 0, 0), 0.1, 0.0, 0.0, None),
        (CONSTANT, (0.1,), (210, 0, 0), 0.1, 0.0, 0.0, 0.0),
    ],
)
def test_empty_missing_single_and_constant_columns_have_a_profile(
    batches: list[Batch],
    edges: tuple[float, ...],
    counts: tuple[int, ...],
    mean: float | None,
    sd: float | None,
    null_rate: float | None,
    null_deviation: float | None,
) -> None:
    reference = build_reference(lambda: batches, {"x": "number"})
    found = reference.column("x")
    assert (found.edges, found.counts, found.null_rate) == (edges, counts, null_rate)
    assert (found.mean, found.sd) == (mean, sd)
    assert (found.column_class, found.between_day_share) == ("distribution", None)
    assert (found.null_deviation, found.week_psi) == (null_deviation, None)
    assert ReferenceProfile.from_json(reference.to_json()) == reference


def test_levels_beyond_the_most_frequent_are_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "MOST_LEVELS", 2)
    frame = pl.DataFrame({"x": ["b", "c", "a", "a", None, "d"]})
    found = build_reference(lambda: [(FIRST, frame)], {"x": "category"}).column("x")
    assert (found.levels, found.counts) == (("a", "b"), (2, 1, 2, 1))
    assert count_into(found, pl.Series("x", ["c", "z", "b", None])).tolist() == [0, 1, 2, 1]


def test_the_value_of_a_night_is_that_of_the_reference(reference: ReferenceProfile) -> None:
    for column in reference.columns:
        values = [daily_value(column, frame[column.name]) for _, frame in nights()]
        assert column.daily_values == pytest.approx(values, rel=1e-12)
        assert daily_value(column, pl.Series(column.name, [None], dtype=pl.Null)) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([None, None], 0.0), ([0.0, 1.5, None, 3.0], 0.25), ([math.inf, 5.0], 1.0), ([1.0, 2.0], 0.0)],
)
def test_values_beyond_the_extremes_are_out_of_range(values: list[float], expected: float | None) -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 0.0]})
    found = build_reference(lambda: [(FIRST, frame)], {"x": "number"})
    assert out_of_range_rate(found.column("x"), pl.Series("x", values, dtype=pl.Float64)) == expected


@pytest.mark.parametrize(("margin", "expected"), [(0.0, 0.8), (0.5, 0.4), (1.0, 0.2), (math.inf, 0.0)])
def test_a_margin_of_the_span_makes_room_on_both_sides(margin: float, expected: float) -> None:
    found = build_reference(lambda: [(FIRST, pl.DataFrame({"x": [0.0, 2.0]}))], {"x": "number"}).column("x")
    assert out_of_range_rate(found, pl.Series("x", [-1.01, -1.0, 1.0, 3.0, 4.01]), margin) == expected


def test_a_level_has_no_range(reference: ReferenceProfile) -> None:
    assert out_of_range_rate(reference.column("carrier"), pl.Series("carrier", ["UA"])) is None


def test_weeks_are_blocks_of_seven_dates_that_end_with_the_last() -> None:
    counts = np.arange(16).reshape(16, 1)
    dates = [FIRST + timedelta(at) for at in range(16)]
    assert week_counts(dates, counts).tolist() == [[2 + 3 + 4 + 5 + 6 + 7 + 8], [9 + 10 + 11 + 12 + 13 + 14 + 15]]
    assert week_counts(dates[:6], counts[:6]).shape == (0, 1)
    gap = [FIRST, FIRST + timedelta(13)]
    assert week_counts(gap, np.array([[3], [4]])).tolist() == [[3], [4]]


def test_a_unit_that_is_alone_in_its_group_is_not_compared() -> None:
    counts = np.array([[5, 5], [5, 5], [9, 1], [0, 0]])
    assert left_out_psi(counts, np.array([0, 0, 1, 0])).tolist() == [0.0, 0.0]
    assert percentile(np.array([1.0, 2.0]), 0.99) is None
    assert null_deviations(np.array([[5, 5], [10, 0], [0, 0]])).tolist() == [0.5, 0.5]


def test_a_unit_is_compared_with_the_earlier_ones_of_its_group() -> None:
    counts = np.array([[5, 5], [40, 60], [6, 4], [70, 30], [1, 9], [20, 80]])
    groups = np.array([0, 1, 0, 1, 0, 1])
    expected = [psi(np.array([11, 9]), counts[4]), psi(np.array([110, 90]), counts[5])]
    assert forward_psi(counts, groups).tolist() == expected
    assert forward_psi(counts[:4], groups[:4]).tolist() == []
    assert forward_psi(np.array([[0, 0]] * 3), np.zeros(3, np.int64)).tolist() == []


def test_the_limit_of_the_next_value_is_a_prediction_limit_of_logarithms() -> None:
    """Twelve values; t(11, 0.9999) = 5.4527."""
    logs = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0] * 2)
    limit = math.exp(0.5 + 5.4527 * logs.std(ddof=1) * math.sqrt(1 + 1 / 12))
    assert limit_of_next(np.exp(logs)) == pytest.approx(limit, rel=1e-3)
    assert limit_of_next(np.array([*np.exp(logs), 0.0, 0.0])) == limit_of_next(np.exp(logs))


def test_as_many_next_values_lie_beyond_the_limit_as_promised() -> None:
    random = np.random.default_rng(1)
    worlds = np.exp(random.normal(-3, 0.7, (2000, 31)))
    beyond = [world[-1] > (limit_of_next(world[:-1], 0.9) or 0) for world in worlds]
    assert 0.08 <= np.mean(beyond) <= 0.12


@pytest.mark.parametrize(
    ("values", "steady", "expected"),
    [
        ([0.1, 0.3, 0.2], True, 0.3),
        ([0.1, 0.3], True, None),
        ([0.1, 0.3, 0.2], False, None),
        ([0.1, 0.3] * 4, True, 0.3),
        ([0.1, 0.3] * 4, False, limit_of_next(np.array([0.1, 0.3] * 4))),
    ],
)
def test_a_steady_column_is_held_to_the_largest_seen_and_one_that_wanders_to_what_may_come(
    values: list[float], steady: bool, expected: float | None
) -> None:
    assert limit_ahead(np.array(values), steady) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], None),
        ([0.0] * 20, None),
        ([0.5] * 20, None),
        ([1e-8, 1e9] * 4, math.exp(50.0)),
    ],
)
def test_few_or_equal_values_have_no_limit_and_none_is_infinite(values: list[float], expected: float | None) -> None:
    assert limit_of_next(np.array(values)) == expected
