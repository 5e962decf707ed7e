"""Projects that are not flights, through the whole chain: a regression, nights mostly without rows, labels that fail.

What the watch makes of each, what readers go on seeing, and what the pages say.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
import yaml

from nightscore.catalog.alerts import list_alerts
from nightscore.catalog.changesets import items_of
from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.metrics import metrics_between
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.catalog.watch import events_of_watch, list_incidents, signals_between
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.follow_up import follow_up
from nightscore.monitoring.nights import policy_of, watch_nights
from nightscore.publishing.backfill import open_changeset, plan_backfill
from nightscore.publishing.publish import publish_nights
from nightscore.publishing.staging import stage_publications
from nightscore.registry.register import train_version
from nightscore.reports.dashboard import write_dashboard
from nightscore.reports.night_report import write_night_report
from nightscore.scoring.night import score_nights
from nightscore.scoring.staging import stage_predictions
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from nightscore.training.training_set import HELD_BACK, make_training_set
from nightscore.watch.state import EVENTS, MonitorState, replay
from nightscore.watch.verdicts import load_state
from tests.integration.night_chain import Begun, fresh_database, night_after, opened_shop, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST, FIRST_NIGHT, visits_of, write_day

pytestmark = pytest.mark.timeout(300)

LAST = night_after(FIRST_NIGHT, 11)
"""The last of the good nights that a shop is shared with."""
FAULTY, NEXT = night_after(LAST), night_after(LAST, 2)
THIRD = CUSTOMERS // 3
DAYS = 30
Spec = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Shop:
    """A deployment and its pipeline as it is now."""

    workspace: Workspace
    pipeline: Pipeline

    def prepare(self, nights: Sequence[date], run_id: str) -> None:
        prepare(self.workspace, self.pipeline, nights, run_id)
        score_nights(self.workspace, self.pipeline, nights, run_id)

    def watch(self, nights: Sequence[date], run_id: str) -> list[str]:
        return [one.result for one in watch_nights(self.workspace, self.pipeline, nights, run_id)]

    def publish(self, nights: Sequence[date], run_id: str) -> list[str]:
        return [one.result for one in publish_nights(self.workspace, self.pipeline, nights, run_id, "test")]

    def run(self, nights: Sequence[date], run_id: str) -> list[str]:
        """The whole chain; what became of each publication."""
        self.prepare(nights, run_id)
        self.watch(nights, run_id)
        published = self.publish(nights, run_id)
        follow_up(self.workspace, self.pipeline, nights, run_id)
        return published

    def pages(self, night: date) -> tuple[str, str]:
        """Night report and dashboard of a month."""
        folder = self.workspace.settings.home_path / "reports"
        report = write_night_report(self.workspace, self.pipeline, night, folder)
        board = write_dashboard(self.workspace, self.pipeline, night - timedelta(days=30), night, folder)
        return report.read_text(encoding="utf-8"), board.read_text(encoding="utf-8")

    def readers_see(self, nights: Sequence[date]) -> dict[date, int]:
        """Rows a night, as the view of readers gives them."""
        query = (
            "select score_date, count(*) from bi.visits_current where score_date between :first and :last group by 1"
        )
        with self.workspace.engine.connect() as connection:
            rows = connection.execute(sa.text(query), {"first": min(nights), "last": max(nights)}).all()
        return dict(sorted((night, count) for night, count in rows))

    def published(self, nights: Sequence[date]) -> set[date]:
        with self.workspace.engine.connect() as connection:
            return set(current_publications(connection, "visits", min(nights), max(nights)))

    def incidents(self) -> list[tuple[str, str, str]]:
        with self.workspace.engine.connect() as connection:
            return [(one["level"], one["cause"], one["status"]) for one in list_incidents(connection, "visits")]

    def alerts(self) -> list[str]:
        with self.workspace.engine.connect() as connection:
            return [one.title for one in list_alerts(connection)]

    def fired(self, nights: Sequence[date]) -> list[tuple[date, str]]:
        with self.workspace.engine.connect() as connection:
            found = signals_between(connection, "visits", min(nights), max(nights))
        return [(one["score_date"], one["cause"]) for one in found if one["fires"]]

    def retraining(self) -> list[tuple[str, str]]:
        """Verdict and reason, newest first."""
        with self.workspace.engine.connect() as connection:
            made = list_decisions(connection, "visits", kind="retrain", limit=100)
        return [(one.verdict, one.reason) for one in made]

    def maturity(self, nights: Sequence[date]) -> dict[date, str]:
        """What the figures of those of `nights` that have any were called last."""
        with self.workspace.engine.connect() as connection:
            found = metrics_between(connection, "visits", min(nights), max(nights), "model")
        return {one.score_date: one.maturity for one in sorted(found, key=lambda one: (one.score_date, one.known_on))}

    def left_out_of_training(self, as_of: date) -> dict[date, str]:
        return make_training_set(self.workspace, self.pipeline, as_of, "training").left_out

    def state(self) -> MonitorState:
        with self.workspace.engine.connect() as connection:
            return load_state(connection, self.pipeline)

    def replayed(self) -> MonitorState:
        """The state that the events which count give from the beginning."""
        with self.workspace.engine.connect() as connection:
            bodies = [dict(one.body) for one in events_of_watch(connection, "visits")]
        events = EVENTS.validate_python(bodies)
        return replay(events, policy_of(self.pipeline), MonitorState(pipeline="visits"))[0]

    def everything_kept(self) -> dict[str, int]:
        tables = ("watch_event", "watch_state", "decision", "incident", "alert", "metric_value")
        with self.workspace.engine.connect() as connection:
            return {
                one: connection.execute(sa.text(f"select count(*) from nightscore.{one}")).scalar_one()
                for one in tables
            }


def change_spec(workspace: Workspace, change: Spec) -> Pipeline:
    """Write the spec anew with `change`, and read it."""
    path = workspace.settings.pipelines_path / "visits.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(spec)
    path.write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return visits_of_shop(workspace)


def write_labels(
    workspace: Workspace, scored_on: str = "known_on - 1", told_on: str = "known_on", value: str = "spend",
    where: str = "true",
) -> None:  # fmt: skip
    """Other labels of the visits: of which score date, known when, what they are, and which of them come."""
    sql = f"""
