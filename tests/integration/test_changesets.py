"""Changesets: staged out of sight, compared, approved as one, undone as one, and refused when history moved."""

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nightscore.catalog.changesets import Changeset, events_of, items_of
from nightscore.catalog.models import move_alias
from nightscore.catalog.nights import night_status
from nightscore.catalog.postgres import Server
from nightscore.errors import AliasMissing, ChangesetMissing, ChangesetRefused, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.publishing.backfill import open_changeset, plan_backfill, unfinished_nights
from nightscore.publishing.changesets import approve, discard, require_changeset, undo
from nightscore.publishing.publish import publish_nights
from nightscore.publishing.revisions import choose_publication
from nightscore.publishing.staging import stage_publications
from nightscore.registry.register import train_version
from nightscore.reproduction.nights import reproduce_night
from nightscore.scoring.night import score_nights
from nightscore.scoring.staging import stage_predictions
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from tests.integration.night_chain import Begun, finish, fresh_database, opened_shop, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

NIGHTS = nights_between(FIRST_NIGHT, FIRST_NIGHT + timedelta(days=3))
PUBLISHED, NEW = NIGHTS[:3], NIGHTS[3:]


@pytest.fixture(scope="module")
def prepared(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Database and folder of a shop: three nights by version 1, features of a fourth, and a version 2."""
    folder = tmp_path_factory.mktemp("changes")
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name:
        with opened_shop(server, name, folder) as workspace:
            pipeline = visits_of_shop(workspace)
            prepare(workspace, pipeline, NIGHTS, "nights")
            finish(workspace, pipeline, PUBLISHED, "nights")
            train_version(workspace, pipeline, NIGHTS[2], "two nights later", "second")
        yield name, folder


@pytest.fixture
def shop_once(server: Server, prepared: tuple[str, Path], tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the prepared shop, for one test to change."""
    template, folder = prepared
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with fresh_database(server, template) as name, opened_shop(server, name, tmp_path) as workspace:
        yield workspace


@pytest.fixture
def pipeline(shop_once: Workspace) -> Pipeline:
    return visits_of_shop(shop_once)


def staged(workspace: Workspace, pipeline: Pipeline, nights: list[date], policy: str) -> Changeset:
    plan = plan_backfill(workspace, pipeline, nights, policy, "predictions")
    opened = open_changeset(workspace, plan, "because", "ann")
    stage_predictions(workspace, pipeline, opened.changeset_id, nights, "backfill")
    stage_publications(workspace, pipeline, opened.changeset_id, nights, "backfill")
    return require_changeset(workspace, opened.changeset_id)


def readers_see(workspace: Workspace) -> dict[date, tuple[int, int]]:
    """Night → (publication, model version), as the view gives them, every night whole."""
    query = "select score_date, publication_id, model_version, count(*) as rows from bi.visits_current group by 1, 2, 3"
    with workspace.engine.connect() as connection:
        rows = connection.execute(sa.text(query)).all()
    assert {row.rows for row in rows} <= {CUSTOMERS}
    return {row.score_date: (row.publication_id, row.model_version) for row in rows}


def outcomes(workspace: Workspace, opened: Changeset) -> list[tuple[str, int]]:
    with workspace.engine.connect() as connection:
        return [(one.outcome, one.model_version) for one in items_of(connection, opened.changeset_id)]


def test_what_is_staged_is_read_by_nobody_until_it_is_approved_and_no_more_when_undone(
    shop_once: Workspace, pipeline: Pipeline
) -> None:
    before = readers_see(shop_once)
    opened = staged(shop_once, pipeline, NIGHTS, "2")
    assert (opened.status, outcomes(shop_once, opened)) == ("staged", [("staged", 2)] * 4)
    assert readers_see(shop_once) == before
    assert approve(shop_once, opened.changeset_id, "bob", "looks right") == NIGHTS
    after = readers_see(shop_once)
    assert ({night: version for night, (_, version) in after.items()}) == dict.fromkeys(NIGHTS, 2)
    assert undo(shop_once, opened.changeset_id, "bob", "it was not") == NIGHTS
    assert readers_see(shop_once) == before
    with shop_once.engine.connect() as connection:
        history = [(one["event"], one["actor"], one["reason"]) for one in events_of(connection, opened.changeset_id)]
        status = night_status(connection, "visits", NEW[0])
    assert history == [
        ("created", "ann", "because"), ("staged", "nightscore", "every night is done"),
        ("approved", "bob", "looks right"), ("undone", "bob", "it was not"),
    ]  # fmt: skip
    assert status is not None
    assert status.status == "prepared"


def test_an_approved_night_that_is_run_again_stays_as_approved(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = staged(shop_once, pipeline, PUBLISHED, "2")
    approve(shop_once, opened.changeset_id, "bob", "looks right")
    approved = readers_see(shop_once)
    publish_nights(shop_once, pipeline, PUBLISHED, "again", "nightly")
    assert readers_see(shop_once) == approved


def test_an_approved_night_is_reproduced_to_the_byte(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = staged(shop_once, pipeline, [NIGHTS[0]], "2")
    approve(shop_once, opened.changeset_id, "bob", "looks right")
    made = reproduce_night(shop_once, choose_publication(shop_once, "visits", NIGHTS[0]), "test")
    assert (made.outcome, made.level, made.version) == ("reproduced", "identical", 2)


def test_as_published_gives_the_very_same_nights(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = staged(shop_once, pipeline, NIGHTS, "as-published")
    assert outcomes(shop_once, opened) == [*[("identical", 1)] * 3, ("staged", 1)]
    before = readers_see(shop_once)
    assert approve(shop_once, opened.changeset_id, "bob", "nothing moves") == NEW
    assert {night: seen for night, seen in readers_see(shop_once).items() if night in before} == before


def test_the_difference_of_each_night_is_kept(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = staged(shop_once, pipeline, [NIGHTS[0], *NEW], "2")
    with shop_once.engine.connect() as connection:
        differences: list[Any] = [one.difference for one in items_of(connection, opened.changeset_id)]
    assert [(one["rows"]["before"], one["rows"]["after"]) for one in differences] == [
        (CUSTOMERS, CUSTOMERS), (0, CUSTOMERS),
    ]  # fmt: skip


def test_a_changeset_is_refused_when_a_night_has_moved_since(shop_once: Workspace, pipeline: Pipeline) -> None:
    first, second = (staged(shop_once, pipeline, PUBLISHED, "2") for _ in range(2))
    approve(shop_once, second.changeset_id, "bob", "the later one")
    seen = readers_see(shop_once)
    with pytest.raises(ChangesetRefused, match=rf"{PUBLISHED[0]}: readers see publication \d+, expected \d+"):
        approve(shop_once, first.changeset_id, "bob", "too late")
    third = staged(shop_once, pipeline, PUBLISHED, "1")
    approve(shop_once, third.changeset_id, "bob", "back to the first version")
    with pytest.raises(ChangesetRefused, match="readers see publication"):
        undo(shop_once, second.changeset_id, "bob", "a later one stands")
    assert readers_see(shop_once) != seen


def test_only_a_finished_changeset_can_be_approved(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = open_changeset(
        shop_once, plan_backfill(shop_once, pipeline, PUBLISHED, "2", "predictions"), "because", "ann"
    )
    stage_predictions(shop_once, pipeline, opened.changeset_id, PUBLISHED[:1], "backfill")
    with pytest.raises(ChangesetRefused, match=r"3 of its 3 nights are not done\nRemedy: finish it"):
        approve(shop_once, opened.changeset_id, "bob", "too early")
    with pytest.raises(ChangesetRefused, match="it is staging, not approved"):
        undo(shop_once, opened.changeset_id, "bob", "too early")
    with pytest.raises(ChangesetMissing, match="there is none with this number"):
        approve(shop_once, 99, "bob", "which one")


def test_finished_nights_are_not_computed_again(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = open_changeset(
        shop_once, plan_backfill(shop_once, pipeline, PUBLISHED, "2", "predictions"), "because", "ann"
    )
    stage_predictions(shop_once, pipeline, opened.changeset_id, PUBLISHED[:2], "killed")
    stage_publications(shop_once, pipeline, opened.changeset_id, PUBLISHED[:1], "killed")
    with shop_once.engine.connect() as connection:
        assert unfinished_nights(connection, opened.changeset_id) == PUBLISHED[1:]
    scored = stage_predictions(shop_once, pipeline, opened.changeset_id, PUBLISHED, "resumed")
    loaded = stage_publications(shop_once, pipeline, opened.changeset_id, PUBLISHED, "resumed")
    assert [one.result for one in scored] == ["reused", "reused", "made"]
    assert [one.result for one in loaded] == ["reused", "made", "made"]
    assert require_changeset(shop_once, opened.changeset_id).status == "staged"


def test_a_discarded_changeset_leaves_no_table_behind(shop_once: Workspace, pipeline: Pipeline) -> None:
    def tables() -> set[str]:
        query = sa.text("select tablename from pg_tables where schemaname = 'mart'")
        with shop_once.engine.connect() as connection:
            return set(connection.scalars(query))

    before, seen = tables(), readers_see(shop_once)
    opened = staged(shop_once, pipeline, NIGHTS, "2")
    assert len(tables() - before) == 4
    assert discard(shop_once, opened.changeset_id, "bob", "no") == 4
    assert (tables(), readers_see(shop_once)) == (before, seen)
    with pytest.raises(ChangesetRefused, match="it is discarded, not staged"):
        approve(shop_once, opened.changeset_id, "bob", "yes after all")


def test_a_plan_says_what_it_would_do_and_what_is_in_its_way(shop_once: Workspace, pipeline: Pipeline) -> None:
    standing = staged(shop_once, pipeline, PUBLISHED, "2")
    beyond = [*NIGHTS, NIGHTS[-1] + timedelta(days=1)]
    plan = plan_backfill(shop_once, pipeline, beyond, "as-published", "predictions")
    assert plan.versions == dict.fromkeys(beyond, 1)
    assert plan.to_prepare == (beyond[-1],)
    assert [night for night, base in plan.bases.items() if base is None] == beyond[3:]
    assert plan.conflicts == (f"{standing.title} is staged; of two, the one that is approved later stands",)
    assert plan.seconds is not None
    assert plan.seconds > 0


def test_every_night_is_scored_by_the_champion_it_had_then(shop_once: Workspace, pipeline: Pipeline) -> None:
    def crown(version: int) -> None:
        with shop_once.engine.begin() as connection:
            move_alias(connection, "visits", "champion", version, "ann", "better", shop_once.clock.now())

    crown(2)
    finish(shop_once, pipeline, NEW, "by the second")
    crown(1)
    opened = staged(shop_once, pipeline, NIGHTS, "as-published")
    assert outcomes(shop_once, opened) == [*[("identical", 1)] * 3, ("identical", 2)]
    assert approve(shop_once, opened.changeset_id, "bob", "nothing moves") == []


def test_a_version_whose_features_are_gone_is_refused(shop_once: Workspace, pipeline: Pipeline) -> None:
    kept = tuple(column for column in pipeline.features.columns if column.name != "visits_3d")
    narrow = pipeline.model_copy(update={"features": pipeline.features.model_copy(update={"columns": kept})})
    later = [NIGHTS[-1] + timedelta(days=1)]
    with pytest.raises(SpecError, match="visits@1 has learnt from visits_3d, which is gone"):
        plan_backfill(shop_once, narrow, later, "1", "predictions")
    assert plan_backfill(shop_once, pipeline, NIGHTS, "1", "predictions").rows == 4 * CUSTOMERS


def test_models_that_are_none_are_refused(shop_once: Workspace, pipeline: Pipeline) -> None:
    for policy, error, said in (
        ("best", SpecError, "write as-published, champion, challenger, or the number"),
        ("7", AliasMissing, "it is not registered; versions 1, 2 exist"),
        ("challenger", AliasMissing, "no version holds the alias challenger"),
    ):
        with pytest.raises(error, match=said):
            plan_backfill(shop_once, pipeline, PUBLISHED, policy, "predictions")


def test_a_nightly_run_between_plan_and_approval_is_never_lost(shop_once: Workspace, pipeline: Pipeline) -> None:
    opened = staged(shop_once, pipeline, NIGHTS, "2")
    score_nights(shop_once, pipeline, NEW, "nightly")
    publish_nights(shop_once, pipeline, NEW, "nightly", "nightly")
    seen = readers_see(shop_once)
    with pytest.raises(ChangesetRefused, match=f"{NEW[0]}: readers see publication"):
        approve(shop_once, opened.changeset_id, "bob", "unaware")
    assert readers_see(shop_once) == seen
