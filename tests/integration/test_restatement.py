"""Late data: corrections are read again, and what they mean to published nights is decided once, by the spec."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.changesets import list_changesets
from nightscore.catalog.decisions import Decision, list_decisions
from nightscore.catalog.postgres import Server
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.workspace import Workspace
from nightscore.publishing.backfill import AS_PUBLISHED, open_changeset, plan_backfill
from nightscore.publishing.changesets import approve, discard, require_changeset, undo
from nightscore.publishing.effect import count_moved
from nightscore.publishing.restatement import find_affected, restate, spread
from nightscore.publishing.revisions import choose_publication
from nightscore.quality.clean import clean_source
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.trace import trace_row
from nightscore.scoring.staging import stage_predictions
from nightscore.sources.ingest import ingest_source
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from tests.integration.night_chain import bootstrap, finish, fresh_database, opened_shop, prepare, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT, visits_of, write_day

pytestmark = pytest.mark.timeout(180)

DAYS = 16
PUBLISHED = nights_between(FIRST_NIGHT, date(2024, 3, 16))
TONIGHT = date(2024, 3, 17)
CORRECTED = [date(2024, 3, day) for day in (10, 11, 12)]
AFFECTED = [date(2024, 3, day) for day in range(10, 16)]
"""Nights that read a corrected one: the lookback is three nights, so 9 and 16 do not."""
KNOWN_AFTER = timedelta(days=1)
MOVES, HARDLY_MOVES = range(1, CUSTOMERS + 1), [7]


@pytest.fixture(scope="module")
def prepared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Database and folder of a shop whose visits may be corrected for a week, with eight nights published."""
    folder = tmp_path_factory.mktemp("late")
    with fresh_database(server) as name:
        with opened_shop(server, name, folder, DAYS) as workspace:
            pipeline = edited(workspace, "")
            bootstrap(workspace, pipeline)
            prepare(workspace, pipeline, PUBLISHED, "nights")
            finish(workspace, pipeline, PUBLISHED, "nights")
        yield name, folder


@pytest.fixture
def late(server: Server, prepared: tuple[str, Path], tmp_path: Path) -> Iterator[Workspace]:
    """A copy of that shop, for one test to change."""
    template, folder = prepared
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with fresh_database(server, template) as name, opened_shop(server, name, tmp_path, DAYS) as workspace:
        yield workspace


def edited(workspace: Workspace, policy: str) -> Pipeline:
    """The shop's pipeline with late days, and `policy` as its restatement section."""
    path = workspace.settings.pipelines_path / "visits.yaml"
    text = path.read_text()
    if "late_days" not in text:
        text = text.replace("known_after_days: 1", "known_after_days: 1\n    late_days: 7")
    kept = [line for line in text.splitlines() if not line.startswith("restatement")]
    path.write_text("\n".join([*kept, f"restatement: {{ {policy} }}", ""]))
    return visits_of_shop(workspace)


def correct(workspace: Workspace, nights: Sequence[date], customers: Sequence[int] = MOVES, by: int = 30) -> None:
    """Deliver the files that `nights` know anew: these customers are of another age."""
    for night in nights:
        day = visits_of(night - KNOWN_AFTER)
        other = 15 + (pl.col("age") - 15 + by) % 60
        corrected = pl.when(pl.col("customer_id").is_in(list(customers))).then(other).otherwise(pl.col("age"))
        write_day(workspace.settings.root, night - KNOWN_AFTER, day.with_columns(corrected.alias("age")))


def run_tonight(workspace: Workspace, pipeline: Pipeline) -> list[NightOutcome]:
    return [
        *prepare(workspace, pipeline, [TONIGHT], "tonight"), *finish(workspace, pipeline, [TONIGHT], "tonight"),
    ]  # fmt: skip


def readers_see(workspace: Workspace) -> dict[date, tuple[int, str]]:
    """Night → (publication, scores as text), every night whole."""
    query = (
        "select score_date, publication_id, count(*) as rows, "
        "string_agg(score::text, ' ' order by customer_id) as said from bi.visits_current group by 1, 2"
    )
    with workspace.engine.connect() as connection:
        rows = connection.execute(sa.text(query)).all()
    assert {row.rows for row in rows} <= {CUSTOMERS}
    return {row.score_date: (row.publication_id, row.said) for row in rows}


