"""What a training set leaves out: nights that the watch held back, until somebody calls them normal."""

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest

from nightscore.catalog.postgres import Server
from nightscore.catalog.watch import append_watch_event
from nightscore.errors import NotEnoughData
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from nightscore.training.training_set import HELD_BACK, TrainingSet, make_training_set, training_window
from nightscore.watch.state import Excluded, MonitorState
from tests.integration.night_chain import Begun, copied_shop, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

BAD, OLD = date(2024, 3, 5), date(2024, 2, 1)


@pytest.fixture(scope="module")
def workspace(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with copied_shop(server, begun, tmp_path_factory.mktemp("training")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(workspace: Workspace) -> Pipeline:
    return visits_of_shop(workspace)


def made_without(workspace: Workspace, pipeline: Pipeline, *nights: date) -> TrainingSet:
    """The training set of the first night, after the watch has held back `nights`."""
    excluded = tuple(Excluded(night=night, causes=("nulls:age",)) for night in nights)
    state = MonitorState(pipeline="visits", night=FIRST_NIGHT, excluded=excluded).model_dump(mode="json")
    with workspace.engine.begin() as connection:
        append_watch_event(connection, "visits", "night", FIRST_NIGHT, {}, state, "watch", workspace.clock.now())
    return make_training_set(workspace, pipeline, FIRST_NIGHT, "training")


def test_a_night_that_was_held_back_teaches_nothing_until_it_is_normal(
    workspace: Workspace, pipeline: Pipeline
) -> None:
    whole = make_training_set(workspace, pipeline, FIRST_NIGHT, "training")
    without = made_without(workspace, pipeline, OLD, BAD)
    assert without.frame.equals(whole.frame.filter(pl.col("score_date") != BAD))
    assert (without.left_out, whole.left_out) == ({BAD: HELD_BACK}, {})
    assert (without.account.rows_in, whole.account.rows_in) == (6 * CUSTOMERS, 7 * CUSTOMERS)
    assert [one.score_date for one in without.features] == [
        night for night in training_window(pipeline, FIRST_NIGHT) if night != BAD
    ]
    again = made_without(workspace, pipeline)
    assert (again.stored, again.left_out, again.account) == (whole.stored, {}, whole.account)


def test_without_a_night_that_may_teach_there_is_no_training_set(workspace: Workspace, pipeline: Pipeline) -> None:
    with pytest.raises(NotEnoughData, match="held back"):
        made_without(workspace, pipeline, *training_window(pipeline, FIRST_NIGHT))
