"""Staged predictions against published ones: what is counted, what adds up over nights, what comes back from JSON."""

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.measures.shift import psi
from nightscore.publishing.compare import compare_night
from nightscore.publishing.difference import (
    ChangesetDifference,
    Flips,
    NightDifference,
    Performance,
    Rows,
    SegmentFlips,
    Tally,
    Top,
    merge,
)
from nightscore.spec.pipeline import Pipeline
from tests.unit.decided import decide
from tests.unit.synthetic_flights import make_pipeline

NIGHT = date(2013, 4, 1)
PIPELINE = make_pipeline()
TOP_2 = make_pipeline(decision={"rule": {"type": "top_k", "k": 2}})
SCHEMA = {"score_date": pl.Date, "carrier": pl.String, "flight": pl.Int64, "score": pl.Float64}


def predictions(scores: dict[int, float | None], version: int = 1, pipeline: Pipeline = PIPELINE) -> pl.DataFrame:
    """A night's predictions from flight → score; even flights are AA's, odd ones UA's."""
    rows = [(NIGHT, "AA" if flight % 2 == 0 else "UA", flight, score) for flight, score in scores.items()]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    made = pl.lit(version, pl.Int64).alias("model_version"), pl.lit("champion").alias("arm")
    return decide(frame.with_columns(probability="score"), pipeline).with_columns(made)


def beside(frame: pl.DataFrame, name: str, values: Any) -> pl.DataFrame:
    return frame.select("score_date", "carrier", "flight", pl.Series(name, values))


BEFORE = predictions({1: 0.1, 2: 0.3, 3: 0.5, 4: 0.9, 5: 0.2})
AFTER = predictions({1: 0.1, 2: 0.6, 3: 0.3, 4: 0.8, 6: 0.7}, version=2)
SCORES = st.dictionaries(st.integers(1, 30), st.none() | st.floats(0, 1) | st.just(float("nan")), max_size=25)


def test_a_night_is_compared_row_by_row() -> None:
    weekend = beside(AFTER, "weekend", [True, False, None, True, False])
    assert AFTER["flight"].to_list() == [2, 4, 6, 1, 3]
    found = compare_night(PIPELINE, BEFORE, AFTER, weekend, None)
    tally = found.tally
    assert (found.night, found.new, found.state) == (NIGHT, False, "changed")
    assert tally.rows == Rows(before=5, after=5, added=1, removed=1, changed=3, identical=1)
    assert tally.columns == {"decile": 1, "decision": 2, "probability": 3, "rank": 1, "score": 3}
    assert tally.flips == Flips(rows=4, to_yes=1, to_no=1)
    assert tally.segments == (
        SegmentFlips("carrier", "AA", Flips(2, 1, 0)),
        SegmentFlips("carrier", "UA", Flips(2, 0, 1)),
        SegmentFlips("weekend", "false", Flips(2, 0, 1)),
        SegmentFlips("weekend", "true", Flips(2, 1, 0)),
    )
    assert (tally.shift.rows, tally.shift.minimum, tally.shift.maximum) == (4, 0.3 - 0.5, 0.6 - 0.3)
    assert (tally.models_before, tally.models_after) == ({1: 5}, {2: 5})
    assert tally.performance_before == tally.performance_after == Performance()


def test_only_columns_that_differ_are_named() -> None:
    after = BEFORE.with_columns(pl.when(flight=1).then(0.15).otherwise("score").alias("score"))
    assert compare_night(PIPELINE, BEFORE, after, None, None).tally.columns == {"score": 1}


def test_another_model_that_says_the_same_changes_nothing() -> None:
    after = BEFORE.with_columns(pl.lit(7, pl.Int64).alias("model_version"), pl.lit("canary").alias("arm"))
    found = compare_night(PIPELINE, BEFORE, after, None, None)
    assert (found.state, found.tally.rows.identical, found.tally.models_after) == ("identical", 5, {7: 5})


