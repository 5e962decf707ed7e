"""Rollouts with the real thing: arms on rows, receipts of both versions, steps, and bad versions taken back."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.alerts import list_alerts
from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.models import ModelVersion, holders_of
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import latest_publication
from nightscore.catalog.rollouts import events_of_rollout, list_rollouts, running_rollout
from nightscore.errors import AliasMissing, CapsuleRejected, PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.rollouts import review_rollout
from nightscore.publishing.retreat import retreat
from nightscore.registry.promotion import promote, reject
from nightscore.registry.register import train_version
from nightscore.registry.rollout import end_rollout, grow, open_rollout
from nightscore.registry.versions import require_version
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.trace import trace_row
from nightscore.scoring.arms import bucket_of
from nightscore.scoring.shadow import score_shadows
from nightscore.spec.datasets import predictions_dataset, shadow_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.promotion import Promotion, Rollout
from nightscore.spec.windows import nights_between
from tests.integration.night_chain import Begun, finish, fresh_database, opened_shop, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

NEXT = FIRST_NIGHT + timedelta(days=1)
LATER = FIRST_NIGHT + timedelta(days=14)
Versions = tuple[Workspace, Pipeline, ModelVersion, ModelVersion]


def rolled(pipeline: Pipeline, **rollout: Any) -> Pipeline:
    return pipeline.model_copy(
        update={"rollout": Rollout(**rollout), "promotion": Promotion(approve="auto", cooldown_days=0)}
    )


def trained(workspace: Workspace, pipeline: Pipeline, seed: int, **algorithm: object) -> ModelVersion:
    """Another version for the first night, of another recipe."""
    changed = pipeline.training.algorithm.model_copy(update=algorithm)
    training = pipeline.training.model_copy(update={"algorithm": changed, "seed": seed})
    other = pipeline.model_copy(update={"training": training})
    return train_version(workspace, other, FIRST_NIGHT, "another recipe", "other").version


@dataclass(frozen=True)
class Template:
    """A shop with two versions, which each test gets a copy of."""

    database: str
    folder: Path
    good: ModelVersion
    other: ModelVersion


@pytest.fixture(scope="module")
def template(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """A champion of the spec's recipe, a version that has learnt next to nothing, and the first night published."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name:
        with opened_shop(server, name, folder, days=24) as workspace:
            good = require_version(workspace, "visits", 1)
            other = trained(workspace, visits_of_shop(workspace), 8, trees=1, learning_rate=0.001)
        yield Template(name, folder, good, other)


@pytest.fixture
def shop(server: Server, template: Template, tmp_path: Path) -> Iterator[Versions]:
    shutil.copytree(template.folder, tmp_path, dirs_exist_ok=True)
    with fresh_database(server, template.database) as name, opened_shop(server, name, tmp_path, days=24) as workspace:
        yield workspace, visits_of_shop(workspace), template.good, template.other


def rows_of(workspace: Workspace, night: date) -> list[tuple[Any, ...]]:
    """What readers see of a night."""
    query = sa.text("select * from bi.visits_current where score_date = :night order by customer_id")
    with workspace.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query, {"night": night})]


def predictions(workspace: Workspace, night: date) -> pl.DataFrame:
    (found,) = workspace.lake.require(predictions_dataset("visits"), [night])
    return workspace.lake.scan([found]).collect()


def run(workspace: Workspace, pipeline: Pipeline, first: date, last: date) -> None:
    nights = nights_between(first, last)
    prepare(workspace, pipeline, nights, "nights")
    finish(workspace, pipeline, nights, "nights")


def aliases(workspace: Workspace) -> dict[str, int]:
    with workspace.engine.connect() as connection:
        return holders_of(connection, "visits")


