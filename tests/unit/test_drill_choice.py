"""What a drill chooses: by lot from the seed alone, never-drilled things first, then those drilled longest ago."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.catalog.reproductions import Reproduction
from nightscore.reproduction.drill import Candidate, Subject, choose_candidate, estimate_seconds

VERSIONS = range(1, 9)


def subject(version: int) -> Subject:
    return "model", version, None, None


def candidates(versions: Sequence[int]) -> list[Candidate]:
    return [Candidate(subject(one), f"visits@{one}", "", lambda: made("model", 1.0)) for one in versions]


def chosen(versions: Sequence[int], drilled: Sequence[int], seed: str) -> int:
    return choose_candidate(candidates(versions), [subject(one) for one in drilled], seed).subject[1]


def made(kind: Any, seconds: float, outcome: Any = "reproduced") -> Reproduction:
    at = datetime(2024, 3, 10, tzinfo=UTC)
    return Reproduction("visits", kind, 1, date(2024, 3, 9), 1, outcome, None, None, {}, "drill", "", seconds, at)


@given(st.permutations(list(VERSIONS)), st.lists(st.sampled_from(VERSIONS)), st.text())
def test_one_seed_and_one_past_give_one_choice_in_any_order(order: list[int], drilled: list[int], seed: str) -> None:
    assert chosen(order, drilled, seed) == chosen(VERSIONS, drilled, seed)


@given(st.lists(st.sampled_from(VERSIONS)), st.text())
def test_what_was_never_drilled_comes_first_and_then_what_was_drilled_longest_ago(
    drilled: list[int], seed: str
) -> None:
    choice = chosen(VERSIONS, drilled, seed)
    if set(drilled) == set(VERSIONS):
        assert drilled.index(choice) == max(drilled.index(one) for one in VERSIONS)
    else:
        assert choice not in drilled


def test_every_thing_is_drilled_before_one_is_drilled_again() -> None:
    drilled: list[int] = []
    for night in range(2 * len(VERSIONS)):
        drilled.insert(0, chosen(VERSIONS, drilled, f"night {night}"))
    assert sorted(drilled[8:]) == sorted(drilled[:8]) == list(VERSIONS)
    assert drilled[8:] == drilled[:8]


def test_seeds_reach_everything() -> None:
    assert {chosen(VERSIONS, [], str(seed)) for seed in range(200)} == set(VERSIONS)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [
        ([], 0.0),
        ([made("night", 50.0)], 0.0),
        ([made("model", 3.0), made("model", 9.0), made("model", 99.0, "cannot")], 9.0),
        ([made("model", 1.0, "not equal")] * 5 + [made("model", 60.0)], 1.0),
    ],
)
def test_an_estimate_is_the_longest_of_the_last_five_that_came_to_an_end(
    attempts: list[Reproduction], seconds: float
) -> None:
    assert estimate_seconds(attempts, "model") == seconds
