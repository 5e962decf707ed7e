"""`backfill` and `changes` as a person types them: planned, staged, killed, resumed, reviewed, decided, taken back."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import lock_night
from nightscore.errors import OutOfSpace
from nightscore.publishing.backfill import Plan
from nightscore.registry.register import train_version
from orchestration.cli.backfill_runs import chunks_of, require_room
from orchestration.cli.change_tables import version_runs
from orchestration.cli.night_runs import Session
from tests.integration.night_chain import Begun
from tests.orchestration.conftest import Done, call_here, run, shop_session
from tests.shop import CUSTOMERS, FIRST_NIGHT, visits_of, write_day

pytestmark = pytest.mark.timeout(300)

COMMAND = str(Path(sys.executable).parent / "nightscore")
NIGHTS = [FIRST_NIGHT + timedelta(days=days) for days in range(5)]
PUBLISHED, NEW = NIGHTS[:3], NIGHTS[3:]
RANGE = ("visits", "--from", str(NIGHTS[0]), "--to", str(NIGHTS[-1]))


@pytest.fixture(scope="module")
def shop(server: Server, trained: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Three nights published by version 1, two that were never made, and a version 2 trained for the third night."""
    with shop_session(server, tmp_path_factory.mktemp("backfill"), trained) as session:
        assert run(session, *PUBLISHED).message == ""
        train_version(session.workspace, session.pipeline, PUBLISHED[-1], "two nights later", "second")
        yield session


def start(*arguments: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [COMMAND, *arguments], env=os.environ, stdin=stdin, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True,
    )  # fmt: skip


