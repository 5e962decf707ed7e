"""Going back to earlier revisions: at once for readers, compared, and undone like every changeset."""

from collections.abc import Iterator

import pytest

from nightscore.catalog.changesets import items_of
from nightscore.catalog.postgres import Server
from nightscore.errors import ChangesetRefused, PublicationMissing
from nightscore.lake.workspace import Workspace
from nightscore.publishing.changesets import approve, discard, reopen, undo
from nightscore.publishing.revisions import choose_publication
from nightscore.publishing.rollback import earlier_revisions, open_rollback, revision_of
from nightscore.registry.register import train_version
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import Begun, copied_shop, prepare, visits_of_shop
from tests.integration.test_changesets import NIGHTS, readers_see, staged
from tests.shop import FIRST_NIGHT


@pytest.fixture(scope="module")
def restated(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The first night, published by version 1 and then, after review, by version 2."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("rollback")) as workspace:
        pipeline = visits_of_shop(workspace)
        prepare(workspace, pipeline, NIGHTS, "nights")
        train_version(workspace, pipeline, NIGHTS[2], "two nights later", "second")
        opened = staged(workspace, pipeline, [FIRST_NIGHT], "2")
        approve(workspace, opened.changeset_id, "ann", "better")
        yield workspace


@pytest.fixture
def pipeline(restated: Workspace) -> Pipeline:
    return visits_of_shop(restated)


def test_the_last_nights_go_one_revision_back_and_forth(restated: Workspace, pipeline: Pipeline) -> None:
    before = readers_see(restated)
    moves = earlier_revisions(restated, "visits", 1)
    opened = open_rollback(restated, pipeline, moves, "it was worse", "bob")
    assert readers_see(restated) == before
    assert approve(restated, opened.changeset_id, "bob", "it was worse") == [FIRST_NIGHT]
    assert readers_see(restated) == {FIRST_NIGHT: (moves[FIRST_NIGHT][1], 1)}
    with restated.engine.connect() as connection:
        (item,) = items_of(connection, opened.changeset_id)
    assert item.difference is not None
    assert item.difference["rows"]["changed"] > 0
    undo(restated, opened.changeset_id, "bob", "no, better after all")
    assert readers_see(restated) == before


def test_a_revision_is_named_by_its_publication(restated: Workspace, pipeline: Pipeline) -> None:
    now = choose_publication(restated, "visits", FIRST_NIGHT)
    (first,) = {then for _, then in earlier_revisions(restated, "visits", 1).values()}
    assert revision_of(restated, "visits", first) == {FIRST_NIGHT: (now.publication_id, first)}
    with pytest.raises(PublicationMissing, match="visits has none with this number"):
        revision_of(restated, "visits", 999)


def test_a_rollback_that_is_given_up_keeps_what_readers_have_seen(restated: Workspace, pipeline: Pipeline) -> None:
    before = readers_see(restated)
    opened = open_rollback(restated, pipeline, earlier_revisions(restated, "visits", 1), "perhaps", "bob")
    with pytest.raises(ChangesetRefused, match="it is a rollback"):
        reopen(restated, opened.changeset_id, "bob", "look again")
    assert discard(restated, opened.changeset_id, "bob", "no") == 0
    again = open_rollback(restated, pipeline, earlier_revisions(restated, "visits", 1), "after all", "bob")
    approve(restated, again.changeset_id, "bob", "after all")
    assert readers_see(restated)[FIRST_NIGHT][1] == 1
    undo(restated, again.changeset_id, "bob", "done testing")
    assert readers_see(restated) == before