def ledger(workspace: Workspace) -> list[Decision]:
    with workspace.engine.connect() as connection:
        return list_decisions(connection, "visits")


def changesets(workspace: Workspace) -> list[str]:
    with workspace.engine.connect() as connection:
        return [f"{one.kind} {one.status}" for one in list_changesets(connection)]


def statuses(workspace: Workspace, nights: Sequence[date]) -> list[str]:
    query = sa.text("select status from bi.partition_status where score_date = any(:nights) order by score_date")
    with workspace.engine.connect() as connection:
        return list(connection.scalars(query, {"nights": list(nights)}))


def count(workspace: Workspace, table: str) -> int:
    with workspace.engine.connect() as connection:
        return int(connection.scalar(sa.text(f"select count(*) from nightscore.{table}")) or 0)


def test_reading_again_what_is_unchanged_makes_nothing(late: Workspace) -> None:
    pipeline = edited(late, "")
    run_tonight(late, pipeline)
    before = [count(late, table) for table in ("partition_version", "partition_event", "gate_result", "row_account")]
    read = ingest_source(late, pipeline, "visits", [TONIGHT], "again")
    judged = clean_source(late, pipeline, "visits", [TONIGHT], "again")
    assert [(one.night, one.result) for one in (*read, *judged)] == [(TONIGHT, "reused")] * 2
    after = [count(late, table) for table in ("partition_version", "partition_event", "gate_result", "row_account")]
    assert after == before
    outcome = restate(late, pipeline, "again", "test")
    assert (outcome.verdict, outcome.nights, ledger(late), changesets(late)) == ("unaffected", (), [], [])


def test_a_late_file_of_three_days_names_exactly_the_nights_that_read_them(late: Workspace) -> None:
    pipeline = edited(late, "")
    correct(late, CORRECTED)
    seen = readers_see(late)
    outcomes = run_tonight(late, pipeline)
    made = {(one.dataset, one.night) for one in outcomes if one.result == "made" and ".clean." in one.dataset}
    assert made == {("visits.clean.visits", night) for night in (*CORRECTED, TONIGHT)}
    affected = find_affected(late, pipeline)
    assert {night: [one.score_date for one in inputs] for night, inputs in affected.items()} == {
        night: [one for one in CORRECTED if night - timedelta(days=3) <= one <= night] for night in AFFECTED
    }
    assert {night: one for night, one in readers_see(late).items() if night != TONIGHT} == seen


def test_a_correction_that_is_taken_back_affects_nothing(late: Workspace) -> None:
    pipeline = edited(late, "")
    correct(late, CORRECTED)
    prepare(late, pipeline, [TONIGHT], "wrong")
    correct(late, CORRECTED, by=0)
    prepare(late, pipeline, [TONIGHT], "right again")
    assert find_affected(late, pipeline) == {}


def test_what_hardly_moves_is_ignored_and_what_was_staged_is_dropped(late: Workspace) -> None:
    pipeline = edited(late, "tolerance: 0.1, min_shift: 100.0")
    correct(late, CORRECTED, HARDLY_MOVES)
    run_tonight(late, pipeline)
    seen = readers_see(late)
    outcome = restate(late, pipeline, "tonight", "test")
    assert (outcome.verdict, outcome.nights, outcome.changeset_id) == ("ignored", tuple(AFFECTED), None)
    assert (readers_see(late), changesets(late)) == (seen, ["restatement discarded"])
    (decision,) = ledger(late)
    assert (decision.verdict, decision.subject) == ("ignored", "6 nights, 2024-03-10 to 2024-03-15")
    assert decision.evidence["sample"]["nights"] == ["2024-03-10", "2024-03-12", "2024-03-15"]
    assert decision.evidence["sample"]["rows"] == 3 * CUSTOMERS
    assert [one["night"] for one in decision.evidence["inputs"]] == [str(night) for night in CORRECTED]
    assert sorted(decision.evidence["affected"]) == [str(night) for night in AFFECTED]


