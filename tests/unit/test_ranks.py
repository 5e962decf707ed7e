"""Ranks part by part are those of one sort of all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.scoring import ranks
from nightscore.scoring.ranks import rank_rows

NUMBERS = st.sampled_from([0.0, -0.0, 0.5, 0.25, 1.0, float("inf"), float("-inf"), float("nan")]) | st.floats(0, 1)


def ranks_of_one_sort(merit: np.ndarray, score: np.ndarray) -> list[int]:
    found = np.empty(len(merit), dtype=np.int64)
    found[np.lexsort((np.arange(len(merit)), -score, -merit))] = np.arange(1, len(merit) + 1)
    return found.tolist()


@settings(max_examples=200, deadline=None)
@given(merit=st.lists(NUMBERS, max_size=60), seed=st.integers(0, 9), threads=st.sampled_from([1, 2]))
def test_parts_and_threads_change_no_rank(merit: list[float], seed: int, threads: int) -> None:
    values = np.array(merit, dtype=np.float64)
    score = np.random.default_rng(seed).integers(0, 3, len(values)).astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "PART_ROWS", 4)
        assert rank_rows(values, score, threads).tolist() == ranks_of_one_sort(values, score)
        assert rank_rows(values, values, threads).tolist() == ranks_of_one_sort(values, values)


def test_rows_of_equal_merit_keep_their_order_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "PART_ROWS", 10)
    assert rank_rows(np.full(1000, 0.5), np.full(1000, 0.5)).tolist() == list(range(1, 1001))


def test_a_night_without_rows_has_no_ranks() -> None:
    assert rank_rows(np.empty(0), np.empty(0)).tolist() == []
