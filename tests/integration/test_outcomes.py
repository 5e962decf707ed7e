"""What came true of published nights, where labels come, come late, never come, or are corrected by people."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from nightscore.catalog.metrics import MetricValue, metrics_between
from nightscore.catalog.models import ModelVersion
from nightscore.catalog.postgres import Server
from nightscore.catalog.tables import feedback, partition_version, publication
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.measures.control import fit_cusum
from nightscore.measures.metrics import log_loss, regression_metrics
from nightscore.monitoring import business, outcomes, performance
from nightscore.monitoring.business import record_business_metrics, record_costs
from nightscore.monitoring.outcomes import (
    label_arrival,
    label_freshness,
    labelled_by_part,
    labelled_nights,
    mature_outcomes,
    mature_rows,
    published_between,
    published_nights,
    published_rows,
)
from nightscore.monitoring.performance import performance_curve, record_performance
from nightscore.registry.register import train_version
from nightscore.registry.rollout import open_rollout
from nightscore.registry.versions import open_capsule
from nightscore.scoring.shadow import score_shadows
from nightscore.spec.datasets import labels_dataset
from nightscore.spec.monitoring import Monitoring, Outcomes
from nightscore.spec.outcomes import BusinessMetric
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.promotion import Promotion, Rollout
from nightscore.spec.windows import nights_between
from nightscore.training.matrix import row_key
from nightscore.watch.evidence import Freshness, LabelArrival
from tests.integration.night_chain import finish, fresh_database, opened_shop, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST

BEGUN = FIRST + timedelta(days=18)
"""The first published night; the model was trained on the 18 dates before it, 9 of them held out."""
LAST = BEGUN + timedelta(days=7)
WAIT = 3
MONITORING = Monitoring(outcomes=Outcomes(wait_days=WAIT, min_days=3, min_positives=5, windows=(3, 5)))
LABEL = "spend_tomorrow"


@dataclass(frozen=True)
class Shop:
    workspace: Workspace
    pipeline: Pipeline
    champion: ModelVersion

    @property
    def labels(self) -> str:
        return labels_dataset(self.pipeline.name)

    def outcomes(self, night: date, champion: ModelVersion | None = None) -> Any:
        capsule = open_capsule(self.workspace, self.champion)
        return mature_outcomes(self.workspace, self.pipeline, champion or self.champion, capsule, night)

    def stored(self, scope: str | None = None) -> list[MetricValue]:
        with self.workspace.engine.connect() as connection:
            found = metrics_between(connection, "visits", FIRST, LAST)
        return [one for one in found if scope in (None, one.scope)]

    def put_labels(self, night: date, frame: pl.DataFrame) -> None:
        """Make `frame` the label partition of `night`."""
        lake, standing = self.workspace.lake, self.workspace.lake.current(self.labels, night, night)
        stored = lake.put(frame, row_key(self.pipeline))
        lake.commit([candidate(self.labels, night, stored, frame.height, f"test {stored.md5}", standing)], "test")

    def take_labels(self, nights: Sequence[date]) -> pl.DataFrame:
        """Empty the label partitions of `nights` as if they had never had rows; returns the rows."""
        taken = self.workspace.lake.scan(self.workspace.lake.require(self.labels, nights)).collect()
        for night in nights:
            self.put_labels(night, taken.clear())
        old = partition_version.c
        with self.workspace.engine.begin() as connection:
            named = (old.dataset == self.labels, old.score_date.in_(nights), old.rows > 0)
            connection.execute(partition_version.update().where(*named).values(rows=0))
        return taken

    def say(self, night: date, customer: int, label: float | None, at: datetime | None = None) -> int:
        """Feedback on one row; returns its id."""
        values = {
            "pipeline": "visits", "score_date": night, "key": {"customer_id": customer}, "verdict": "disagree",
            "label": label, "note": "", "reviewer": "ada", "source": "test", "at": at or self.workspace.clock.now(),
        }  # fmt: skip
        with self.workspace.engine.begin() as connection:
            statement = feedback.insert().values(values).returning(feedback.c.feedback_id)
            return int(connection.scalars(statement).one())


def make_binary(root: Path) -> None:
    """Who spends more than 60 euros, instead of how much is spent."""
    spec, sql = root / "pipelines/visits.yaml", root / "dbt/models/visits/labels/visits_labels.sql"
    rule = spec.read_text().replace("{ type: top_k, k: 5 }", "{ type: threshold, value: 0.5 }")
    spec.write_text(rule.replace("task: regression", "task: binary"))
    sql.write_text(sql.read_text().replace("spend as", "(spend > 60)::integer as"))


def spec_of(workspace: Workspace) -> Pipeline:
    pipeline = visits_of_shop(workspace)
    training = pipeline.training.model_copy(update={"window_days": 18, "holdout_days": 9})
    return pipeline.model_copy(update={"training": training, "monitoring": MONITORING})


@dataclass(frozen=True)
class Template:
    database: str
    folder: Path
    champion: ModelVersion


def make_template(server: Server, folder: Path, binary: bool) -> Iterator[Template]:
    """A shop with eight published nights by one champion."""
    with fresh_database(server) as name:
        with opened_shop(server, name, folder, days=28) as workspace:
            if binary:
                make_binary(workspace.settings.root)
            pipeline = spec_of(workspace)
            prepare(workspace, pipeline, nights_between(FIRST, BEGUN), "history")
            champion = train_version(workspace, pipeline, BEGUN, "first", "history").version
            prepare(workspace, pipeline, nights_between(BEGUN, LAST), "nights")
            finish(workspace, pipeline, nights_between(BEGUN, LAST), "nights")
        yield Template(name, folder, champion)


def copied(server: Server, template: Template, folder: Path) -> Iterator[Shop]:
    shutil.copytree(template.folder / "home", folder / "home")
    with fresh_database(server, template.database) as name, opened_shop(server, name, folder, days=28) as workspace:
        yield Shop(workspace, spec_of(workspace), template.champion)


@pytest.fixture(scope="module")
def template(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    yield from make_template(server, tmp_path_factory.mktemp("template"), binary=False)


@pytest.fixture(scope="module")
def binary_template(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    yield from make_template(server, tmp_path_factory.mktemp("binary"), binary=True)


@pytest.fixture
def shop(server: Server, template: Template, tmp_path: Path) -> Iterator[Shop]:
    yield from copied(server, template, tmp_path)


@pytest.fixture
def binary_shop(server: Server, binary_template: Template, tmp_path: Path) -> Iterator[Shop]:
    for one in copied(server, binary_template, tmp_path):
        make_binary(one.workspace.settings.root)
        yield Shop(one.workspace, spec_of(one.workspace), one.champion)


def night(days: int) -> date:
    return BEGUN + timedelta(days=days)


def names(figures: Sequence[MetricValue]) -> set[tuple[date, str, str]]:
    return {(one.score_date, one.scope, one.maturity) for one in figures}


def test_labels_of_later_nights_are_not_known_before(shop: Shop) -> None:
    nights = nights_between(BEGUN, LAST)
    for known_on in nights:
        rows = labelled_nights(shop.workspace, shop.pipeline, nights, known_on)
        expected = {day: CUSTOMERS for day in nights if day < known_on}
        assert dict(rows.group_by("score_date").len().iter_rows()) == expected
        assert set(rows["label_source"]) <= {"delivered"}
    everything = published_nights(shop.workspace, shop.pipeline, nights, BEGUN)
    assert (everything.height, everything[LABEL].null_count()) == (8 * CUSTOMERS, 8 * CUSTOMERS)


def test_labels_that_come_late_do_not_leak_into_an_earlier_night(shop: Shop) -> None:
    taken = shop.take_labels([night(1)])
    own = shop.workspace.lake.scan(shop.workspace.lake.require(shop.labels, [night(3)])).collect()
    shop.put_labels(night(3), pl.concat([own, taken]).sort(row_key(shop.pipeline)))
    counts = [labelled_nights(shop.workspace, shop.pipeline, [BEGUN], night(days)).height for days in range(5)]
    assert counts == [0, 0, 0, CUSTOMERS, CUSTOMERS]


@pytest.mark.parametrize("most", [1, 2 * CUSTOMERS, 3 * CUSTOMERS - 1, 100 * CUSTOMERS])
def test_dates_read_in_parts_are_those_read_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    shop.take_labels([night(5)])
    shop.say(night(2), 3, 40.0)
    published = published_between(shop.workspace, shop.pipeline, BEGUN, LAST)
    monkeypatch.setattr(outcomes, "PART_ROWS", most)
    parts = list(labelled_by_part(shop.workspace, shop.pipeline, published, LAST))
    assert [day for days, _ in parts for day in days] == nights_between(BEGUN, LAST)
    assert all(len(days) == 1 or sum(days.values()) <= most for days, _ in parts)
    whole = labelled_nights(shop.workspace, shop.pipeline, published, LAST)
    assert_frame_equal(pl.concat([rows for _, rows in parts]), whole)


def test_the_size_of_parts_does_not_show_in_the_figures(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.say(night(2), 3, 40.0)
    figures = []
    for most in (1, 100 * CUSTOMERS):
        monkeypatch.setattr(outcomes, "PART_ROWS", most)
        figures.append([
            *performance._figures_by_date(shop.workspace, shop.pipeline, LAST),
            *business._over_outcomes(shop.workspace, counted(shop), LAST),
        ])  # fmt: skip
    assert figures[0] == figures[1]
    assert {one.scope for one in figures[0]} == {"model", "business"}


def test_the_rows_of_a_night_without_labels_are_those_with_them(shop: Shop) -> None:
    columns = ("score", "decision")
    found = published_rows(shop.workspace, shop.pipeline, night(2), columns)
    rows = published_nights(shop.workspace, shop.pipeline, [night(2)], LAST, columns)
    assert_frame_equal(found, rows.drop(LABEL, "label_source"))
    assert published_rows(shop.workspace, shop.pipeline, FIRST, columns).height == 0


def test_the_champion_is_judged_on_its_mature_dates(shop: Shop) -> None:
    found = shop.outcomes(LAST)
    rows = labelled_nights(shop.workspace, shop.pipeline, nights_between(BEGUN, LAST), LAST)
    held_out = open_capsule(shop.workspace, shop.champion).held_out()
    assert held_out is not None
    apart = pl.col(LABEL) - pl.col("score")
    daily = rows.group_by("score_date").agg(apart.mean()).sort("score_date")
    usual = held_out.group_by("score_date").agg((pl.col(LABEL) - pl.col("_score")).mean()).sort("score_date")
    cusum = fit_cusum(usual[LABEL].to_list())
    assert cusum is not None
    assert [(one.day, one.mean) for one in found.residuals] == [
        (day, pytest.approx(mean)) for day, mean in daily.iter_rows()
    ]
    assert (found.days, found.positives, found.loss) == (7, None, "squared error")
    assert (found.residual_target, found.residual_sd) == pytest.approx((cusum.target, cusum.sd))
    assert found.champion_loss == pytest.approx(((rows[LABEL] - rows["score"]) ** 2).mean())
    assert found.constant_loss == pytest.approx(((rows[LABEL] - held_out[LABEL].mean()) ** 2).mean())
    assert found.held_out_loss == pytest.approx(((held_out[LABEL] - held_out["_score"]) ** 2).mean())


def test_rows_of_another_version_are_not_the_champions(shop: Shop) -> None:
    other = ModelVersion(**{**vars(shop.champion), "version": shop.champion.version + 1})
    assert shop.outcomes(LAST, other) is None
    assert shop.outcomes(BEGUN) is None


def test_a_date_is_provisional_then_mature_or_closed_for_good(shop: Shop) -> None:
    taken = shop.take_labels([night(1), night(2)])
    late = taken.filter(pl.col("score_date") == BEGUN)
    own = shop.workspace.lake.scan(shop.workspace.lake.require(shop.labels, [night(5)])).collect()
    shop.put_labels(night(2), taken.filter((pl.col("score_date") == night(1)) & (pl.col("customer_id") <= 20)))
    shop.put_labels(night(5), pl.concat([own, late]).sort(row_key(shop.pipeline)))
    said = {}
    for known_on in nights_between(night(1), LAST):
        record_performance(shop.workspace, shop.pipeline, known_on, "test")
    for one in shop.stored("model"):
        if one.metric == "rmse" and one.score_date <= night(2):
            said[one.score_date, (one.known_on - BEGUN).days] = (one.maturity, one.rows, one.value is None)
    assert said == {
        # One night too late: closed three days after it was due, and never looked at again.
        (BEGUN, 4): ("insufficient", 0, True),
        # A third of the labels is shown as provisional, until it is clear that no more will come.
        (night(1), 2): ("provisional", 20, False),
        (night(1), 5): ("insufficient", 20, True),
        (night(2), 3): ("mature", CUSTOMERS, False),
    }
    assert set(mature_rows(shop.workspace, shop.pipeline, LAST, 28)["score_date"]) == set(
        nights_between(night(2), night(6))
    )


def test_figures_are_those_of_the_labels_and_are_kept_once(shop: Shop) -> None:
    first = record_performance(shop.workspace, shop.pipeline, LAST, "test")
    again = record_performance(shop.workspace, shop.pipeline, LAST, "test")
    rows = labelled_nights(shop.workspace, shop.pipeline, [night(2)], LAST)
    expected = regression_metrics(rows[LABEL].to_numpy(), rows["score"].to_numpy())
    stored = {one.metric: one for one in shop.stored("model") if one.score_date == night(2)}
    assert {name: one.value for name, one in stored.items()} == pytest.approx(expected)
    detail = {"scored": CUSTOMERS, "feedback": 0, "versions": [shop.champion.version]}
    assert stored["rmse"] == MetricValue(
        "visits", night(2), LAST, "model", "rmse", expected["rmse"], CUSTOMERS, "mature",
        model_version=shop.champion.version, detail=detail,
    )  # fmt: skip
    assert (len(first), again) == (len(shop.stored()), [])
    # The night after, only what is new: one date and the windows that end with it.
    record_performance(shop.workspace, shop.pipeline, night(6), "test")
    assert {one.known_on for one in shop.stored("model")} == {night(6), LAST}


def test_windows_show_the_model_beside_the_constant_with_bounds(shop: Shop) -> None:
    record_performance(shop.workspace, shop.pipeline, night(2), "test")
    record_performance(shop.workspace, shop.pipeline, LAST, "test")
    windows = {(one.known_on, one.metric): one for one in shop.stored("window")}
    early = windows[night(2), "model:rmse:3"]
    assert (early.value, early.maturity, early.detail["days"]) == (None, "insufficient", 2)
    rows = labelled_nights(shop.workspace, shop.pipeline, nights_between(night(4), night(6)), LAST)
    model, constant = windows[LAST, "model:rmse:3"], windows[LAST, "constant:rmse:3"]
    assert model.value == pytest.approx(np.sqrt(((rows[LABEL] - rows["score"]) ** 2).mean()))
    assert (model.detail["first"], model.detail["last"], model.score_date) == (str(night(4)), str(night(6)), night(6))
    assert model.low is not None
    assert model.high is not None
    assert constant.value is not None
    assert model.low <= model.value <= model.high < constant.value
    worse = windows[LAST, "constant:excess_loss:3"].value
    assert worse == pytest.approx(constant.value**2 - model.value**2)
    assert not any(one.metric.startswith("challenger") for one in windows.values())


def test_curves_compare_dates_at_equal_maturity(shop: Shop) -> None:
    shop.say(BEGUN, 1, 1000.0, datetime(2030, 1, 1, tzinfo=UTC))
    publish_at(shop, LAST, datetime(2031, 1, 1, tzinfo=UTC))
    for known_on in nights_between(night(1), LAST):
        record_performance(shop.workspace, shop.pipeline, known_on, "test")
    with shop.workspace.engine.connect() as connection:
        young, old, corrected = (performance_curve(connection, "visits", "rmse", days) for days in (1, 2, 6))
    assert [day for day, _ in young.figures] == nights_between(BEGUN, night(6))
    assert young.figures[:6] == old.figures
    assert None not in {value for _, value in young.figures}
    assert [day for day, _ in corrected.figures] == [BEGUN, night(1)]
    assert corrected.figures[0] != young.figures[0]
    assert corrected.figures[1] == young.figures[1]


def publish_at(shop: Shop, night: date, at: datetime) -> None:
    """As if `night` had been published then."""
    with shop.workspace.engine.begin() as connection:
        changed = publication.update().where(publication.c.score_date == night)
        connection.execute(changed.values(published_at=at))


def test_the_newest_correction_of_a_person_counts_and_says_so(shop: Shop) -> None:
    before = labelled_nights(shop.workspace, shop.pipeline, [BEGUN], LAST)
    shop.say(BEGUN, 7, 1.0)
    newest = shop.say(BEGUN, 7, 555.5)
    shop.say(BEGUN, 7, None)
    shop.say(BEGUN, 999, 3.0)
    after = labelled_nights(shop.workspace, shop.pipeline, [BEGUN], LAST)
    changed = after.filter(pl.col("label_source") != "delivered")
    assert changed.select("customer_id", LABEL, "label_source").rows() == [(7, 555.5, f"feedback:{newest}")]
    untouched = pl.col("customer_id") != 7
    assert after.filter(untouched).equals(before.filter(untouched))
    figures = record_performance(shop.workspace, shop.pipeline, LAST, "test")
    assert {one.detail["feedback"] for one in figures if one.scope == "model" and one.score_date == BEGUN} == {1}


def test_a_correction_is_not_known_on_nights_that_were_over(shop: Shop) -> None:
    publish_at(shop, night(3), datetime(2024, 6, 1, tzinfo=UTC))
    shop.say(BEGUN, 7, 555.5, datetime(2024, 6, 2, tzinfo=UTC))
    for later in nights_between(night(4), LAST):
        publish_at(shop, later, datetime(2024, 7, 1, tzinfo=UTC))
    sources = {
        known_on: labelled_nights(shop.workspace, shop.pipeline, [BEGUN], known_on)["label_source"].n_unique()
        for known_on in (night(2), night(3), LAST)
    }
    assert sources == {night(2): 1, night(3): 2, LAST: 2}


def test_a_person_may_label_rows_that_nobody_else_labels(shop: Shop) -> None:
    shop.take_labels([LAST])
    shop.say(night(6), 3, 40.0)
    figures = record_performance(shop.workspace, shop.pipeline, LAST, "test")
    found = [one for one in figures if one.score_date == night(6) and one.metric == "mae"]
    assert [(one.scope, one.rows, one.maturity) for one in found] == [("model", 1, "provisional")]


def test_labels_that_never_come_block_nothing(shop: Shop) -> None:
    shop.take_labels(nights_between(FIRST, LAST))
    for known_on in nights_between(BEGUN, LAST):
        assert shop.outcomes(known_on) is None
        assert label_freshness(shop.workspace, shop.pipeline, known_on) is None
        record_performance(shop.workspace, shop.pipeline, known_on, "test")
        record_business_metrics(shop.workspace, counted(shop), known_on, "test")
    arrival = label_arrival(shop.workspace, shop.pipeline, shop.champion, LAST)
    assert arrival == LabelArrival(expected=7 * CUSTOMERS, arrived=0, new_mature_share=0.0)
    assert names([one for one in shop.stored() if one.scope != "business"]) == {
        (day, "model", "insufficient") for day in nights_between(BEGUN, night(3))
    }
    assert {one.value for one in shop.stored("model")} == {None}
    assert {one.metric for one in shop.stored("business")} == {"mails"}


def test_new_labels_are_a_share_of_the_training_rows(shop: Shop) -> None:
    rows = shop.champion.metrics["all"]["rows"]
    arrival = label_arrival(shop.workspace, shop.pipeline, shop.champion, LAST)
    assert arrival == LabelArrival(expected=7 * CUSTOMERS, arrived=7 * CUSTOMERS, new_mature_share=7 * CUSTOMERS / rows)
    none = label_arrival(shop.workspace, shop.pipeline, shop.champion, BEGUN)
    assert none == LabelArrival(new_mature_share=0.0)


def test_labels_that_are_late_for_once_are_beyond_what_is_normal(shop: Shop) -> None:
    on_time = label_freshness(shop.workspace, shop.pipeline, night(5))
    shop.take_labels([night(6), LAST])
    ages = [label_freshness(shop.workspace, shop.pipeline, known_on) for known_on in (night(5), night(6), LAST)]
    assert on_time == ages[0] == Freshness(name=LABEL, age_days=0, limit_days=0, kind="label")
    assert [one and (one.age_days, one.age_days > one.limit_days) for one in ages[1:]] == [(1, True), (2, True)]


def test_labels_that_are_late_every_week_are_normal(shop: Shop) -> None:
    shop.take_labels([night(0), night(1), LAST])
    found = label_freshness(shop.workspace, shop.pipeline, LAST)
    assert found == Freshness(name=LABEL, age_days=1, limit_days=1, kind="label")


def counted(shop: Shop) -> Pipeline:
    metrics = (
        BusinessMetric(name="mails", expression="count(*) filter (where decision)", over="predictions", unit="mails"),
        BusinessMetric(name="spent", expression="sum(spend_tomorrow) filter (where decision)", unit="EUR", good="high"),
        BusinessMetric(name="broken", sql="select error('no more')"),
    )
    return shop.pipeline.model_copy(update={"metrics": metrics})


def test_declared_metrics_are_kept_and_a_failing_one_holds_nothing_back(shop: Shop) -> None:
    pipeline = counted(shop)
    record_business_metrics(shop.workspace, pipeline, night(2), "test")
    stored = {(one.score_date, one.metric): one for one in shop.stored("business")}
    rows = labelled_nights(shop.workspace, pipeline, [BEGUN], night(2))
    assert set(stored) == {(night(2), "mails"), *((day, name) for day in (BEGUN, night(1)) for name in NAMES)}
    assert (
        stored[night(2), "mails"].value
        == published_nights(shop.workspace, pipeline, [night(2)], night(2))["decision"].sum()
    )
    spent = stored[BEGUN, "spent"]
    assert spent.value == pytest.approx(rows.filter("decision")[LABEL].sum())
    assert (spent.rows, spent.maturity, spent.known_on) == (CUSTOMERS, "mature", night(2))
    assert spent.detail == {"over": "outcomes", "unit": "EUR", "good": "high"}
    broken = stored[BEGUN, "broken"]
    assert broken.value is None
    assert "computing the metric broken of visits failed" in broken.detail["error"]
    assert "metrics.broken in pipelines/visits.yaml" in broken.detail["error"]
    assert record_business_metrics(shop.workspace, pipeline, night(2), "test") == []


NAMES = ("spent", "broken")


def test_a_night_costs_what_its_steps_took(shop: Shop) -> None:
    found = {one.metric: one for one in record_costs(shop.workspace, shop.pipeline, LAST, "nights")}
    taken = {name.partition(":")[2]: one.value for name, one in found.items() if name.startswith("seconds:")}
    assert set(taken) == {"source visits", "clean visits", "features", "score", "publish", "all"}
    assert taken["all"] == pytest.approx(sum(value or 0.0 for step, value in taken.items() if step != "all"))
    per_million = found["seconds_per_million:score"]
    assert per_million.rows == CUSTOMERS
    assert per_million.value == pytest.approx(1e6 * (taken["score"] or 0.0) / CUSTOMERS)
    assert record_costs(shop.workspace, shop.pipeline, LAST, "another run") == []


def test_estimates_are_reconciled_when_labels_have_come(binary_shop: Shop) -> None:
    shop = binary_shop
    made = {}
    for known_on in nights_between(BEGUN, night(3)):
        made[known_on] = record_performance(shop.workspace, shop.pipeline, known_on, "test")
    tonight = {one.metric: one for one in made[night(2)] if one.scope == "estimate" and one.maturity == "estimate"}
    rows = labelled_nights(shop.workspace, shop.pipeline, [night(2)], night(3))
    realised = log_loss(rows[LABEL].to_numpy(), rows["probability"].to_numpy())
    (error,) = (one for one in made[night(3)] if one.metric == "estimate_error:log_loss")
    guess = tonight["log_loss"].value
    assert guess is not None
    assert realised is not None
    assert (error.score_date, error.known_on, error.maturity) == (night(2), night(3), "mature")
    assert error.value == pytest.approx(guess - realised)
    assert error.detail == {"estimated": guess, "realised": pytest.approx(realised)}
    assert {one.score_date for one in made[night(3)] if one.scope == "estimate"} == {night(2), night(3)}


def test_a_binary_shop_counts_positives_and_shows_its_challenger(binary_shop: Shop) -> None:
    shop = binary_shop
    training = shop.pipeline.training.model_copy(update={"seed": 8})
    rolled = shop.pipeline.model_copy(
        update={"training": training, "rollout": Rollout(kind="shadow"), "promotion": Promotion(approve="auto")}
    )
    other = train_version(shop.workspace, rolled, BEGUN, "another", "other").version
    open_rollout(shop.workspace, rolled, other, BEGUN, "test", "try it")
    score_shadows(shop.workspace, rolled, nights_between(night(1), LAST), "test")
    record_performance(shop.workspace, rolled, LAST, "test")
    windows = {one.metric: one for one in shop.stored("window")}
    found = shop.outcomes(LAST)
    rows = labelled_nights(shop.workspace, shop.pipeline, nights_between(BEGUN, night(6)), LAST)
    assert (found.days, found.positives, found.loss) == (7, int(rows[LABEL].sum()), "log loss")
    assert found.champion_loss == pytest.approx(log_loss(rows[LABEL].to_numpy(), rows["probability"].to_numpy()))
    last = rows.filter(pl.col("score_date") >= night(4))
    assert windows["model:log_loss:3"].detail["positives"] == int(last[LABEL].sum())
    challenger = windows["challenger:log_loss:3"]
    assert (challenger.maturity, challenger.rows, challenger.detail["days"]) == ("mature", 3 * CUSTOMERS, 3)
    assert challenger.value is not None


def test_too_few_positives_are_no_evidence(binary_shop: Shop) -> None:
    rules = Monitoring(outcomes=Outcomes(wait_days=WAIT, min_days=3, min_positives=100_000, windows=(5,)))
    pipeline = binary_shop.pipeline.model_copy(update={"monitoring": rules})
    record_performance(binary_shop.workspace, pipeline, LAST, "test")
    assert {(one.value, one.maturity) for one in binary_shop.stored("window")} == {(None, "insufficient")}


def test_nights_without_rows_have_no_figures(shop: Shop) -> None:
    before_all = FIRST + timedelta(days=3)
    assert record_performance(shop.workspace, shop.pipeline, before_all, "test") == []
    assert record_business_metrics(shop.workspace, counted(shop), before_all, "test") == []
    assert labelled_nights(shop.workspace, shop.pipeline, [], LAST).height == 0
    assert labelled_nights(shop.workspace, shop.pipeline, [before_all], LAST).height == 0