def test_beyond_the_budget_a_person_is_asked_once_with_the_command(late: Workspace) -> None:
    pipeline = edited(late, "budget_nights: 5")
    correct(late, CORRECTED)
    run_tonight(late, pipeline)
    seen = readers_see(late)
    outcome = restate(late, pipeline, "tonight", "test")
    (decision,) = ledger(late)
    assert (outcome.verdict, decision.verdict) == ("asked", "asked")
    assert decision.reason.endswith("6 nights are more than the budget of 5")
    assert decision.evidence["command"] == (
        "nightscore backfill visits --from 2024-03-10 --to 2024-03-15 --model as-published --only all "
        '--reason "late data"'
    )
    assert decision.evidence["sample"]["moved"] > 0
    assert (readers_see(late), changesets(late)) == (seen, ["restatement discarded"])
    assert restate(late, pipeline, "tomorrow", "test").verdict == "decided"
    assert ledger(late) == [decision]
    correct(late, CORRECTED[:1], by=15)
    prepare(late, pipeline, [TONIGHT], "corrected again")
    again = restate(late, pipeline, "corrected again", "test")
    assert again.nights == tuple(AFFECTED[:4])


def test_a_restatement_waits_for_a_person_and_stays_as_they_decided(late: Workspace) -> None:
    pipeline = edited(late, "")
    correct(late, CORRECTED)
    run_tonight(late, pipeline)
    seen = readers_see(late)
    outcome = restate(late, pipeline, "tonight", "test")
    assert (outcome.verdict, readers_see(late)) == ("asked", seen)
    opened = require_changeset(late, outcome.changeset_id or 0)
    assert (opened.kind, opened.status, opened.model_policy) == ("restatement", "staged", "as-published")
    assert restate(late, pipeline, "tomorrow", "test").verdict == "decided"
    approve(late, opened.changeset_id, "ann", "right")
    assert not find_affected(late, pipeline).keys() & set(CORRECTED)
    assert restate(late, pipeline, "approved", "test").verdict == "decided"
    undo(late, opened.changeset_id, "ann", "wrong after all")
    assert restate(late, pipeline, "undone", "test").verdict == "decided"
    assert (readers_see(late), len(ledger(late))) == (seen, 1)


def test_by_the_spec_readers_see_it_at_once_whole_and_traceable(late: Workspace) -> None:
    pipeline = edited(late, "approve: auto")
    correct(late, CORRECTED)
    run_tonight(late, pipeline)
    seen = readers_see(late)
    outcome = restate(late, pipeline, "tonight", "test")
    after = readers_see(late)
    assert outcome.verdict == "restated"
    assert {night for night in after if after[night] != seen[night]} >= set(CORRECTED)
    assert {night for night in after if after[night] != seen[night]} <= set(AFFECTED)
    assert changesets(late) == ["restatement approved"]
    assert statuses(late, CORRECTED) == ["restated"] * 3
    publication = choose_publication(late, "visits", CORRECTED[1])
    assert reproduce_night(late, publication, "test").level == "identical"
    trace = trace_row(late, publication, ["customer_id=7"], "test")
    assert trace is not None
    (decision,) = ledger(late)
    assert (decision.verdict, decision.evidence["changeset"]) == ("restated", outcome.changeset_id)


def test_a_bad_late_file_leaves_everything_as_it_was_and_says_so(late: Workspace) -> None:
    pipeline, bad, broken, gone = edited(late, "approve: auto"), *CORRECTED
    root = late.settings.root
    write_day(root, bad - KNOWN_AFTER, visits_of(bad - KNOWN_AFTER).head(5))
    write_day(root, broken - KNOWN_AFTER, visits_of(broken - KNOWN_AFTER).drop("spend"))
    (root / "data" / f"visits-{gone - KNOWN_AFTER}.csv").unlink()
    seen = readers_see(late)
    clean = late.lake.current("visits.clean.visits", PUBLISHED[0], PUBLISHED[-1])
    outcomes = run_tonight(late, pipeline)
    assert [(one.dataset, one.night) for one in outcomes if one.result == "blocked"] == [
        ("visits.source.visits", broken), ("visits.clean.visits", bad),
    ]  # fmt: skip
    assert late.lake.current("visits.clean.visits", PUBLISHED[0], PUBLISHED[-1]) == clean
    assert restate(late, pipeline, "tonight", "test").verdict == "unaffected"
    assert {night: one for night, one in readers_see(late).items() if night != TONIGHT} == seen
    assert statuses(late, CORRECTED) == ["gated", "gated", "provisional"]
    correct(late, CORRECTED, by=0)
    prepare(late, pipeline, [TONIGHT], "repaired")
    assert statuses(late, CORRECTED) == ["fresh", "provisional", "provisional"]


