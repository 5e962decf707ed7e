"""Who is scored by which version: a hash of salt and entity, and of nothing else."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscore.scoring.arms import Share, bucket_of


def share(percent: float, salt: str = "visits@2", entity: tuple[str, ...] = ("customer_id",)) -> Share:
    return Share("canary", 2, "0" * 64, percent, salt, entity)


CUSTOMERS = pl.DataFrame({"customer_id": range(20_000), "score_date": [date(2024, 3, 1)] * 20_000})


@pytest.mark.parametrize(
    ("salt", "entity", "bucket"),
    [("visits@2", "1", 4991), ("visits@2", "2", 5535), ("flight_delay@7", "UA\x1f1545\x1fEWR", 239)],
)
def test_the_bucket_of_an_entity_never_changes(salt: str, entity: str, bucket: int) -> None:
    assert bucket_of(salt, entity) == bucket


@pytest.mark.parametrize("percent", [5.0, 25.0, 60.0])
def test_about_the_stated_share_of_entities_is_taken(percent: float) -> None:
    assert share(percent).takes(CUSTOMERS).mean() == pytest.approx(percent / 100, abs=0.01)


def test_a_growing_share_keeps_the_entities_it_had() -> None:
    small, large = share(5).takes(CUSTOMERS), share(25).takes(CUSTOMERS)
    assert (small & large).equals(small)
    assert share(0).takes(CUSTOMERS).any() is False
    assert share(100).takes(CUSTOMERS).all() is True


def test_another_salt_takes_other_entities() -> None:
    both = share(25).takes(CUSTOMERS) & share(25, salt="visits@3").takes(CUSTOMERS)
    assert both.mean() == pytest.approx(0.25**2, abs=0.01)


@given(st.permutations(range(50)), st.dates())
def test_neither_the_order_of_rows_nor_the_date_moves_an_entity(order: list[int], day: date) -> None:
    rows = pl.DataFrame({"customer_id": order, "score_date": [day] * 50})
    taken = dict(zip(order, share(40).takes(rows), strict=True))
    assert [taken[one] for one in range(50)] == share(40).takes(CUSTOMERS.head(50)).to_list()


def test_values_of_several_columns_do_not_run_into_one_another() -> None:
    rows = pl.DataFrame({"a": ["1", "11"], "b": ["12", "2"]})
    divided = share(50, entity=("a", "b"))
    expected = [bucket_of("visits@2", "1\x1f12") < 5000, bucket_of("visits@2", "11\x1f2") < 5000]
    assert divided.takes(rows).to_list() == expected


def test_a_share_survives_its_receipt() -> None:
    assert Share.from_json(share(5.5, entity=("a", "b")).as_json()) == share(5.5, entity=("a", "b"))
