"""Reading ahead: the same items in the same order, at most two made early, and errors at their turn."""

import threading
from collections.abc import Iterator

import pytest

from nightscore.lake.ahead import AHEAD, read_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_items_come_in_order_and_none_is_lost(count: int) -> None:
    assert list(read_ahead((number, f"{number}") for number in range(count))) == [(n, f"{n}") for n in range(count)]


def test_no_more_than_two_wait() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    for taken in read_ahead(items()):
        assert len(made) <= taken + 1 + AHEAD
    assert made == list(range(20))


def test_an_error_is_raised_at_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second"):
        next(ahead)


def test_a_reader_that_gives_up_leaves_no_thread() -> None:
    before = threading.active_count()
    ahead = read_ahead(iter(range(1, 1000)))
    assert next(ahead) == 1
    ahead.close()
    assert threading.active_count() == before
