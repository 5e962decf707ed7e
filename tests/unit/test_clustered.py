"""Two-way clustered intervals cover where rows taken one by one do not."""

import math

import numpy as np
import pytest

from nightscore.measures.clustered import ArmDifference, compare_arms

ENTITIES, DATES, SIMULATIONS = 60, 14, 400


def canary_nights(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Equal arms by entity, with effects of the entity, the date, and the date within each arm."""
    entity, date = (codes.ravel() for codes in np.indices((ENTITIES, DATES)))
    arm = rng.permutation(ENTITIES)[entity] < ENTITIES // 2
    by_entity, by_date, by_arm = rng.normal(size=ENTITIES), rng.normal(size=DATES), rng.normal(size=(2, DATES))
    values = by_entity[entity] + by_date[date] + 0.3 * by_arm[arm.astype(int), date] + rng.normal(size=len(entity))
    return values, arm, entity, date


def test_no_difference_is_covered_as_often_as_stated_and_rows_alone_are_far_too_narrow() -> None:
    clustered, rowwise = [], []
    for simulation in range(SIMULATIONS):
        values, arm, entity, date = canary_nights(np.random.default_rng([1, simulation]))
        found = compare_arms(values, arm, entity, date)
        clustered.append(found.lower <= 0 <= found.upper)
        error = math.sqrt(values[arm].var() / arm.sum() + values[~arm].var() / (~arm).sum())
        rowwise.append(abs(found.difference) <= 1.645 * error)
    assert 0.86 <= np.mean(clustered) <= 0.96
    assert np.mean(rowwise) < 0.6


def test_rows_without_clusters_have_the_plain_standard_error() -> None:
    rng = np.random.default_rng(2)
    values, arm = rng.normal(size=4000), np.arange(4000) % 2 == 1
    found = compare_arms(values, arm, np.arange(4000), np.arange(4000))
    plain = math.sqrt(values[arm].var() / 2000 + values[~arm].var() / 2000)
    assert found.standard_error == pytest.approx(plain, rel=1e-3)


def test_the_difference_is_arm_b_less_arm_a() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    found = compare_arms(values, np.array([False, False, True, True]), np.array([0, 1, 2, 3]), np.array([0, 1, 0, 1]))
    assert (found.rows_a, found.rows_b, found.entities, found.dates) == (2, 2, 4, 2)
    assert (found.mean_a, found.mean_b, found.difference) == (1.5, 4.5, 3.0)
    assert found.lower + found.upper == pytest.approx(6.0)
    # Influences are .25, -.25, -.75, .75: entities give 5/3, dates 1, rows 5/3; the floor is the dates' or entities'.
    by_entity, by_date = 4 / 3 * 1.25, 2 * 0.5
    assert found.standard_error == pytest.approx(math.sqrt(max(by_entity, by_date)))


def test_the_error_is_never_below_that_of_one_kind_of_cluster() -> None:
    values, arm, entity, date = canary_nights(np.random.default_rng(3))
    both = compare_arms(values, arm, entity, date).standard_error
    alone = [compare_arms(values, arm, codes, codes).standard_error for codes in (entity, date)]
    assert both >= max(alone) - 1e-12


def test_names_of_clusters_and_the_order_of_rows_do_not_show() -> None:
    values, arm, entity, date = canary_nights(np.random.default_rng(4))
    order = np.random.default_rng(5).permutation(len(values))
    mixed = compare_arms(values[order], arm[order], 1000 - 7 * entity[order], date[order] + 10**6)
    assert mixed.as_json() == pytest.approx(compare_arms(values, arm, entity, date).as_json(), abs=1e-9)


@pytest.mark.parametrize(
    ("arm", "date", "expected"),
    [
        ([False, True], [0, 0], ArmDifference(1, 1, 1.0, 3.0, 2.0, None, None, None, 2, 1)),
        ([False, False], [0, 1], ArmDifference(2, 0, 2.0, None, None, None, None, None, 2, 2)),
        ([True, True], [0, 1], ArmDifference(0, 2, None, 2.0, None, None, None, None, 2, 2)),
    ],
)
def test_what_cannot_be_known_is_none(arm: list[bool], date: list[int], expected: ArmDifference) -> None:
    assert compare_arms(np.array([1.0, 3.0]), np.array(arm), np.arange(2), np.array(date)) == expected


def test_no_rows_are_no_difference() -> None:
    none = np.empty(0, np.int64)
    found = compare_arms(np.empty(0), none.astype(bool), none, none)
    assert found == ArmDifference(0, 0, None, None, None, None, None, None, 0, 0)
