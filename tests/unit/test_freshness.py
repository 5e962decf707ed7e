"""How old a source's newest rows are, night by night."""

from datetime import date, timedelta

import pytest

from nightscore.watch.freshness import ages_of, longest_normal

FIRST = date(2013, 1, 1)


def on(at: int) -> date:
    return FIRST + timedelta(days=at)


@pytest.mark.parametrize(
    ("filled", "nights", "expected"),
    [
        ([], [], []),
        ([], [0, 1, 2], []),
        ([0, 1, 2], [0, 1, 2], [0, 0, 0]),
        ([0], [0, 1, 2, 3], [0, 1, 2, 3]),
        ([2], [0, 1, 2, 3], [0, 1]),
        ([0, 3], [0, 1, 2, 3, 4], [0, 1, 2, 0, 1]),
        ([3, 0], [0, 1, 2, 3, 4], [0, 1, 2, 0, 1]),
        ([0, 7], [0, 7, 14], [0, 0, 7]),
        ([5], [0, 1], []),
    ],
)
def test_an_age_counts_days_since_the_newest_night_with_rows(
    filled: list[int], nights: list[int], expected: list[int]
) -> None:
    assert list(ages_of([on(at) for at in filled], [on(at) for at in nights])) == expected


def every(days: int, until: int = 56) -> list[int]:
    return list(range(0, until, days))


WEEKDAYS = [at for at in range(56) if at % 7 < 5]


@pytest.mark.parametrize(
    ("filled", "longest"),
    [
        (every(1), 0),
        (every(7), 6),
        (WEEKDAYS, 2),
        # By chance: a night in five gives 31 nights, but never more than three times the longest so far.
        ([0, 2, 3, 9, 14, 15, 22, 30, 33, 38, 44], 21),
        ([0, 1, 2, 5, 14, 15, 22, 30, 41, 48, 54], 30),
        # Fewer than two weeks show no weekday.
        ([0, 3, 9], 15),
        ([0, 1, 2], 0),
    ],
)
def test_what_is_normal_is_the_longest_so_far_unless_rows_come_by_chance(filled: list[int], longest: int) -> None:
    nights = [on(at) for at in range(max(filled) + 20)]
    assert longest_normal([on(at) for at in filled], nights) == longest


def test_nights_that_were_blocked_show_nothing() -> None:
    there = [on(at) for at in range(30) if at not in {11, 12, 13}]
    assert longest_normal(there, there) == 0


def test_a_fault_does_not_become_normal_while_it_lasts() -> None:
    nights = [on(at) for at in range(40)]
    assert [longest_normal([on(at) for at in range(20)], nights[:until]) for until in range(20, 40)] == [0] * 20