def call(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Stdout and stderr of a command that ends with `code`."""
    return checked(call_here(*arguments), code)


def call_process(*arguments: str, code: int = 0) -> tuple[str, str]:
    """As `call`, by a process of its own."""
    process = start(*arguments)
    out, err = process.communicate(timeout=150)
    return checked(Done(process.returncode, out, err), code)


def checked(done: Done, code: int) -> tuple[str, str]:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def spoken(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json")[0])


def rows(session: Session, query: str, **values: object) -> list[tuple[Any, ...]]:
    with session.workspace.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query), values)]


def readers_see(session: Session) -> dict[date, tuple[int, int]]:
    """Night → (publication, version); every night whole."""
    query = "select score_date, publication_id, model_version, count(*) from bi.visits_current group by 1, 2, 3"
    found = rows(session, query)
    assert {count for *_, count in found} <= {CUSTOMERS}
    return {night: (publication, version) for night, publication, version, _ in found}


def versions_seen(session: Session) -> dict[date, int]:
    return {night: version for night, (_, version) in sorted(readers_see(session).items())}


def tables(session: Session) -> set[str]:
    return {name for (name,) in rows(session, "select tablename from pg_tables where schemaname = 'mart'")}


def state(session: Session) -> list[tuple[Any, ...]]:
    """Everything that a plan could have changed."""
    counted = ("changeset", "publication", "partition_version", "partition_event", "night_event", "step_time")
    counts = [rows(session, f"select '{name}', count(*) from nightscore.{name}")[0] for name in counted]
    runs = session.instance.get_runs_count()
    return [*counts, ("runs", runs), ("tables", tuple(sorted(tables(session))))]


def newest(session: Session) -> str:
    return str(rows(session, "select coalesce(max(changeset_id), 0) from nightscore.changeset")[0][0])


@contextmanager
def undone_at_the_end(session: Session) -> Iterator[dict[date, tuple[int, int]]]:
    """What readers see before, and again afterwards."""
    before = readers_see(session)
    yield before
    assert readers_see(session) == before


def test_a_plan_is_printed_and_changes_nothing(shop: Session) -> None:
    before = state(shop)
    shown, _ = call("backfill", *RANGE, "--model", "2", "--dry-run")
    facts = [
        line.rstrip().split(maxsplit=1) for line in shown.splitlines() if line.startswith(("nights ", "features "))
    ]
    assert facts == [
        ["nights", "5, 2024-03-09 to 2024-03-13"], ["features", "3 are there, 2 are made first"],
    ]  # fmt: skip
    assert "3; 2 are new to readers" in shown
    assert "visits@2 scores 2024-03-09 to 2024-03-13" in shown
    assert "nights of this pipeline" in shown
    plan = spoken("backfill", *RANGE, "--model", "as-published", "--only", "all", "--dry-run")
    assert [(one["model_version"], one["publication_id"] is None, one["has_features"]) for one in plan["nights"]] == [
        *[(1, False, False)] * 3, *[(1, True, False)] * 2,
    ]  # fmt: skip
    assert (plan["seconds"] > 0, plan["bytes"] > 0, plan["free_bytes"] > 0, plan["conflicts"]) == (True, True, True, [])
    assert state(shop) == before


def test_a_run_of_this_moment_over_the_same_nights_is_named_in_the_plan(shop: Session) -> None:
    job = shop.definitions.resolve_job_def("visits_nightly")
    tags = {"nightscore/pipeline": "visits", "dagster/partition": str(NIGHTS[1])}
    run = shop.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    try:
        shown, _ = call("backfill", *RANGE, "--dry-run")
    finally:
        shop.instance.delete_run(run.run_id)
    assert f"run {run.run_id} of visits_nightly over {NIGHTS[1]} to {NIGHTS[1]} has not ended" in " ".join(
        shown.split()
    )


def test_nights_are_staged_reviewed_approved_undone_and_approved(shop: Session, tmp_path: Path) -> None:
    with undone_at_the_end(shop) as before:
        shown, said = call("backfill", *RANGE, "--model", "2", "--yes", "--reason", "a better version")
        number = newest(shop)
        assert f"Changeset {number} of visits, 2024-03-09 to 2024-03-13: staged; 5 staged" in shown
        assert "nights: 2 new, 3 changed; rows: 120 added, 0 removed" in shown
        assert f'nightscore changes approve {number} --reason "…"' in shown
        assert "staged 5 of 5 nights, " in said
        assert readers_see(shop) == before
        review_everything(shop, number, tmp_path)
        done, _ = call("changes", "approve", number, "--reason", "looks right")
        assert done.splitlines()[0] == f"Approved changeset {number}: readers see 5 nights anew."
        assert f"nightscore changes undo {number}" in done
        assert versions_seen(shop) == dict.fromkeys(NIGHTS, 2)
        approved = readers_see(shop)
        assert "readers see 5 nights as before" in call("changes", "undo", number, "--reason", "it was not")[0]
        assert readers_see(shop) == before
        call("changes", "approve", number, "--reason", "it was, after all")
        assert readers_see(shop) == approved
        assert call("changes", "discard", number, "--reason", "no", code=2)[1].count("it is approved") == 1
        call("changes", "undo", number, "--reason", "for the tests that follow")
    events = [(one["event"], one["reason"]) for one in spoken("changes", "show", number)["events"]]
    assert events == [
        ("created", "a better version"), ("staged", "every night is done"), ("approved", "looks right"),
        ("undone", "it was not"), ("approved", "it was, after all"), ("undone", "for the tests that follow"),
    ]  # fmt: skip


def review_everything(session: Session, number: str, folder: Path) -> None:
    """Each way to look at a staged changeset."""
    page = folder / "review.html"
    text, _ = call("changes", "diff", number)
    assert text.startswith(f"Changeset {number} of visits: staged, 2024-03-09 to 2024-03-13\n")
    assert "city = Berlin" in text or "Flips by segment" in text
    whole = json.loads(call("changes", "diff", number, "--json", "--html", str(page))[0])
    assert page.read_text().startswith("<!doctype html>")
    assert (whole["changeset"]["id"], whole["states"], whole["blocked"]) == (
        int(number), {"new": 2, "changed": 3, "identical": 0}, [],
    )  # fmt: skip
    assert whole["models_before"] == {"1": 3 * CUSTOMERS}
    assert whole["models_after"] == {"2": 5 * CUSTOMERS}
    shown, _ = call("changes", "show", number)
    assert all(word in shown for word in ("a better version", "created", "5 staged", "visits@2 scores", "cost"))
    listed = spoken("changes", "list", "visits")
    assert [(one["changeset_id"], one["outcomes"]) for one in listed] == [(int(number), {"staged": 5})]
    assert "5 staged" in call("changes", "list")[0]


def test_nights_as_published_are_identical(shop: Session) -> None:
    with undone_at_the_end(shop):
        first, last = str(PUBLISHED[0]), str(PUBLISHED[-1])
        shown, _ = call_process("backfill", "visits", "--from", first, "--to", last, "--model", "as-published", "--yes")
        number = newest(shop)
        assert f"staged; {len(PUBLISHED)} identical" in shown
        assert f"0 added, 0 removed, 0 changed, {len(PUBLISHED) * CUSTOMERS} identical" in shown
        said, _ = call_process("changes", "approve", number, "--reason", "nothing moves")
        assert "readers see 0 nights anew" in said


def test_a_changeset_whose_nights_have_moved_is_refused_until_it_is_compared_anew(shop: Session) -> None:
    night = PUBLISHED[-1]
    one_night = ("visits", "--from", str(night), "--to", str(night), "--model", "2", "--yes")
    call("backfill", *one_night)
    number = newest(shop)
    late = night - timedelta(days=1)
    write_day(shop.workspace.settings.root, late, visits_of(late).with_columns(pl.col("age") + 20))
    call("run", "visits", "--date", str(night))
    restated = readers_see(shop)
    _, said = call("changes", "approve", number, "--reason", "unaware", code=2)
    assert f"{night}: readers see publication {restated[night][0]}, expected" in said
    assert f"nightscore changes rediff {number}" in said
    assert readers_see(shop) == restated
    anew, _ = call("changes", "rediff", number, "--reason", "restated meanwhile")
    assert f"Changeset {number} of visits, {night} to {night}: staged; 1 staged" in anew
    call("changes", "approve", number, "--reason", "aware")
    assert versions_seen(shop)[night] == 2
    call("changes", "undo", number, "--reason", "as it was")
    assert readers_see(shop) == restated


def test_a_discarded_changeset_leaves_nothing_in_the_mart(shop: Session) -> None:
    with undone_at_the_end(shop):
        before = tables(shop)
        call("backfill", *RANGE, "--model", "2", "--yes")
        number = newest(shop)
        assert len(tables(shop) - before) == 5
        assert "5 staged nights are gone" in call("changes", "discard", number, "--reason", "no use")[0]
        assert tables(shop) == before
        assert "it is discarded" in call("backfill", "--resume", number, code=2)[1]
        assert "it is discarded, not staged" in call("changes", "approve", number, "--reason", "yes", code=2)[1]


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not condition():
        time.sleep(0.02)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_backfill_that_is_stopped_goes_on_where_it_was(shop: Session, sign: signal.Signals) -> None:
    known = newest(shop)
    staged = "select count(*) from nightscore.changeset_item where changeset_id > :known and publication_id is not null"
    scored = "select score_date, predictions_id, receipt_id from nightscore.changeset_item where changeset_id = :id"
    publications = "select count(*) from nightscore.publication"
    ((made,),) = rows(shop, publications)
    with undone_at_the_end(shop):
        # It stands still at the third night, so that the signal is never too late.
        with shop.workspace.engine.begin() as holding:
            lock_night(holding, "visits", NIGHTS[2])
            process = start("backfill", *RANGE, "--model", "2", "--yes")
            try:
                wait_for(lambda: rows(shop, staged, known=known)[0][0] == 2, process)
            finally:
                os.killpg(process.pid, sign)
            _, said = process.communicate(timeout=60)
        number = newest(shop)
        if sign == signal.SIGINT:
            assert (process.returncode, f"`nightscore backfill --resume {number}` goes on" in said) == (130, True), said
        done = rows(shop, f"{scored} and outcome = 'staged'", id=number)
        assert 0 < len(done) < 5
        assert "it is staging, not staged" in call("changes", "approve", number, "--reason", "soon", code=2)[1]
        resumed, said = call("backfill", "visits", "--resume", number)
        assert ("marked as failed" in said) == (sign == signal.SIGKILL)
        assert "staged 5 of 5 nights" in said
        assert "staged; 5 staged" in resumed
        assert set(done) <= set(rows(shop, scored, id=number))
        assert rows(shop, publications)[0][0] == made + 5
        assert [one for one in rows(shop, "select status from bi.partition_status") if one[0] == "failed"] == []
        assert "staged 5 of 5" not in call("backfill", "--resume", number)[1]
        assert "5 staged nights" in call("backfill", "--cancel", number, "--reason", "enough")[0]


def test_two_processes_do_not_stage_one_changeset(shop: Session) -> None:
    call("backfill", *RANGE, "--model", "2", "--yes")
    number = newest(shop)
    with shop.workspace.engine.connect() as connection:
        lock = "select pg_advisory_lock(hashtext(:name))"
        connection.execute(sa.text(lock), {"name": f"changeset:{number}"})
        assert "another process is staging it now" in call("backfill", "--resume", number, code=4)[1]
        connection.rollback()
        connection.invalidate()
    call("backfill", "--cancel", number, "--reason", "enough")


def test_a_chunk_that_fails_is_said_with_how_to_go_on(shop: Session) -> None:
    beyond = FIRST_NIGHT + timedelta(days=20)
    _, said = call("backfill", "visits", "--from", str(beyond), "--to", str(beyond), "--yes", code=2)
    number = newest(shop)
    assert "stopped; what is finished is kept" in said
    assert f"nightscore backfill --resume {number}" in said
    assert spoken("changes", "show", number)["outcomes"] == {"planned": 1}
    assert "none of its nights was compared" in call("changes", "diff", number, code=2)[1]
    call("backfill", "--cancel", number, "--reason", "there is no such file")


SLIPS = [
    (("backfill",), "PIPELINE, --from, --to missing"),
    (("backfill", "visits", "--from", "2024-03-10"), "--to missing"),
    (("backfill", "nowhere", *RANGE[1:]), "pipelines are: visits"),
    (("backfill", "visits", "--from", "2024-03-02", "--to", "2024-03-10"), "before the first night with a full"),
    (("backfill", "visits", "--from", "2024-03-12", "--to", "2024-03-10"), "--to 2024-03-10 is before --from"),
    (("backfill", "visits", "--from", "2024-03-12", "--to", "2999-01-01"), "the night that begins"),
    (("backfill", *RANGE, "--model", "best", "--dry-run"), "write as-published, champion, challenger, or the number"),
    (("backfill", *RANGE, "--model", "9", "--dry-run"), "it is not registered; versions 1, 2 exist"),
    (("backfill", *RANGE, "--model", "challenger", "--dry-run"), "no version holds the alias challenger"),
    (("backfill", *RANGE), "add --yes, or --dry-run for the plan alone"),
    (("backfill", *RANGE, "--json"), "add --yes, or --dry-run for the plan alone"),
    (("backfill", "--resume", "99"), "there is none with this number"),
    (("backfill", "--resume", "1", "--cancel", "1"), "both --resume and --cancel were given"),
    (("backfill", "--resume", "1", "--model", "2"), "--model beside --resume or --cancel"),
    (("backfill", "elsewhere", "--resume", "1"), "is not one of elsewhere"),
    (("backfill", "--cancel", "1"), 'add --reason "why"'),
    (("backfill", "--cancel", "99", "--reason", "why"), "there is none with this number"),
    (("changes", "list", "nowhere"), "pipelines are: visits"),
    (("changes", "show", "99"), "see `nightscore changes list`"),
    (("changes", "diff", "99"), "there is none with this number"),
    (("changes", "diff", "1", "--html", "/no/such/folder/page.html"), "a folder that you may write to"),
    (("changes", "approve", "1"), 'add --reason "why"'),
    (("changes", "approve", "1", "--reason", "  "), 'add --reason "why"'),
    (("changes", "undo", "1"), 'add --reason "why"'),
    (("changes", "undo", "99", "--reason", "why"), "there is none with this number"),
    (("changes", "discard", "1"), 'add --reason "why"'),
    (("changes", "rediff", "1"), 'add --reason "why"'),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), SLIPS, ids=[" ".join(arguments) for arguments, _ in SLIPS])
def test_a_slip_of_the_pen_is_explained_and_changes_nothing(
    shop: Session, arguments: tuple[str, ...], said: str
) -> None:
    before = state(shop)
    _, err = call(*arguments, code=2)
    assert (said in err, "Remedy: " in err) == (True, True), err
    assert state(shop) == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--only", "some", "is not one of 'predictions'"),
        ("--from", "yesterday", "%Y-%m-%d"),
        ("--resume", "one", "integer"),
    ],
)
def test_a_value_that_is_none_is_explained(option: str, value: str, said: str) -> None:
    _, err = call("backfill", "visits", option, value, code=2)
    assert (f"Invalid value for '{option}'" in err, said in err) == (True, True), err


def test_nothing_is_staged_when_the_answer_is_no(shop: Session) -> None:
    before = state(shop)
    ours, theirs = pty.openpty()
    process = start("backfill", *RANGE, stdin=theirs)
    os.close(theirs)
    os.write(ours, b"n\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, "Stage these 5 nights?" in err, "the plan" in out) == (1, True, True)
    assert state(shop) == before


def test_more_than_the_disk_holds_is_refused() -> None:
    room = Plan("visits", (FIRST_NIGHT,), "1", "predictions", {}, (), {}, 60, 1.0, 3_000_000, "", 2_000_000, ())
    with pytest.raises(OutOfSpace, match="3 MB are needed by estimate, 2 MB are free"):
        require_room(room)
    require_room(replace(room, bytes=2_000_000))
    require_room(replace(room, bytes=None))


@pytest.mark.parametrize("arguments", [["backfill", "--help"], ["changes", "--help"], ["changes", "diff", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from orchestration.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(repr(sorted({'dagster', 'polars', 'sqlalchemy'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


def test_ranges_are_cut_at_gaps_and_at_their_length() -> None:
    days = [FIRST_NIGHT + timedelta(days=one) for one in (0, 1, 2, 4, 5)]
    assert chunks_of(days, 2) == [days[:2], days[2:3], days[3:]]
    assert chunks_of(days, 31) == [days[:3], days[3:]]
    assert chunks_of([], 31) == []


def test_versions_are_told_as_stretches_of_nights() -> None:
    versions = dict(zip(NIGHTS, (1, 1, 2, 2, 1), strict=True))
    assert version_runs(versions) == [
        (NIGHTS[0], NIGHTS[1], 1), (NIGHTS[2], NIGHTS[3], 2), (NIGHTS[4], NIGHTS[4], 1),
    ]  # fmt: skip


def test_features_alone_are_made_without_a_changeset(shop: Session) -> None:
    before, number = readers_see(shop), newest(shop)
    call("backfill", *RANGE, "--only", "features", "--yes")
    assert (readers_see(shop), newest(shop)) == (before, number)
    plan = spoken("backfill", *RANGE, "--dry-run")
    assert [one["has_features"] for one in plan["nights"]] == [True] * len(NIGHTS)