with visits as (

    select *, {scored_on} as scored_on, {told_on} as told_on from {{{{ source('visits', 'visits') }}}}

)

select scored_on as score_date, customer_id, told_on as known_on, {value} as spend_tomorrow
from visits
where {{{{ in_build_range('told_on') }}}} and ({where})
order by all
"""
    path = workspace.settings.dbt_path / "models" / "visits" / "labels" / "visits_labels.sql"
    path.write_text(sql, encoding="utf-8")


@contextmanager
def copied(server: Server, begun: Begun, folder: Path, days: int = DAYS) -> Iterator[Shop]:
    """A copy of a shop with data of `days` days."""
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name, opened_shop(server, name, folder, days) as workspace:
        yield Shop(workspace, visits_of_shop(workspace))


GOOD = nights_between(night_after(FIRST_NIGHT), LAST)


@pytest.fixture(scope="module")
def template(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """A shop that has run twelve good nights, in one range."""
    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name:
        with opened_shop(server, name, folder, DAYS) as workspace:
            Shop(workspace, visits_of_shop(workspace)).run(GOOD, "good")
        yield Begun(name, folder)


@pytest.fixture
def good(server: Server, template: Begun, tmp_path: Path) -> Iterator[Shop]:
    with copied(server, template, tmp_path) as shop:
        yield shop


def deliver(shop: Shop, night: date, rows: int = CUSTOMERS) -> None:
    """What the night `night` will know of the day before."""
    day = night_after(night, -1)
    write_day(shop.workspace.settings.root, day, visits_of(day).head(rows))


def test_a_regression_runs_for_nights_without_a_false_alarm(good: Shop) -> None:
    assert good.readers_see(GOOD) == dict.fromkeys(GOOD, CUSTOMERS)
    assert (good.fired(GOOD), good.incidents(), good.alerts()) == ([], [], [])
    assert good.maturity(GOOD) == dict.fromkeys(GOOD[:-1], "mature")
    assert [verdict for verdict, _ in good.retraining()] == ["attempt"]
    report, board = good.pages(LAST)
    assert "No estimate without labels: a regression has none." in report
    assert "11 score dates are mature" in report
    assert "No incident is open. Published: 12 of 31 nights; held back: 0; failed: 0." in board


def test_a_night_of_a_third_of_the_rows_is_held_back_until_it_is_mended(good: Shop) -> None:
    deliver(good, FAULTY, THIRD)
    assert good.run([FAULTY, NEXT], "faulty") == ["blocked", "made"]
    assert good.readers_see([LAST, FAULTY, NEXT]) == {LAST: CUSTOMERS, NEXT: CUSTOMERS}
    assert good.incidents() == [("L1", "rows:low", "open")]
    assert [f"{FAULTY}, incident" in title for title in good.alerts()] == [True]
    assert good.left_out_of_training(NEXT) == {LAST: "only 33.3% of its rows have labels", FAULTY: HELD_BACK}
    report, board = good.pages(FAULTY)
    assert f"the newest night that they see is {NEXT}" in report
    assert "1 open incident" in board
    deliver(good, FAULTY)
    quiet = nights_between(night_after(NEXT), night_after(NEXT, 7))
    assert good.run([FAULTY, *quiet], "mended") == ["made"] * 8
    assert good.readers_see([FAULTY, *quiet]) == dict.fromkeys([FAULTY, NEXT, *quiet], CUSTOMERS)
    assert (good.incidents(), len(good.alerts())) == ([("L1", "rows:low", "closed")], 1)
    assert good.state() == good.replayed()


def test_a_night_that_is_run_again_adds_nothing_and_on_other_data_takes_its_own_place(good: Shop) -> None:
    assert good.run([FAULTY], "first") == ["made"]
    kept, told = good.everything_kept(), good.state()
    assert (good.run([FAULTY], "again"), good.everything_kept()) == (["reused"], kept)
    deliver(good, FAULTY, THIRD)
    assert good.run([FAULTY], "faulty") == ["blocked"]
    assert good.readers_see([FAULTY]) == {FAULTY: CUSTOMERS}
    assert (good.incidents(), good.state()) == ([("L1", "rows:low", "open")], good.replayed())
    deliver(good, FAULTY)
    assert good.run([FAULTY], "mended") == ["reused"]
    assert (good.incidents(), good.state(), good.replayed()) == ([], told, told)
    after = good.everything_kept()
    assert {name: after[name] - kept[name] for name in kept} == {
        "watch_event": 2, "watch_state": 2, "decision": 2, "incident": 0, "alert": 1, "metric_value": 0,
    }  # fmt: skip


def test_whoever_publishes_without_the_watch_is_held_back_all_the_same(good: Shop) -> None:
    deliver(good, FAULTY, THIRD)
    good.prepare([FAULTY], "faulty")
    assert (good.publish([FAULTY], "direct"), good.readers_see([FAULTY])) == (["blocked"], {})
    plan = plan_backfill(good.workspace, good.pipeline, [LAST, FAULTY], "1", "predictions")
    opened = open_changeset(good.workspace, plan, "because", "ann").changeset_id
    stage_predictions(good.workspace, good.pipeline, opened, [LAST, FAULTY], "backfill")
    stage_publications(good.workspace, good.pipeline, opened, [LAST, FAULTY], "backfill")
    with good.workspace.engine.connect() as connection:
        items = items_of(connection, opened, differences=False)
    assert [one.outcome for one in items] == ["identical", "blocked"]
    assert (items[1].reason or "").startswith("20 rows, and at least 29 are normal")
    assert good.incidents() == []


@pytest.mark.parametrize(
    ("which", "late"),
    [("false", True), ("customer_id % 10 = 0", False)],
    ids=["labels stop", "labels of too few rows come"],
)
def test_labels_that_never_come_are_waited_for_so_long_and_nothing_is_concluded(
    server: Server, begun: Begun, tmp_path: Path, which: str, late: bool
) -> None:
    def hurry(spec: dict[str, Any]) -> None:
        spec["monitoring"] = {**spec.get("monitoring", {}), "outcomes": {"wait_days": 3}}

    nights = nights_between(night_after(FIRST_NIGHT), night_after(FIRST_NIGHT, 10))
    with copied(server, begun, tmp_path) as before:
        shop = Shop(before.workspace, change_spec(before.workspace, hurry))
        write_labels(shop.workspace, where=f"known_on <= date '{FIRST_NIGHT}' or {which}")
        assert shop.run(nights, "range") == ["made"] * 10
        given_up = dict.fromkeys(nights[:-4], "insufficient")
        assert shop.maturity(nights) == (given_up if late else given_up | dict.fromkeys(nights[-4:-1], "provisional"))
        assert {cause for _, cause in shop.fired(nights)} == {"labels:spend_tomorrow"}
        assert shop.incidents() == [("L2", "labels:spend_tomorrow", "open")]
        assert len(shop.alerts()) == 1
        assert shop.state().notes[0] == "L4: not enough evidence: no outcomes are mature"
        (answer,) = shop.retraining()
        assert answer[0] == "no_attempt"
        assert "not enough evidence: 0 % new mature labels (5 % needed)" in answer[1]
        report, board = shop.pages(nights[-1])
    for page in (report, board):
        assert "0 score dates are mature" in page
        assert "7 without enough evidence" in page


@contextmanager
def made_anew(server: Server, folder: Path, change: Spec, days: int = 0) -> Iterator[Shop]:
    """A deployment of another spec, with data of `days` days."""
    with fresh_database(server) as name, opened_shop(server, name, folder, days) as workspace:
        yield Shop(workspace, change_spec(workspace, change))


def begin_and_run(shop: Shop, nights: Sequence[date]) -> list[str]:
    """History, a first version for the first of `nights`, and the chain of all of them; each step at once."""
    prepare(shop.workspace, shop.pipeline, nights_between(FIRST, nights[-1]), "all")
    train_version(shop.workspace, shop.pipeline, nights[0], "first", "all")
    score_nights(shop.workspace, shop.pipeline, nights, "all")
    shop.watch(nights, "all")
    published = shop.publish(nights, "all")
    follow_up(shop.workspace, shop.pipeline, nights, "all")
    return published


def test_labels_of_a_binary_task_are_late_on_the_first_night_that_they_are_missed(
    server: Server, tmp_path: Path
) -> None:
    def binary(spec: dict[str, Any]) -> None:
        spec["task"] = "binary"
        spec["features"]["lookback_days"] = 5
        spec["training"]["algorithm"] = {"type": "linear"}

    nights = nights_between(FIRST_NIGHT, night_after(FIRST_NIGHT, 11))
    first_late = nights[8]
    with made_anew(server, tmp_path, binary, days=20) as shop:
        write_labels(
            shop.workspace, value="cast(spend > 60 as integer)",
            told_on=f"case when known_on < date '{first_late}' then known_on else known_on + 3 end",
        )  # fmt: skip
        assert begin_and_run(shop, nights) == ["made"] * 12
        missed = nights_between(first_late, night_after(first_late, 2))
        assert shop.fired(nights) == [(night, "labels:spend_tomorrow") for night in missed]
        assert shop.incidents() == [("L2", "labels:spend_tomorrow", "open")]
        assert [f"{first_late}, incident" in title for title in shop.alerts()] == [True]
        assert shop.maturity(nights) == dict.fromkeys(nights_between(nights[0], night_after(first_late, -1)), "mature")


def sparse(day: date) -> pl.DataFrame:
    """A few visits on about one day in five."""
    random = np.random.default_rng([1, day.toordinal()])
    rows = int(random.integers(3, 9)) if random.random() < 0.2 else 0
    return visits_of(day).sample(rows, seed=day.toordinal())


def test_nights_mostly_without_rows_are_no_fault_and_a_fault_of_a_few_rows_is_one(
    server: Server, tmp_path: Path
) -> None:
    def seldom(spec: dict[str, Any]) -> None:
        source = spec["sources"]["visits"]
        source["empty"] = "allow"
        source["expectations"] = [one for one in source["expectations"] if one["type"] != "row_count"]
        spec["training"] |= {"window_days": 40, "holdout_days": 2, "min_rows": 20}
        spec["training"]["algorithm"] |= {"leaves": 3, "min_rows_in_leaf": 3}

    begin = night_after(FIRST, 45)
    nights = nights_between(begin, night_after(begin, 26))
    *fine, unseen, nulls = nights
    with made_anew(server, tmp_path, seldom) as shop:
        for day in nights_between(FIRST, night_after(nulls, -1)):
            write_day(shop.workspace.settings.root, day, sparse(day))
        wrong = {unseen: pl.lit("Atlantis"), nulls: pl.when(pl.col("customer_id") < 10).then("city")}
        for night, city in wrong.items():
            day = night_after(night, -1)
            write_day(shop.workspace.settings.root, day, visits_of(day)[::10].with_columns(city=city))
        write_labels(shop.workspace, scored_on="known_on", told_on="known_on + 1")
        published = begin_and_run(shop, nights)
        assert published == ["made"] * 25 + ["blocked"] * 2
        assert shop.published(nights) == set(fine)
        assert shop.fired(fine) == []
        assert shop.fired([unseen, nulls]) == [(unseen, "unseen:city"), (nulls, "nulls:city")]
        assert shop.incidents() == [("L1", "unseen:city", "open")], "another check of the column joins its incident"
        empty = next(night for night in reversed(fine) if not shop.readers_see([night]))
        report, board = shop.pages(empty)
        shop.pages(nulls)
    assert "Published. Readers see revision 1: 0 rows" in report
    assert "Published: 25 of" in board
