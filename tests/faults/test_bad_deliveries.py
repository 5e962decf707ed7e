"""Bad deliveries: what is spoilt is held back and says why, readers keep the last good night, repair heals it.

Each case spoils a night of its own, two after the last case's; so each also starts from a history that was healed.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from nightscore.errors import NotReadable
from nightscore.features.build import build_features
from nightscore.publishing.publish import publish_nights
from nightscore.quality.clean import clean_source
from nightscore.scoring.night import score_nights
from tests.faults.deployment import Deployment, deployed_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT, visits_of, write_day

# Dagster reads deprecated attributes of pydantic when it runs in this process.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

MARKER = "Zzyzx-Geheim-4711"
NIGHTS = itertools.count(2, 2)  # the night between belongs to the case before it


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A shop with its first night published through Dagster."""
    with deployed_shop(server, tmp_path_factory.mktemp("bad"), days=60) as deployment:
        assert deployment.run(FIRST_NIGHT) == 0
        yield deployment


@pytest.fixture
def night(shop: Deployment) -> Iterator[date]:
    """The case's own night; its delivery is repaired afterwards, whatever the case did to it."""
    own = FIRST_NIGHT + timedelta(days=next(NIGHTS))
    yield own
    write_day(shop.root, day_of(own))


def day_of(night: date) -> date:
    return night - timedelta(days=1)


