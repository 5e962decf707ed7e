"""Drills of a real shop: what is made again, what is left out, and one alert a break."""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from nightscore.catalog.postgres import Server
from nightscore.catalog.reproductions import list_reproductions
from nightscore.lake.workspace import Workspace
from nightscore.publishing.revisions import choose_publication
from nightscore.reproduction.drill import DrillResult, run_drill
from tests.alert_receiver import Receiver, receiving
from tests.integration.night_chain import Begun, copied_shop, run_night, visits_of_shop
from tests.shop import FIRST_NIGHT, visits_of, write_day

# Apprise's plugins import it, not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
BUDGET_SECONDS = 600.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture(scope="module")
def scored(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A version, and a night that a late correction has published twice."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("drilled")) as workspace:
        pipeline = visits_of_shop(workspace)
        late = FIRST_NIGHT.replace(day=FIRST_NIGHT.day - 1)
        write_day(workspace.settings.root, late, visits_of(late).with_columns(pl.col("age") + 20))
        run_night(workspace, pipeline, FIRST_NIGHT, "late correction")
        yield workspace


@pytest.fixture
def workspace(scored: Workspace, receiver: Receiver) -> Iterator[Workspace]:
    """The scored shop with nothing drilled yet, telling the receiver."""
    told = scored.settings.model_copy(update={"alert_urls": SecretStr(receiver.url)})
    yield replace(scored, settings=told)
    with scored.engine.begin() as connection:
        connection.execute(sa.text("delete from nightscore.reproduction"))
        connection.execute(sa.text("delete from nightscore.alert"))


def drill(workspace: Workspace, seed: str = "a", budget_seconds: float = BUDGET_SECONDS) -> DrillResult:
    return run_drill(workspace, "visits", seed, budget_seconds, "run")


def outcomes(result: DrillResult) -> list[tuple[str, str, str | None]]:
    return [(one.kind, one.outcome, one.level) for one in result.attempts]


def add_to_scores(workspace: Workspace, by: int) -> None:
    with workspace.engine.begin() as connection:
        change = sa.text("update mart.visits set score = score + :by where customer_id = 7")
        connection.execute(change, {"by": by})


def test_drills_make_every_revision_and_the_version_again(workspace: Workspace, receiver: Receiver) -> None:
    first, second = drill(workspace), drill(workspace)
    equal = [("night", "reproduced", "identical"), ("model", "reproduced", "identical")]
    assert (outcomes(first), outcomes(second)) == (equal, equal)
    assert (first.streak, second.streak, first.skipped, first.passed) == (2, 4, (), True)
    receipts = {result.attempts[0].receipt_id for result in (first, second)}
    assert (len(receipts), choose_publication(workspace, "visits", FIRST_NIGHT).receipt_id in receipts) == (2, True)
    with workspace.engine.connect() as connection:
        kept = list_reproductions(connection, "visits", "drill")
    assert [(one.asked_by, one.run_id) for one in kept] == [("drill", "run")] * 4
    assert receiver.taken == []


def test_what_does_not_fit_into_the_budget_is_left_out_with_the_reason(workspace: Workspace) -> None:
    first = drill(workspace, budget_seconds=0.1)
    assert ([one.kind for one in first.attempts], first.skipped) == (
        ["night"], ("nothing of the budget is left for a model",)
    )  # fmt: skip
    second = drill(workspace, budget_seconds=0.1)
    assert ([one.kind for one in second.attempts], len(second.skipped)) == (["model"], 1)
    third = drill(workspace, budget_seconds=0.1)
    assert (third.attempts, third.passed, third.is_empty, third.streak) == ((), False, False, 2)
    for kind, reason in zip(("night", "model"), third.skipped, strict=True):
        assert reason.startswith(f"a {kind} takes up to ")
        assert reason.endswith(" s, and 0.1 s of the budget are left")


def test_a_break_is_told_once_until_it_is_another_one(workspace: Workspace, receiver: Receiver) -> None:
    add_to_scores(workspace, 1)
    broken = 1
    try:
        results = [drill(workspace) for _ in range(3)]
        assert [one.attempts[0].outcome for one in results] == ["not equal"] * 3
        assert (results[0].passed, results[0].streak) == (False, 1)
        # Two revisions broke, each is told once; the third drill meets the first of them again.
        assert len({title for title, _ in receiver.taken}) == len(receiver.taken) == 2
        _tells_all(workspace, results[0], receiver.taken[0])
        add_to_scores(workspace, 1)
        broken += 1
        assert drill(workspace).passed is False
        assert len(receiver.taken) == 3
    finally:
        add_to_scores(workspace, -broken)
    repaired = drill(workspace)
    assert (outcomes(repaired)[0][1], repaired.streak, len(receiver.taken)) == ("reproduced", 3, 3)
    # The other revision is whole again too, but stands as broken until a drill has seen it.
    assert (len(repaired.standing), repaired.passed) == (1, False)
    again = drill(workspace)
    assert (again.standing, again.passed, again.streak) == ((), True, 5)


def _tells_all(workspace: Workspace, result: DrillResult, told: tuple[str, str]) -> None:
    title, body = told
    made = result.attempts[0]
    with workspace.engine.connect() as connection:
        query = "select publication_id from nightscore.publication where receipt_id = :receipt"
        publication = connection.scalar(sa.text(query), {"receipt": made.receipt_id})
    assert title == f"visits@1 2024-03-09, publication {publication} was made again, but not equal"
    command = f"nightscore reproduce visits --night 2024-03-09 --publication {publication}"
    assert body == f"First difference: {made.first_difference}\nRun it by hand: {command}"


def test_a_lost_object_is_a_result_and_is_told(workspace: Workspace, receiver: Receiver) -> None:
    with workspace.engine.connect() as connection:
        snapshot = connection.scalar(sa.text("select snapshot_md5 from nightscore.model_version"))
    store = workspace.lake.store
    path = store.path(store.read_directory(str(snapshot))["training_set.parquet"])
    aside = path.rename(path.with_name("aside"))
    try:
        first, second = drill(workspace), drill(workspace)
    finally:
        aside.rename(path)
    assert outcomes(first)[1] == outcomes(second)[1] == ("model", "cannot", None)
    assert (first.streak, second.streak) == (0, 0)
    ((title, body),) = receiver.taken
    assert title == "visits@1 cannot be made again"
    assert "training_set.parquet: object" in body
    assert body.endswith("Run it by hand: nightscore reproduce visits@1")


def test_a_service_that_does_not_answer_ends_no_drill(workspace: Workspace) -> None:
    add_to_scores(workspace, 1)
    deaf = replace(
        workspace, settings=workspace.settings.model_copy(update={"alert_urls": SecretStr("json://127.0.0.1:1")})
    )
    try:
        assert [one.kind for one in drill(deaf).attempts] == ["night", "model"]
    finally:
        add_to_scores(workspace, -1)


def test_there_is_nothing_to_drill_before_the_first_night(workspace: Workspace) -> None:
    result = run_drill(workspace, "elsewhere", "a", BUDGET_SECONDS)
    assert result == DrillResult(
        "elsewhere", "a", (), ("no night is published yet", "no model version is registered yet"), 0, (), is_empty=True
    )
    assert not result.passed