@given(SCORES)
def test_a_night_against_itself_is_identical(scores: dict[int, float | None]) -> None:
    frame = predictions(scores)
    found, rows = compare_night(PIPELINE, frame, frame, None, None), len(scores)
    tally = found.tally
    assert (tally.rows, tally.columns) == (Rows(rows, rows, 0, 0, 0, rows), {})
    assert (tally.flips.to_yes, tally.flips.to_no, found.state) == (0, 0, "identical")
    assert tally.shift.max_abs in {0.0, None}
    assert found.psi == tally.psi == (0.0 if rows else None)
    assert tally.churn in {0.0, None}


@given(SCORES, SCORES)
def test_swapping_the_sides_swaps_what_is_found(one: dict[int, float | None], two: dict[int, float | None]) -> None:
    old, new = predictions(one), predictions(two, version=2)
    there, back = (compare_night(PIPELINE, *sides, None, None).tally for sides in ((old, new), (new, old)))
    rows = there.rows
    assert back.rows == Rows(rows.after, rows.before, rows.removed, rows.added, rows.changed, rows.identical)
    assert back.flips == Flips(there.flips.rows, there.flips.to_no, there.flips.to_yes)
    assert (back.columns, back.top) == (there.columns, there.top)
    assert (back.models_before, back.models_after) == (there.models_after, there.models_before)
    assert (back.shift.counts, back.shift.missing) == (there.shift.counts[::-1], there.shift.missing)
    assert (back.scores_before, back.scores_after) == (there.scores_after, there.scores_before)


@given(SCORES, SCORES, st.integers(0, 100))
def test_the_order_of_rows_does_not_matter(
    one: dict[int, float | None], two: dict[int, float | None], seed: int
) -> None:
    old, new = predictions(one), predictions(two)
    weekend, label = beside(new, "weekend", [True] * len(two)), beside(new, "label", [1.0] * len(two))
    frames = [old, new, weekend, label]
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=seed) for frame in frames]
    found = [compare_night(PIPELINE, *some).as_json() for some in (frames, shuffled)]
    means = [one.pop("performance_after") for one in found], [one.pop("performance_before") for one in found]
    assert found[0] == found[1]
    for first, second in means:
        assert first["rows"] == second["rows"]
        assert (first["figures"] or {}) == pytest.approx(second["figures"] or {})


@settings(deadline=None)
@given(SCORES, SCORES)
def test_merging_parts_is_comparing_the_whole(one: dict[int, float | None], two: dict[int, float | None]) -> None:
    old, new = predictions(one), predictions(two, version=2)
    label = beside(new, "label", [flight % 3 == 0 for flight in new["flight"]])
    whole = compare_night(PIPELINE, old, new, None, label).tally
    parts = [
        compare_night(PIPELINE, *(frame.filter(pl.col("flight") % 3 == part) for frame in (old, new)), None, label)
        for part in range(3)
    ]
    merged = merge(parts).tally
    assert counts(merged) == counts(whole)
    assert merged.psi == whole.psi
    assert merged.shift_quantiles == whole.shift_quantiles
    for figure in ("log_loss", "brier"):
        assert figures(merged).get(figure) == pytest.approx(figures(whole).get(figure))


def counts(one: Tally) -> tuple[Any, ...]:
    sides = one.scores_before, one.scores_after, one.shift
    return (
        one.rows, one.columns, one.flips, one.segments, one.models_before, one.models_after,
        one.performance_before.rows, one.performance_after.rows,
        [(side.bins, side.counts, side.missing, side.minimum, side.maximum) for side in sides],
    )  # fmt: skip


def figures(one: Tally) -> dict[str, float | None]:
    return one.performance_after.figures or {}


def test_a_night_that_was_never_published_is_new_and_moves_nothing() -> None:
    found = compare_night(PIPELINE, None, AFTER, None, None)
    tally = found.tally
    assert (found.state, found.psi, tally.psi, tally.churn) == ("new", None, None, None)
    assert tally.rows == Rows(after=5, added=5)
    assert (tally.flips, tally.segments, tally.top) == (Flips(), (), Top())
    assert (tally.shift.rows, tally.scores_after.rows) == (0, 0)