def where(rows: int, column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Put `value` into the first rows of a column."""

    def spoil(frame: pl.DataFrame) -> pl.DataFrame:
        chosen = pl.int_range(pl.len()) < rows
        text = frame.with_columns(pl.col(column).cast(pl.String))
        return text.with_columns(pl.when(chosen).then(pl.lit(value, pl.String)).otherwise(column).alias(column))

    return spoil


def repeat(rows: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: pl.concat([frame, frame.head(rows)])


@dataclass(frozen=True)
class Quarantined:
    """A delivery of which some rows are set aside and the rest is published."""

    spoil: Callable[[pl.DataFrame], pl.DataFrame]
    rows: int
    aside: int
    reason: str


QUARANTINED = {
    "a negative age": Quarantined(where(1, "age", "-5"), CUSTOMERS, 1, "between(age)"),
    "an absurd amount": Quarantined(where(2, "spend", "999999999"), CUSTOMERS, 2, "between(spend)"),
    "text in one cell of numbers": Quarantined(where(1, "age", MARKER), CUSTOMERS, 1, "readable"),
    "a customer twice": Quarantined(repeat(1), CUSTOMERS + 1, 2, "unique(customer_id)"),
}


@pytest.mark.parametrize("case", QUARANTINED.values(), ids=QUARANTINED)
def test_a_few_bad_rows_are_set_aside_and_the_rest_is_published(
    shop: Deployment, night: date, case: Quarantined
) -> None:
    write_day(shop.root, day_of(night), case.spoil(visits_of(day_of(night))))
    assert shop.run(night) == 0
    assert (night, case.rows - case.aside) in shop.readers_see()
    aside = shop.workspace.lake.read("visits.quarantine.visits", night, night).collect()
    assert aside["quarantine_reason"].to_list() == [case.reason] * case.aside
    assert shop.status(night)[0] == "fresh"
    assert sums_up(shop, night) == (case.rows, case.rows - case.aside, case.aside)
    write_day(shop.root, day_of(night))
    assert shop.run(night) == 0
    assert (night, CUSTOMERS) in shop.readers_see()
    assert shop.status(night)[0] == "restated"


def sums_up(shop: Deployment, night: date) -> tuple[int, int, int]:
    query = sa.text(
        "select rows_in, rows_out, quarantined from nightscore.row_account "
        "where dataset = 'visits.clean.visits' and score_date = :night order by account_id desc limit 1"
    )
    with shop.workspace.engine.connect() as connection:
        row = connection.execute(query, {"night": night}).one()
    return row.rows_in, row.rows_out, row.quarantined


@dataclass(frozen=True)
class Held:
    """A delivery that holds its night back, and what the next night is told; `clean` when only the features are."""

    spoil: Callable[[Path], object]
    exit_code: int
    status: str
    reason: str
    later_exit_code: int
    later_reason: str
    clean: bool = False


def frames(spoil: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], object]:
    return lambda path: spoil(pl.read_csv(path, try_parse_dates=True)).write_csv(path)


def gated(spoil: Callable[[pl.DataFrame], pl.DataFrame], reason: str, clean: bool = False) -> Held:
    return Held(frames(spoil), 3, "gated", reason, 3, reason, clean)


def failed(spoil: Callable[[Path], object], reason: str) -> Held:
    return Held(spoil, 2, "failed", reason, 2, reason)


HELD = {
    "no amount at all": gated(where(CUSTOMERS, "spend", None), "not_null(spend): 60 of 60 rows"),
    "no age at all": gated(where(CUSTOMERS, "age", None), "no row has a value of age", clean=True),
    "text in half of the amounts": gated(where(30, "spend", MARKER), "quarantine_share: 30 of 60 rows"),
    "too many bad rows": gated(where(4, "age", "-5"), "quarantine_share: 4 of 60 rows, 6.67% set aside, limit 5.00%"),
    "an empty day": gated(lambda frame: frame.head(0), "not_empty: no rows, expected some"),
    "half of the rows lost": gated(lambda frame: frame.head(10), "row_count"),
    # Read along with good nights, a column of text is no change of type, and so it is the gate that holds it back.
    "text in all of the amounts": Held(
        frames(where(CUSTOMERS, "spend", MARKER)), 2, "failed", "column spend is declared float", 3, "quarantine_share"
    ),
    "a renamed column": failed(
        frames(lambda frame: frame.rename({"spend": "spent"})), "column spend is missing; renamed to spent?"
    ),
    "a missing file": failed(Path.unlink, "visits-"),
    "a file without its header": failed(
        lambda path: path.write_bytes(path.read_bytes().split(b"\n", 1)[1]), "is the header missing?"
    ),
    "a file cut off": failed(lambda path: path.write_bytes(path.read_bytes()[:-8]), "ragged"),
    "a binary file": failed(lambda path: path.write_bytes(bytes(range(256)) * 40), "not text in UTF-8"),
    "nothing in the file": failed(lambda path: path.write_bytes(b""), "the file is empty"),
    "another day's file": failed(lambda path: visits_of(date(2024, 1, 1)).write_csv(path), "have another event date"),
}  # fmt: skip


@pytest.mark.parametrize("case", HELD.values(), ids=HELD)
def test_a_bad_night_is_held_back_from_everyone_until_it_is_repaired(
    shop: Deployment, night: date, case: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shop.readers_see()
    case.spoil(shop.root / "data" / f"visits-{day_of(night)}.csv")
    for _ in range(2):
        assert shop.run(night) == case.exit_code
        assert case.reason in capsys.readouterr().err
        assert_held_back(shop, night, case, before)
    assert_refused_to_every_step(shop, night, case)
    assert_next_night_waits(shop, night, case, capsys)
    assert shop.readers_see() == before
    assert_heals(shop, night, before)


def assert_held_back(shop: Deployment, night: date, case: Held, before: list[tuple[object, object]]) -> None:
    status, reason = shop.status(night)
    assert (status, case.reason in reason) == (case.status, True), reason
    assert shop.readers_see() == before


def assert_refused_to_every_step(shop: Deployment, night: date, case: Held) -> None:
    workspace, pipeline, nights = shop.workspace, shop.pipeline, [night]
    tries: dict[str, Callable[[], object]] = {
        "visits.clean.visits": lambda: workspace.lake.read("visits.clean.visits", night, night),
        "clean": lambda: build_features(workspace, pipeline, nights, "another"),
        "visits.features": lambda: score_nights(workspace, pipeline, nights, "another"),
        "visits.predictions": lambda: publish_nights(workspace, pipeline, nights, "another", "test"),
    }
    if case.clean:
        # The rows themselves are good; only what was made of them is not.
        assert workspace.lake.read("visits.clean.visits", night, night).collect().height == CUSTOMERS
        outcomes = tries.pop("clean")()
        assert {one.result for one in outcomes if one.dataset == "visits.features"} == {"blocked"}  # type: ignore[attr-defined]
        del tries["visits.clean.visits"]
    elif case.status == "gated":
        (again,) = clean_source(workspace, pipeline, "visits", nights, "another")
        assert (again.result, case.reason in "; ".join(again.reasons)) == ("blocked", True)
    first = next(iter(tries))
    for name, step in tries.items():
        with pytest.raises(NotReadable) as refused:
            step()
        if name in (first, "clean"):
            assert (case.reason if case.status == "gated" else "never made") in str(refused.value)


def assert_next_night_waits(shop: Deployment, night: date, case: Held, capsys: pytest.CaptureFixture[str]) -> None:
    if case.clean:
        return
    following = night + timedelta(days=1)
    assert shop.run(following) == case.later_exit_code
    said = capsys.readouterr().err
    assert case.later_reason in said
    assert str(night if case.later_exit_code == 3 else day_of(night)) in said
    assert shop.status(following)[0] == {3: "gated", 2: "failed"}[case.later_exit_code]


def assert_heals(shop: Deployment, night: date, before: list[tuple[object, object]]) -> None:
    write_day(shop.root, day_of(night))
    assert shop.run(night) == 0
    status, reason = shop.status(night)
    assert (status, reason.endswith(f"revision 1, {CUSTOMERS} rows")) == ("fresh", True)
    assert shop.readers_see() == [*before, (night, CUSTOMERS)]


def test_the_night_after_a_repair_heals_its_history_by_itself(
    shop: Deployment, night: date, capsys: pytest.CaptureFixture[str]
) -> None:
    following = night + timedelta(days=1)
    write_day(shop.root, day_of(night), visits_of(day_of(night)).head(3))
    assert (shop.run(night), shop.run(following)) == (3, 3)
    assert f"{night}: held back by its gate" in capsys.readouterr().err
    write_day(shop.root, day_of(night))
    assert shop.run(following) == 0
    assert (following, CUSTOMERS) in shop.readers_see()
    assert shop.workspace.lake.read("visits.clean.visits", night, night).collect().height == CUSTOMERS


def test_a_good_night_that_is_delivered_again_badly_keeps_its_publication(
    shop: Deployment, night: date, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shop.run(night) == 0
    before = shop.readers_see()
    write_day(shop.root, day_of(night), visits_of(day_of(night)).head(3))
    assert shop.run(night) == 3
    assert shop.readers_see() == before
    assert shop.status(night)[0] == "gated"
    write_day(shop.root, day_of(night))
    assert shop.run(night) == 0
    assert (shop.readers_see(), shop.status(night)[0]) == (before, "fresh")


def test_no_value_of_the_data_is_in_what_is_kept_of_verdicts_and_nights(shop: Deployment) -> None:
    kept = ("gate_result", "night_event", "row_account", "step_time", "receipt", "publication_event")
    with shop.workspace.engine.connect() as connection:
        for table in kept:
            query = sa.text(f"select count(*) from nightscore.{table} as kept where kept::text ilike :marker")
            assert (table, connection.scalar(query, {"marker": f"%{MARKER}%"})) == (table, 0)
        header = sa.text("select count(*) from nightscore.night_event where reason like '%Berlin%'")
        assert connection.scalar(header) == 0
