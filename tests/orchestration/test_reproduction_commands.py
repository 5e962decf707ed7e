"""`reproduce` and `trace` as a person types them: what they print, and what they exit with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestration.cli.night_runs import Session
from tests.orchestration.conftest import Done, call_here, run
from tests.shop import FIRST_NIGHT

COMMAND = str(Path(sys.executable).parent / "nightscore")


@pytest.fixture(scope="module")
def scored(session: Session) -> Session:
    """The shop with a published night."""
    assert run(session, FIRST_NIGHT).message == ""
    return session


def start(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command as a process of its own."""
    return subprocess.run(
        [COMMAND, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


def trace(*arguments: str) -> Done:
    return call_here("trace", "visits", "--date", str(FIRST_NIGHT), *arguments)


def add_to_scores(session: Session, by: int) -> None:
    change = sa.text("update mart.visits set score = score + :by where customer_id = 7")
    with session.workspace.engine.begin() as connection:
        connection.execute(change, {"by": by})


def test_a_version_is_reproduced_in_a_few_lines_and_as_json(scored: Session) -> None:
    shown, spoken = call_here("reproduce", "visits@1"), call_here("reproduce", "visits@1", "--json")
    assert (shown.returncode, spoken.returncode) == (0, 0)
    assert shown.stdout.splitlines()[0] == "visits@1: REPRODUCED (identical)"
    made: dict[str, Any] = json.loads(spoken.stdout)
    assert {name: made[name] for name in ("kind", "outcome", "level", "first_difference")} == {
        "kind": "model", "outcome": "reproduced", "level": "identical", "first_difference": None,
    }  # fmt: skip


def test_a_poisoned_module_path_is_left_behind(scored: Session, tmp_path: Path) -> None:
    (tmp_path / "polars").mkdir()
    (tmp_path / "polars" / "__init__.py").write_text("raise RuntimeError('poison')")
    shown = start("reproduce", "visits@1", PYTHONPATH=str(tmp_path))
    assert (shown.returncode, shown.stdout.splitlines()[:1]) == (0, ["visits@1: REPRODUCED (identical)"])


def test_a_night_and_a_row_of_it_are_equal_until_someone_changes_the_mart(scored: Session) -> None:
    night = ("reproduce", "visits", "--night", str(FIRST_NIGHT))
    assert call_here(*night).returncode == 0
    equal = trace("--key", "customer_id=7")
    assert (equal.returncode, "EQUAL: score" in equal.stdout) == (0, True)
    add_to_scores(scored, 1)
    try:
        changed, row = call_here(*night), trace("--key", "7", "--json")
    finally:
        add_to_scores(scored, -1)
    assert (changed.returncode, "visits@1 2024-03-09: NOT EQUAL" in changed.stdout) == (5, True)
    assert "First difference: publication: the mart's rows: column score differs in 1 of 60 rows" in changed.stdout
    whole = json.loads(row.stdout)
    assert (row.returncode, whole["verdict"], whole["key"]["customer_id"]) == (5, "NOT EQUAL", 7)
    assert whole["again"]["score"] == whole["published"]["score"] - 1
    assert {"receipt", "model", "features", "sources", "gates", "approvals", "reproduction"} <= set(whole)


def test_a_trace_reads_what_was_read_at_an_instant(scored: Session) -> None:
    later = start("trace", "visits", "--date", str(FIRST_NIGHT), "--key", "7", "--as-of", "2099-01-01T00:00:00Z")
    assert later.returncode == 0
    before = trace("--key", "7", "--as-of", "2001-01-01")
    assert (before.returncode, "there is none (as of 2001-01-01 00:00:00+0000)" in before.stderr) == (2, True)
    both = trace("--key", "7", "--as-of", "2001-01-01", "--publication", "1")
    assert (both.returncode, "both an id and an instant were given" in both.stderr) == (2, True)


def test_what_cannot_be_made_again_is_named(scored: Session) -> None:
    with scored.workspace.engine.connect() as connection:
        snapshot = connection.scalar(sa.text("select snapshot_md5 from nightscore.receipt"))
    store = scored.workspace.lake.store
    path = store.path(store.read_directory(str(snapshot))["source.tar"])
    aside = path.rename(path.with_name("aside"))
    try:
        night, row = call_here("reproduce", "visits", "--night", str(FIRST_NIGHT)), trace("--key", "7")
    finally:
        aside.rename(path)
    assert (night.returncode, "ObjectMissing: source.tar: object" in night.stderr) == (6, True)
    assert (row.returncode, "CANNOT SAY" in row.stdout, "ObjectMissing: source.tar" in row.stdout) == (6, True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "visits"), "write it as pipeline@number"),
        (("reproduce", "visits@9"), "it is not registered; versions 1 exist"),
        (("reproduce", "visits@1", "--night", str(FIRST_NIGHT)), "a night knows its version"),
        (("reproduce", "visits@1", "--publication", "1"), "--publication without --night"),
        (("reproduce", "visits", "--night", "2024-03-20"), "nothing was ever published for that night"),
        (("reproduce", "visits", "--night", str(FIRST_NIGHT), "--publication", "99"), "publication 1: revision 1"),
        (("trace", "visits", "--date", str(FIRST_NIGHT), "--key", "999"), "0 rows with score_date=2024-03-09"),
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_is_explained(scored: Session, arguments: tuple[str, ...], said: str) -> None:
    done = call_here(*arguments)
    assert (done.returncode, said in done.stderr, "Remedy: " in done.stderr) == (2, True, True)