def test_features_that_a_gate_blocks_are_asked_about(late: Workspace) -> None:
    pipeline = edited(late, "approve: auto")
    correct(late, CORRECTED)
    run_tonight(late, pipeline)
    seen = readers_see(late)
    expectation = "  expectations: [{ type: between, column: visits_3d, max: 2 }]\n  lookback_days: 3"
    path = late.settings.pipelines_path / "visits.yaml"
    path.write_text(path.read_text().replace("  lookback_days: 3", expectation))
    outcome = restate(late, visits_of_shop(late), "tonight", "test")
    assert (outcome.verdict, readers_see(late), changesets(late)) == ("asked", seen, [])
    (decision,) = ledger(late)
    assert decision.reason.startswith("features are held back: visits.features 2024-03-1")
    assert str(decision.evidence["command"]).startswith("nightscore backfill visits --from 2024-03-10")


def test_what_a_killed_run_or_an_older_correction_left_is_given_up(late: Workspace) -> None:
    pipeline = edited(late, "")
    correct(late, CORRECTED)
    run_tonight(late, pipeline)
    plan = plan_backfill(late, pipeline, AFFECTED, AS_PUBLISHED, "predictions")
    killed = open_changeset(late, plan, "killed", "test", "restatement").changeset_id
    stage_predictions(late, pipeline, killed, AFFECTED[:2], "killed")
    first = restate(late, pipeline, "tonight", "test")
    correct(late, CORRECTED, by=45)
    prepare(late, pipeline, [TONIGHT], "corrected again")
    second = restate(late, pipeline, "corrected again", "test")
    assert changesets(late) == ["restatement staged", "restatement discarded", "restatement discarded"]
    assert [first.nights, second.nights] == [tuple(AFFECTED), tuple(AFFECTED)]
    discard(late, second.changeset_id or 0, "ann", "no")
    assert restate(late, pipeline, "tomorrow", "test").verdict == "decided"


def test_nights_are_provisional_until_their_sources_are_settled(late: Workspace) -> None:
    assert statuses(late, PUBLISHED) == ["fresh"] + ["provisional"] * 7


@pytest.mark.parametrize(
    ("nights", "count", "expected"),
    [(6, 3, [0, 2, 5]), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (7, 1, [3]), (100, 4, [0, 33, 66, 99])],
)
def test_a_sample_is_spread_from_the_first_to_the_last(nights: int, count: int, expected: list[int]) -> None:
    given = nights_between(FIRST_NIGHT, FIRST_NIGHT + timedelta(days=nights - 1))
    assert spread(given, count) == [given[at] for at in expected]


def test_a_row_moves_by_its_decision_its_score_or_its_being_there() -> None:
    def rows(*said: tuple[int, float | None, bool]) -> pl.DataFrame:
        return pl.DataFrame(said, schema={"id": pl.Int64, "score": pl.Float64, "decision": pl.Boolean}, orient="row")

    before = rows((1, 1.0, True), (2, 1.0, True), (3, 1.0, False), (4, 1.0, True), (5, None, False), (7, None, True))
    after = rows((7, 2.0, True), (1, 1.0, True), (2, 1.25, True), (3, 1.5, False), (5, None, False), (6, 1.0, False))
    assert count_moved(before, after, ["id"], 0.25) == (4, 7)
    assert count_moved(before, after, ["id"], 0.0) == (5, 7)
    assert count_moved(before, before, ["id"], 0.0) == (0, 6)


def test_a_snapshot_has_no_late_days(late: Workspace) -> None:
    path = late.settings.pipelines_path / "visits.yaml"
    edited(late, "")
    path.write_text(path.read_text().replace("known_after_days: 1", "cadence: snapshot\n    known_after_days: 1"))
    with pytest.raises(Exception, match=r"sources\.visits\.late_days: found 7, expected 0; a snapshot") as caught:
        visits_of_shop(late)
    assert type(caught.value).__name__ == "SpecError"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("tolerance: 2", "restatement.tolerance"), ("min_shift: -1", "restatement.min_shift"),
        ("sample_nights: 0", "restatement.sample_nights"), ("approve: nobody", "restatement.approve"),
    ],
)  # fmt: skip
def test_a_policy_that_is_none_is_refused(late: Workspace, policy: str, expected: str) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        edited(late, policy)
    assert type(caught.value).__name__ == "SpecError"
    found: Any = caught.value
    assert len(found.found) == 1