def test_a_canary_scores_its_share_and_every_row_says_by_whom(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    canary = rolled(pipeline, kind="canary", steps=(40, 100))
    open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    run(workspace, canary, NEXT, NEXT)
    seen = predictions(workspace, NEXT).select("customer_id", "model_version", "arm").rows()
    expected = [
        (one, other.version, "canary") if bucket_of(other.name, str(one)) < 4000 else (one, good.version, "champion")
        for one in range(1, CUSTOMERS + 1)
    ]
    assert seen == expected
    assert aliases(workspace) == {"champion": good.version, "canary": other.version}


def test_a_night_of_two_versions_is_made_again_and_traced(shop: Versions) -> None:
    workspace, pipeline, _, other = shop
    canary = rolled(pipeline, kind="canary", steps=(40, 100))
    open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    run(workspace, canary, NEXT, NEXT)
    with workspace.engine.connect() as connection:
        publication = latest_publication(connection, "visits")
    assert publication is not None
    made = reproduce_night(workspace, publication, "test")
    assert (made.outcome, made.level) == ("reproduced", "identical")
    customer = next(one for one in range(1, CUSTOMERS + 1) if bucket_of(other.name, str(one)) < 4000)
    trace = trace_row(workspace, publication, [f"customer_id={customer}"], "test")
    assert (trace.verdict, trace.model.version) == ("EQUAL", other.version)


def test_an_ended_rollout_gives_all_rows_back(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    canary = rolled(pipeline, kind="ab", steps=(50, 100))
    opened = open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    run(workspace, canary, NEXT, NEXT)
    assert set(predictions(workspace, NEXT)["arm"]) == {"champion", "b"}
    end_rollout(workspace, opened, "stopped", NEXT, "test", "enough", {})
    run(workspace, canary, NEXT + timedelta(days=1), NEXT + timedelta(days=1))
    assert set(predictions(workspace, NEXT + timedelta(days=1))["arm"]) == {"champion"}
    assert aliases(workspace) == {"champion": good.version}
    with workspace.engine.connect() as connection:
        (ended,) = list_rollouts(connection, "visits")
        assert [one["event"] for one in events_of_rollout(connection, ended.rollout_id)] == ["opened", "stopped"]


def test_a_shadow_scores_every_row_and_readers_see_none_of_it(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    shadow = rolled(pipeline, kind="shadow")
    open_rollout(workspace, shadow, other, FIRST_NIGHT, "test", "look first")
    run(workspace, shadow, NEXT, NEXT)
    (made,) = score_shadows(workspace, shadow, [NEXT], "shadow")
    (again,) = score_shadows(workspace, shadow, [NEXT], "shadow")
    (stored,) = workspace.lake.require(shadow_dataset("visits"), [NEXT])
    assert (made.result, again.result, made.rows) == ("made", "reused", CUSTOMERS)
    assert set(workspace.lake.scan([stored]).collect()["model_version"]) == {other.version}
    assert set(predictions(workspace, NEXT)["model_version"]) == {good.version}


def test_a_second_rollout_and_one_of_the_champion_are_refused(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    open_rollout(workspace, pipeline, other, FIRST_NIGHT, "test", "look first", "shadow")
    with pytest.raises(PromotionRefused) as refused:
        open_rollout(workspace, pipeline, good, FIRST_NIGHT, "test", "again", "canary")
    assert refused.value.found == ("rollout 1 of visits@2 is running", "visits@1 is the champion already")


def test_a_rejected_version_is_not_rolled_out(shop: Versions) -> None:
    workspace, pipeline, _, other = shop
    reject(workspace, pipeline, other, "test", "it knows nothing")
    with pytest.raises(PromotionRefused, match="visits@2 was rejected"):
        open_rollout(workspace, pipeline, other, FIRST_NIGHT, "test", "try it", "canary")


def test_an_alias_that_contradicts_the_rollout_stops_the_night(shop: Versions) -> None:
    workspace, pipeline, _, other = shop
    canary = rolled(pipeline, kind="canary")
    open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    with workspace.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into nightscore.alias_event (pipeline, alias, version, previous, actor, reason, at) "
            "values ('visits', 'canary', null, 2, 'somebody', 'by hand', now())"
        )
    prepare(workspace, canary, [NEXT], "nights")
    with pytest.raises(AliasMissing, match="canary is @None, the rollout began with @2"):
        finish(workspace, canary, [NEXT], "nights")
    assert rows_of(workspace, NEXT) == []


def told(workspace: Workspace) -> list[tuple[str, str, str, str]]:
    with workspace.engine.connect() as connection:
        return [(one.subject, one.occasion, one.title, one.body) for one in list_alerts(connection)]


def test_a_canary_that_is_credibly_worse_is_taken_back_when_its_labels_are_mature(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    canary = rolled(pipeline, kind="canary", steps=(40, 100), min_days=12)
    open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    early = NEXT + timedelta(days=5)
    run(workspace, canary, NEXT, early)
    assert review_rollout(workspace, canary, early, "review").action == "waiting"
    run(workspace, canary, early + timedelta(days=1), LATER - timedelta(days=2))
    review = review_rollout(workspace, canary, LATER - timedelta(days=2), "review")
    assert (review.action, review.evidence["gate"]) == ("taken_back", "worse")
    assert review.evidence["arms"]["loss"]["difference"] > 0
    assert aliases(workspace) == {"champion": good.version}
    with workspace.engine.connect() as connection:
        assert running_rollout(connection, "visits") is None
        newest = list_decisions(connection, "visits", 1)[0]
    assert (newest.kind, newest.subject, newest.verdict) == ("rollout", other.name, "rolled_back")
    assert told(workspace) == [(other.name, "rollout 1 taken back", "Nightscore: visits@2 taken back", review.reason)]


def test_a_canary_grows_and_becomes_champion(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    steps = rolled(pipeline, kind="canary", steps=(10, 50, 100), min_days=5)
    promote(workspace, steps, other, "test", "begin with the bad one", despite_gate=True)
    open_rollout(workspace, steps, good, FIRST_NIGHT, "test", "come back by steps")
    run(workspace, steps, NEXT, NEXT + timedelta(days=4))
    assert review_rollout(workspace, steps, NEXT + timedelta(days=4), "review").action == "grown"
    with workspace.engine.connect() as connection:
        running = running_rollout(connection, "visits")
    assert running is not None
    assert (running.percent, running.step_from) == (50.0, NEXT + timedelta(days=5))
    run(workspace, steps, NEXT + timedelta(days=5), LATER)
    assert review_rollout(workspace, steps, LATER, "review").action == "promoted"
    assert aliases(workspace) == {"champion": good.version, "previous": other.version}


def test_a_step_that_somebody_else_took_is_not_taken_twice(shop: Versions) -> None:
    workspace, pipeline, _, other = shop
    canary = rolled(pipeline, kind="canary")
    opened = open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    grow(workspace, opened, 25.0, NEXT, "one", "first", {})
    with pytest.raises(PromotionRefused, match="it stands at 25 %"):
        grow(workspace, opened, 25.0, NEXT, "another", "second", {})


def test_a_promotion_by_hand_ends_the_rollout_in_the_same_move(shop: Versions) -> None:
    workspace, pipeline, _, other = shop
    canary = rolled(pipeline, kind="canary")
    open_rollout(workspace, canary, other, FIRST_NIGHT, "test", "try it")
    promote(workspace, canary, other, "test", "sure of it", despite_gate=True)
    assert aliases(workspace) == {"champion": 2, "previous": 1}
    run(workspace, canary, NEXT, NEXT)
    assert set(predictions(workspace, NEXT)["arm"]) == {"champion"}


def test_a_retreat_brings_the_rows_of_the_publication_before_back(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    before = rows_of(workspace, FIRST_NIGHT)
    promote(workspace, pipeline, other, "test", "a mistake", despite_gate=True)
    finish(workspace, pipeline, [FIRST_NIGHT], "republished")
    assert rows_of(workspace, FIRST_NIGHT) != before
    done = retreat(workspace, pipeline, "test", "the mistake is seen")
    assert (done.champion.version, done.taken_back, done.night) == (good.version, other.version, FIRST_NIGHT)
    assert rows_of(workspace, FIRST_NIGHT) == before
    with pytest.raises(AliasMissing):
        retreat(workspace, pipeline, "test", "once more")
    assert rows_of(workspace, FIRST_NIGHT) == before


def test_a_retreat_scores_a_night_that_the_good_version_never_scored(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    promote(workspace, pipeline, other, "test", "a mistake", despite_gate=True)
    run(workspace, pipeline, NEXT, NEXT)
    done = retreat(workspace, pipeline, "test", "the mistake is seen")
    assert (done.night, done.blocked) == (NEXT, ())
    assert set(predictions(workspace, NEXT)["model_version"]) == {good.version}
    assert {row[-3] for row in rows_of(workspace, NEXT)} == {good.version}


def test_a_new_champion_that_is_credibly_worse_is_taken_back_by_itself(shop: Versions) -> None:
    workspace, pipeline, good, other = shop
    direct = rolled(pipeline, kind="direct")
    promote(workspace, direct, other, "test", "a mistake", despite_gate=True, as_of=NEXT)
    run(workspace, direct, NEXT, LATER)
    review = review_rollout(workspace, direct, LATER, "review")
    assert (review.action, review.subject) == ("taken_back", other.name)
    assert aliases(workspace) == {"champion": good.version}
    assert set(predictions(workspace, LATER)["model_version"]) == {good.version}
    assert review_rollout(workspace, direct, LATER, "review").action == "none"
    title = "Nightscore: visits@2 taken back"
    assert told(workspace) == [(other.name, f"watch taken back {LATER}", title, review.reason)]


def swap_columns(text: bytes) -> bytes:
    return text.replace(b"feature_names=age city", b"feature_names=city age")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text[:900] + bytes([text[900] ^ 1]) + text[901:],
        lambda text: text.replace(b"leaf_value=", b"leaf_value=9", 1),
        swap_columns,
    ],
    ids=["truncated", "a bit flipped", "a digit changed", "columns swapped"],
)
def test_a_damaged_model_file_is_named_and_nothing_is_published(
    shop: Versions, damage: Callable[[bytes], bytes]
) -> None:
    workspace, pipeline, good, other = shop
    for version in (good, other):
        path = workspace.settings.home_path / "capsules" / version.manifest_sha256 / "model.txt"
        damaged = damage(path.read_bytes())
        assert damaged != path.read_bytes()
        path.write_bytes(damaged)
    prepare(workspace, pipeline, [NEXT], "nights")
    with pytest.raises(CapsuleRejected, match=r"model\.txt has"):
        finish(workspace, pipeline, [NEXT], "nights")
    with pytest.raises(CapsuleRejected, match=r"model\.txt has"):
        promote(workspace, pipeline, other, "test", "try", despite_gate=True)
    assert rows_of(workspace, NEXT) == []
    assert aliases(workspace) == {"champion": good.version}