def test_nights_without_common_rows_have_no_shift_but_other_rows_in_the_top() -> None:
    found = compare_night(PIPELINE, predictions({1: 0.1, 2: 0.9}), predictions({3: 0.1, 4: 0.9}), None, None)
    assert found.tally.rows == Rows(before=2, after=2, added=2, removed=2)
    assert set(found.tally.shift_quantiles.values()) == {None}
    assert (found.tally.churn, found.tally.flips, found.psi) == (1.0, Flips(), 0.0)


def test_a_night_without_rows_is_compared_too() -> None:
    found = compare_night(PIPELINE, predictions({}), predictions({}), None, None)
    assert (found.night, found.state, found.psi, found.tally.rows) == (None, "identical", None, Rows())


def test_scores_that_are_none_are_missing_and_equal_to_themselves() -> None:
    before = predictions({1: None, 2: float("nan"), 3: float("nan"), 4: 0.5, 5: None})
    after = predictions({1: None, 2: float("nan"), 3: None, 4: None, 5: 0.5})
    tally = compare_night(PIPELINE, before, after, None, None).tally
    assert tally.columns["score"] == 3
    assert (tally.shift.rows, tally.shift.missing) == (0, 5)
    assert (tally.scores_before.missing, tally.scores_after.missing) == (4, 4)
    assert tally.top == Top(kept=0, size=1)


def test_infinite_scores_do_not_stop_the_comparison() -> None:
    frame = predictions({1: float("inf"), 2: float("-inf"), 3: 0.5})
    tally = compare_night(PIPELINE, frame, frame, None, None).tally
    assert (tally.rows.identical, tally.shift.rows, tally.shift.missing) == (3, 1, 2)


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ({1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5}, 2),
        ({1: 0.5, 2: 0.1, 3: 0.5, 4: 0.5}, 1),
        ({1: 0.6, 2: 0.5, 3: 0.5, 4: 0.5}, 1),
        ({1: 0.5, 2: 0.1, 3: 0.5, 4: 0.1}, 0),
    ],
)
def test_ties_at_the_edge_of_the_top_go_by_key(after: dict[int, float | None], kept: int) -> None:
    before = predictions({1: 0.5, 2: 0.5, 3: 0.1, 4: 0.5}, pipeline=TOP_2)
    assert before.filter("decision")["flight"].to_list() == [2, 4]
    found = compare_night(TOP_2, before, predictions(after, pipeline=TOP_2), None, None)
    assert found.tally.top == Top(kept, size=2)
    assert found.tally.churn == 1 - kept / 2


def test_without_a_top_k_the_top_is_a_tenth() -> None:
    before = predictions({flight: flight / 100 for flight in range(25)})
    after = predictions({flight: (flight if flight < 24 else 1) / 100 for flight in range(25)})
    assert compare_night(PIPELINE, before, after, None, None).tally.top == Top(kept=2, size=3)


def test_a_decision_that_is_unknown_counts_as_no() -> None:
    before = BEFORE.with_columns(pl.lit(None, pl.Boolean).alias("decision"))
    assert compare_night(PIPELINE, before, BEFORE, None, None).tally.flips == Flips(5, to_yes=2, to_no=0)


def test_a_column_that_one_side_lacks_differs_where_it_is_not_null() -> None:
    after = BEFORE.with_columns(pl.Series("gate", ["A", None, "B", None, None]))
    for sides in ((BEFORE, after), (after, BEFORE)):
        tally = compare_night(PIPELINE, *sides, None, None).tally
        assert (tally.columns, tally.rows.changed) == ({"gate": 2}, 2)


def test_a_column_of_another_type_is_compared_by_value() -> None:
    after = BEFORE.with_columns(pl.col("rank").cast(pl.Int32), pl.col("decile").cast(pl.String))
    after = after.with_columns(pl.col("flight").cast(pl.Int32))
    assert compare_night(PIPELINE, BEFORE, after, None, None).state == "identical"


