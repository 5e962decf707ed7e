"""Reasons as readers see them: whole texts, ties, zeros and nulls, and which rows are explained."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.errors import SpecError
from nightscore.scoring.reasons import ExplainedRows, choose_rows, reason_codes

NAMES = ("carrier", "hour", "wind", "weekend", "gate")
TITLES = {"carrier": "Carrier", "hour": "Hour of departure", "wind": "Wind in knots", "weekend": "", "runway": "Runway"}
FRAME = pl.DataFrame({
    "flight": [1, 2, 3, 4, 5],
    "weekend": [True, False, None, True, None],
    "gate": [7, 3, 8, None, 1],
    "wind": [10.456789, None, float("nan"), -2.0, 0.0],
    "hour": [5, None, 17, 8, 9],
    "carrier": ["UA", "AA", "ZZ", None, "DL"],
})  # fmt: skip
PARTS = np.array([
    [0.318, -0.2, 0.5, 0.0, 0.1],
    [0.1, 0.1, -0.1, 0.1, 0.1],
    [0.0, 0.0, 1.0, 0.0, -2.5],
    [-0.004, 0.0, 12.3456, 3.0, 0.02],
    [0.0, 0.0, 0.0, 0.0, 0.0],
])  # fmt: skip
TEXTS = [
    "Wind in knots = 10.46 (+0.50); Carrier = UA (+0.32); Hour of departure = 5 (-0.20)",
    "Carrier = AA (+0.10); Hour of departure = none (+0.10); Wind in knots = none (-0.10)",
    "gate = 8 (-2.50); Wind in knots = none (+1.00)",
    "Wind in knots = -2 (+12.35); weekend = yes (+3.00); gate = none (+0.02)",
    "",
]


def test_the_strongest_features_are_named_with_their_values() -> None:
    texts = reason_codes(FRAME, PARTS, NAMES, TITLES, top=3)
    assert (texts.name, texts.dtype, texts.to_list()) == ("reason_codes", pl.String, TEXTS)


@pytest.mark.parametrize("top", [5, 20])
def test_more_reasons_than_features_name_every_feature_that_moved_the_score(top: int) -> None:
    assert reason_codes(FRAME, PARTS, NAMES, {}, top)[3] == (
        "wind = -2 (+12.35); weekend = yes (+3.00); gate = none (+0.02); carrier = none (-0.004)"
    )


def test_one_reason_is_the_strongest() -> None:
    assert reason_codes(FRAME, PARTS, NAMES, {}, 1).to_list() == [
        "wind = 10.46 (+0.50)", "carrier = AA (+0.10)", "gate = 8 (-2.50)", "wind = -2 (+12.35)", "",
    ]  # fmt: skip


@pytest.mark.parametrize("rows_per_chunk", [1, 2, 5])
def test_chunks_and_row_order_change_no_text(rows_per_chunk: int) -> None:
    assert reason_codes(FRAME, PARTS, NAMES, TITLES, 3, rows_per_chunk).to_list() == TEXTS
    turned = reason_codes(FRAME[::-1], PARTS[::-1], NAMES, TITLES, 3, rows_per_chunk)
    assert turned.to_list() == TEXTS[::-1]


def test_texts_are_those_of_a_plain_reading_row_by_row() -> None:
    random = np.random.default_rng(3)
    frame = pl.DataFrame(random.integers(0, 50, (400, 6)), schema=list("abcdef"))
    parts = random.integers(-4, 5, (400, 6)) / 4

    def read(values: tuple[int, ...], row: Any) -> str:
        order = sorted(range(6), key=lambda at: (-abs(row[at]), at))
        return "; ".join(f"{'abcdef'[at]} = {values[at]} ({row[at]:+.2f})" for at in order[:4] if row[at])

    expected = [read(values, row) for values, row in zip(frame.rows(), parts, strict=True)]
    assert reason_codes(frame, parts, list("abcdef"), {}, 4, rows_per_chunk=64).to_list() == expected


def test_no_rows_have_no_reasons() -> None:
    texts = reason_codes(FRAME.clear(), PARTS[:0], NAMES, TITLES, 3)
    assert (texts.dtype, texts.to_list()) == (pl.String, [])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pl.Series([3.0]), "3"),
        (pl.Series([-0.0]), "0"),
        (pl.Series([1 / 3]), "0.3333"),
        (pl.Series([0.1], dtype=pl.Float32), "0.1"),
        (pl.Series([1234.56]), "1235"),
        (pl.Series([12345.678]), "12350"),
        (pl.Series([-9999.9]), "-10000"),
        (pl.Series([0.00012345]), "0.0001234"),
        (pl.Series([0.00001]), "1e-05"),
        (pl.Series([2e16]), "2e+16"),
        (pl.Series([float("nan")]), "none"),
        (pl.Series([12345678]), "12345678"),
        (pl.Series([-3], dtype=pl.Int8), "-3"),
        (pl.Series([True]), "yes"),
        (pl.Series([False]), "no"),
        (pl.Series([None], dtype=pl.Boolean), "none"),
        (pl.Series([None], dtype=pl.Null), "none"),
        (pl.Series([None], dtype=pl.String), "none"),
        (pl.Series(["São Paulo"]), "São Paulo"),
        (pl.Series([""]), ""),
    ],
)
def test_values_read_as_people_write_them(values: pl.Series, text: str) -> None:
    texts = reason_codes(pl.DataFrame({"x": values}), np.array([[1.0]]), ["x"], {}, 1)
    assert texts.to_list() == [f"x = {text} (+1.00)"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.324, "+0.32"),
        (-0.01, "-0.01"),
        (0.0096, "+0.01"),
        (0.0004, "+0.0004"),
        (-2e-6, "-2e-06"),
        (1234.5, "+1234.50"),
    ],
)
def test_contributions_carry_their_sign_and_never_read_as_zero(amount: float, text: str) -> None:
    texts = reason_codes(pl.DataFrame({"x": [1]}), np.array([[amount]]), ["x"], {}, 1)
    assert texts.to_list() == [f"x = 1 ({text})"]


DECIDED = pl.DataFrame({"decision": [True, False, None, True], "rank": [3, 1, None, 2]})


@pytest.mark.parametrize(
    ("rows", "k", "chosen"),
    [
        ("all", None, [True, True, True, True]),
        ("decided", None, [True, False, False, True]),
        ("top_k", 2, [False, True, False, True]),
        ("top_k", 9, [True, True, False, True]),
    ],
)
def test_the_rows_that_are_explained_are_chosen(rows: ExplainedRows, k: int | None, chosen: list[bool]) -> None:
    result = choose_rows(DECIDED, rows, k)
    assert (result.dtype, result.to_list()) == (pl.Boolean, chosen)
    assert choose_rows(DECIDED.clear(), rows, k).to_list() == []


def test_top_k_without_k_is_refused() -> None:
    with pytest.raises(SpecError, match="top_k says how rows are chosen, but not k"):
        choose_rows(DECIDED, "top_k")
