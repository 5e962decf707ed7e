"""Encoding: pinned order, stored levels, and an error that names every column that does not fit."""

import json

import numpy as np
import polars as pl
import pytest

from nightscore.errors import FeatureBuildFailed
from nightscore.training.matrix import Encoding, encode, fit_encoding
from tests.unit.synthetic_flights import CARRIERS, make_flights, make_pipeline

ENCODING = Encoding(
    names=("carrier", "hour", "wind", "weekend", "gate"),
    types=("category", "integer", "float", "boolean", "category"),
    levels={"carrier": ("AA", "UA"), "gate": (3, 7)},
)
NAN = float("nan")
FEATURES = pl.DataFrame({
    "carrier": ["UA", "AA", "ZZ", None],
    "hour": [5, None, 7, 8],
    "wind": [1.5, NAN, None, -2.0],
    "weekend": [True, False, None, True],
    "gate": [7, 3, 8, None],
})  # fmt: skip
EXPECTED = np.array([[1, 5, 1.5, 1, 1], [0, NAN, NAN, 0, 0], [NAN, 7, NAN, NAN, NAN], [NAN, 8, -2, 1, NAN]])


def test_values_become_codes_and_unseen_levels_and_nulls_become_nan() -> None:
    matrix = encode(FEATURES, ENCODING)
    np.testing.assert_array_equal(matrix, EXPECTED)
    assert (matrix.dtype, matrix.flags.c_contiguous) == (np.dtype(np.float64), True)


def test_the_order_of_the_frames_columns_does_not_matter() -> None:
    np.testing.assert_array_equal(encode(FEATURES.select(reversed(FEATURES.columns)), ENCODING), EXPECTED)


def test_columns_that_may_stand_beside_features_are_left_alone() -> None:
    beside = FEATURES.with_columns(score_date=pl.lit("x"))
    np.testing.assert_array_equal(encode(beside, ENCODING, ["score_date"]), EXPECTED)


def test_a_column_without_any_value_is_missing_everywhere() -> None:
    matrix = encode(FEATURES.with_columns(carrier=None, wind=None, weekend=None), ENCODING)
    assert np.isnan(matrix[:, [0, 2, 3]]).all()


def test_an_encoding_without_levels_takes_every_value_for_unseen() -> None:
    empty = Encoding(ENCODING.names, ENCODING.types, {"carrier": (), "gate": ()})
    assert np.isnan(encode(FEATURES, empty)[:, [0, 4]]).all()


def test_a_narrower_integer_type_than_in_training_finds_its_levels() -> None:
    wide = Encoding(ENCODING.names, ENCODING.types, {"carrier": ("AA", "UA"), "gate": (3, 7, 4000)})
    matrix = encode(FEATURES.with_columns(pl.col("gate").cast(pl.Int8)), wide)
    np.testing.assert_array_equal(matrix[:, 4], EXPECTED[:, 4])


def test_no_rows_make_an_empty_matrix() -> None:
    assert encode(FEATURES.clear(), ENCODING).shape == (0, 5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (pl.col("carrier").cast(pl.Enum(["AA", "UA", "ZZ"])), "column carrier is Enum"),
        (pl.col("carrier").cast(pl.Categorical), "column carrier is Categorical"),
        (pl.lit(3).alias("carrier"), "column carrier is Int32, expected levels of type str"),
        (pl.col("gate").cast(pl.String), "column gate is String, expected levels of type int"),
        (pl.col("hour").cast(pl.String), "column hour is String, expected an integer"),
        (pl.col("hour").cast(pl.Float64), "column hour is Float64, expected an integer"),
        (pl.col("wind").cast(pl.String), "column wind is String, expected a float or integer"),
        (pl.lit("2013-01-01").str.to_date().alias("wind"), "column wind is Date, expected a float or integer"),
        (pl.col("weekend").cast(pl.Int8), "column weekend is Int8, expected Boolean"),
        (pl.lit(float("inf")).alias("wind"), "column wind has 4 infinite values"),
    ],
)
def test_a_column_of_another_type_is_named(change: pl.Expr, named: str) -> None:
    with pytest.raises(FeatureBuildFailed) as failure:
        encode(FEATURES.with_columns(change), ENCODING)
    assert [reason.startswith(named) for reason in failure.value.found] == [True]


def test_missing_renamed_unexpected_and_mistyped_columns_are_named_at_once() -> None:
    wrong = FEATURES.rename({"hour": "hours"}).drop("wind").with_columns(tailnum=1, weekend=pl.lit("yes"))
    with pytest.raises(FeatureBuildFailed) as failure:
        encode(wrong, ENCODING)
    assert failure.value.found == (
        "column hour is missing; was it renamed hours?",
        "column wind is missing",
        "column hours is not a feature",
        "column tailnum is not a feature",
        "column weekend is String, expected Boolean",
    )


def test_levels_are_the_sorted_unique_training_values() -> None:
    encoding = fit_encoding(make_flights(dates=10), make_pipeline())
    assert encoding.levels == {"carrier": CARRIERS, "gate": tuple(range(1, 12))}
    assert encoding.category_indexes == (0, 4)


def test_an_encoding_survives_json() -> None:
    assert Encoding.from_json(json.loads(json.dumps(ENCODING.as_json()))) == ENCODING