def test_levels_come_from_what_is_carried_before_the_segments_frame_and_unknown_ones_are_last() -> None:
    after = AFTER.with_columns(pl.lit(True).alias("weekend"))
    segments = beside(AFTER, "weekend", [False] * 5)
    carried = compare_night(PIPELINE, BEFORE, after, segments, None).tally.segments[-1]
    assert carried == SegmentFlips("weekend", "true", Flips(4, 1, 1))
    known = segments.filter(pl.col("flight") < 3)
    found = compare_night(PIPELINE, BEFORE, AFTER, known, None).tally.segments[2:]
    assert [(one.level, one.flips.rows) for one in found] == [("false", 2), (None, 2)]


def test_performance_is_that_of_the_rows_with_labels() -> None:
    labels = pl.DataFrame({"carrier": ["UA", "AA", "AA"], "flight": [1, 2, 4], "label": [0, 1, None]})
    tally = compare_night(PIPELINE, BEFORE, AFTER, None, labels).tally
    expected = [{"log_loss": -(np.log(0.9) + np.log(p)) / 2, "roc_auc": 1.0, "brier": (0.01 + (1 - p) ** 2) / 2}
                for p in (0.3, 0.6)]  # fmt: skip
    sides = tally.performance_before, tally.performance_after
    assert sides == tuple(Performance(2, pytest.approx(one)) for one in expected)  # type: ignore[arg-type]
    assert compare_night(PIPELINE, BEFORE, AFTER, None, labels.clear()).tally.performance_after == Performance()


def test_regression_is_measured_by_its_error() -> None:
    pipeline = make_pipeline(task="regression")
    labels = beside(AFTER, "label", [1.6, 1.8, 1.7, 1.1, 1.3])
    night = compare_night(pipeline, BEFORE, AFTER, None, labels)
    assert night.tally.performance_after == Performance(5, {"rmse": pytest.approx(1.0)})
    worse = compare_night(pipeline, BEFORE, AFTER, None, labels.with_columns(pl.col("label") + 6))
    merged = merge([night, worse]).tally.performance_after
    assert merged == Performance(10, {"rmse": pytest.approx(5.0)})


def nights() -> list[NightDifference]:
    pairs: list[tuple[pl.DataFrame | None, pl.DataFrame]] = [(BEFORE, AFTER), (BEFORE, BEFORE), (None, AFTER)]
    labels = beside(AFTER, "label", [1, 0, 1, 0, 0])
    found = (compare_night(PIPELINE, before, after, None, labels) for before, after in pairs)
    return [replace(one, night=NIGHT + timedelta(days=at)) for at, one in enumerate(found)]


def test_a_changeset_lists_its_nights_in_order_and_ranks_them_by_psi() -> None:
    found = merge(reversed(nights()))
    assert [(line.night, line.state) for line in found.nights] == [
        (date(2013, 4, 1), "changed"), (date(2013, 4, 2), "identical"), (date(2013, 4, 3), "new"),
    ]  # fmt: skip
    assert found.states == {"new": 1, "changed": 1, "identical": 1}
    assert [line.night for line in found.largest_psi(5)] == [NIGHT]
    assert found.largest_psi(5)[0].psi == psi(BEFORE["score"].to_numpy(), AFTER["score"].to_numpy())
    assert found.tally.rows == Rows(before=10, after=15, added=6, removed=1, changed=3, identical=6)
    assert (found.tally.models_before, found.tally.models_after) == ({1: 10}, {1: 5, 2: 10})


def test_the_order_in_which_nights_are_merged_does_not_matter() -> None:
    assert merge(reversed(nights())) == merge(nights())


def test_no_nights_make_an_empty_changeset() -> None:
    found = merge([])
    assert (found.nights, found.tally.rows, found.tally.psi, found.tally.segments) == ((), Rows(), None, ())
    assert ChangesetDifference.from_json(found.as_json()) == found


def test_differences_come_back_from_json_as_they_were() -> None:
    for one in nights():
        assert NightDifference.from_json(json.loads(json.dumps(one.as_json(), allow_nan=False))) == one
    whole = merge(nights())
    stored = json.loads(json.dumps(whole.as_json(), allow_nan=False))
    assert ChangesetDifference.from_json(stored) == whole
    assert (stored["psi"], stored["rows"]["added"], stored["states"]["new"]) == (whole.tally.psi, 6, 1)
