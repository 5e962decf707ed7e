"""`nightscore ci` on a shop with a champion: what passes, what is worse, what is broken, and that nothing moves."""

import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner

from nightscore.catalog.postgres import Server
from nightscore.registry.candidate import shrink
from nightscore.reports.ci import CiRun, exit_code_of, render_markdown
from nightscore.spec.loader import load_spec
from nightscore.spec.training import Calibration
from orchestration.cli import ci
from orchestration.cli.night_runs import Session
from tests.integration.night_chain import Begun
from tests.orchestration.conftest import shop_session
from tests.shop import FIRST, PROJECT, visits_of, write_day

pytestmark = pytest.mark.timeout(300)

COMMAND = str(Path(sys.executable).parent / "nightscore")
DAYS = 28
AS_OF = FIRST + timedelta(days=DAYS)
UNTOUCHED = ("model_version", "alias_event", "model_event", "publication", "changeset", "decision")
LIGHTGBM = "algorithm: { type: lightgbm, trees: 10, leaves: 5, min_rows_in_leaf: 5 }"
STAGES = ["validate", "compile", "data", "train", "gate"]


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def run(self) -> Any:
        (one,) = json.loads(self.out)
        return one

    @property
    def results(self) -> list[str]:
        return [stage["result"] for stage in self.run["stages"]]


def call(*arguments: str) -> Done:
    """The command in this process, its connections closed at its end, as a process would."""
    app = typer.Typer()
    app.command()(ci.ci)
    with warnings.catch_warnings(), capture_logs():
        warnings.simplefilter("ignore", ResourceWarning)
        done = CliRunner().invoke(app, arguments)
        gc.collect()
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def shop(server: Server, trained: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Four weeks of visits, and a champion that has learnt from the first of them."""
    with shop_session(server, tmp_path_factory.mktemp("ci"), trained) as session:
        for day in range(DAYS + 1):
            write_day(session.workspace.settings.root, FIRST + timedelta(days=day))
        yield session


@pytest.fixture(autouse=True)
def _nothing_registered_or_moved(request: pytest.FixtureRequest) -> Iterator[None]:
    if "shop" not in request.fixturenames:
        yield
        return
    session: Session = request.getfixturevalue("shop")
    before = untouched(session)
    yield
    assert untouched(session) == before


def untouched(session: Session) -> list[int]:
    with session.workspace.engine.connect() as connection:
        return [connection.scalar(sa.text(f"select count(*) from nightscore.{name}")) or 0 for name in UNTOUCHED]


def experiments(session: Session) -> list[tuple[Any, ...]]:
    query = "select kind, status, algorithm, version, as_of from nightscore.training_run where kind = 'ci' order by 1"
    with session.workspace.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


@contextmanager
def changed(session: Session, path: str, *replacements: tuple[str, str]) -> Iterator[None]:
    """The project with other text in one of its files."""
    file = session.workspace.settings.root / path
    before = file.read_text()
    after = before
    for old, new in replacements:
        assert old in after
        after = after.replace(old, new)
    file.write_text(after)
    yield
    file.write_text(before)


SPEC, SQL = "pipelines/visits.yaml", "dbt/models/visits/features/visits_features.sql"


def test_an_unchanged_project_is_not_worse_than_its_champion(shop: Session, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    known = len(experiments(shop))
    done = call("visits", "--as-of", str(AS_OF), "--out", str(report), "--json")
    assert (done.code, done.run["outcome"], done.results) == (0, "not_worse", ["passed"] * 5)
    assert done.run["against"] == {"name": "visits@1", "is_champion": True, "why": ""}
    assert (done.run["verdict"]["is_refresh"], done.run["verdict"]["paired"]["dates"]) == (True, 14)
    assert done.run["training"]["window_days"] == 20
    assert experiments(shop)[known:] == [("ci", "done", "lightgbm", None, AS_OF)]
    told = report.read_text()
    assert told.startswith("# ci of visits: not worse (exit code 0)\n\n| stage | result | seconds | what |\n")
    headings = [line.removeprefix("## ") for line in told.splitlines() if line.startswith("## ")]
    assert headings == [
        "What was compared", "Verdict: not worse", "Evidence", "Guardrails", "Metrics on 14 held-out dates, 840 rows",
        "Is it worth a model?",
    ]  # fmt: skip
    assert "against **visits@1** on 14 held-out dates" in told
    assert "a refresh of its recipe must not be worse" in told


def test_the_night_is_by_default_the_one_of_the_newest_labels(shop: Session) -> None:
    done = call("visits", "--json")
    assert (done.code, done.run["as_of"]) == (0, str(AS_OF))


def test_a_model_that_learns_nothing_is_worse(shop: Session) -> None:
    with changed(shop, SPEC, (LIGHTGBM, "algorithm: { type: constant }")):
        done = call("visits", "--as-of", str(AS_OF))
    assert done.code == 7
    assert "# ci of visits: worse (exit code 7)" in done.out
    assert "credibly worse" in done.out
    assert "a new recipe must be better" in done.out


def test_a_gain_too_good_to_be_true_is_held_back(shop: Session) -> None:
    with changed(shop, SPEC, ("trees: 10,", "trees: 60,")):
        done = call("visits", "--as-of", str(AS_OF), "--json")
    assert (done.code, done.run["outcome"]) == (7, "held_back")
    assert done.run["verdict"]["reasons"][0].startswith("too good to be true")


def test_features_that_the_champion_needs_and_are_gone_leave_a_baseline_to_compare_with(shop: Session) -> None:
    gone = [
        "    - { name: age, type: integer }\n", "    - { name: spend_yesterday, type: float }\n",
        '  business_rules: [{ name: children_get_no_mail, when: "age < 18", decision: false }]\n',
    ]  # fmt: skip
    with changed(shop, SPEC, *((line, "") for line in gone)):
        done = call("visits", "--as-of", str(AS_OF))
    assert done.code == 8
    assert "- nothing is known of it against visits@1, only against the constant baseline" in done.out
    assert "A baseline stands in for the champion: visits@1 needs features that this checkout does not make" in done.out
    assert "age (integer), spend_yesterday (float)" in done.out
    assert "than the champion" not in done.out


def test_too_few_dates_are_not_enough_evidence(shop: Session) -> None:
    done = call("visits", "--as-of", str(AS_OF), "--days", "10", "--json")
    assert (done.code, done.run["outcome"]) == (8, "not_enough_evidence")
    assert done.run["verdict"]["reasons"][0] == "5 common mature dates, at least 10 are needed"
    assert done.run["against"]["why"] == "5 of the held-out dates are unseen by visits@1, at least 10 are needed"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tonight.city,", "tonight.town,", "visits_features"),
        ("tonight.city,", "tonight.city as town,", "visits_features has no column city"),
        ("tonight.city,", "any_value(tonight.city) as city,", "visits_features.city"),
        ("select", "selct", "visits_features"),
        ("{{ source(", "{{ sauce(", "sauce"),
    ],
)
def test_broken_sql_ends_the_run_at_once(shop: Session, old: str, new: str, said: str) -> None:
    known = len(experiments(shop))
    with changed(shop, SQL, (old, new)):
        done = call("visits", "--as-of", str(AS_OF), "--json")
    assert (done.code, done.run["outcome"]) == (2, "broken")
    assert done.results == ["passed", "broken", "skipped", "skipped", "skipped"]
    assert said in done.run["stages"][1]["said"]
    assert said in done.err
    assert len(experiments(shop)) == known


def test_a_broken_spec_is_named_with_file_and_line(shop: Session) -> None:
    with changed(shop, SPEC, ("task: regression", "task: guess")):
        done = call()
    assert done.code == 2
    assert "| validate | broken |" in done.out
    assert "visits.yaml:4: task: found 'guess'" in done.out
    assert done.out.count("| skipped |") == 4


def test_a_spec_with_another_suffix_is_not_overlooked(shop: Session) -> None:
    misplaced = shop.workspace.settings.pipelines_path / "other.yml"
    misplaced.write_text("name: other\n")
    with changed(shop, SPEC, ("task: regression", "task: guess")):
        done = call()
    misplaced.unlink()
    assert (done.code, done.out.count("| validate | broken |")) == (2, 2)
    assert "pipelines/other.yaml:1: found no readable file" in done.out


def test_data_that_a_gate_holds_back_end_the_run_with_its_code(shop: Session) -> None:
    day, following = AS_OF, AS_OF + timedelta(days=1)
    path = write_day(shop.workspace.settings.root, day, visits_of(day).head(3))
    done = call("visits", "--as-of", str(following), "--json")
    path.unlink()
    assert (done.code, done.results) == (3, ["passed", "passed", "broken", "skipped", "skipped"])
    assert "clean_visits is held back: 2024-03-30: row_count" in done.run["stages"][2]["said"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "pipelines are: visits"),
        (("visits", "--as-of", "2024-02-01"), "2024-02-01 is not within the score dates"),
        (("visits", "--as-of", "2024-03-02"), "expected at least"),
    ],
)
def test_a_wrong_call_says_what_to_do(shop: Session, arguments: tuple[str, ...], said: str) -> None:
    done = call(*arguments)
    assert (done.code, said in done.err) == (2, True)


def test_the_command_is_registered(shop: Session) -> None:
    with changed(shop, SPEC, ("task: regression", "task: guess")):
        done = subprocess.run(
            [COMMAND, "ci", "visits", "--json"], env=os.environ, capture_output=True, text=True, check=False
        )
    assert (done.returncode, json.loads(done.stdout)[0]["outcome"]) == (2, "broken")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("window", "held_out", "calibrated", "nights", "days", "expected"),
    [
        (90, 14, 0, 200, None, (42, 14, 466)),
        (90, 14, 14, 200, None, (56, 14, 622)),
        (30, 7, 0, 200, None, (37, 14, 1000)),
        (8, 2, 0, 200, None, (20, 14, 1000)),
        (8, 2, 0, 17, None, (17, 11, 1000)),
        (90, 14, 0, 20, None, (20, 10, 222)),
        (90, 14, 0, 200, 10, (10, 5, 111)),
        (90, 14, 0, 200, 90, (90, 14, 1000)),
        (90, 14, 0, 1, None, (2, 1, 22)),
    ],
)
def test_the_small_window_leaves_enough_to_compare_and_to_learn(
    window: int, held_out: int, calibrated: int, nights: int, days: int | None, expected: tuple[int, int, int]
) -> None:
    pipeline = load_spec(PROJECT / "pipelines" / "visits.yaml")
    calibration = Calibration(method="sigmoid", dates=calibrated) if calibrated else None
    training = pipeline.training.model_copy(
        update={"window_days": window, "holdout_days": held_out, "calibration": calibration, "min_rows": 1000}
    )
    as_of = pipeline.score_dates.start + timedelta(days=nights)
    small = shrink(pipeline.model_copy(update={"training": training}), as_of, days).training
    assert (small.window_days, small.holdout_days, small.min_rows) == expected


def test_a_candidate_that_meets_a_champion_learns_from_no_less_than_the_spec_does() -> None:
    pipeline = load_spec(PROJECT / "pipelines" / "visits.yaml")
    training = pipeline.training.model_copy(update={"window_days": 90, "holdout_days": 10})
    small = shrink(pipeline.model_copy(update={"training": training}), date(2025, 1, 1), whole=True).training
    assert (small.window_days, small.holdout_days, small.min_rows) == (94, 14, 100)


def test_a_longer_horizon_takes_its_dates_from_what_is_learnt_not_from_what_is_compared() -> None:
    pipeline = load_spec(PROJECT / "pipelines" / "visits.yaml")
    late = pipeline.model_copy(update={"label": pipeline.label.model_copy(update={"horizon_days": 8})})
    small = shrink(late, date(2025, 1, 1)).training
    assert (small.window_days, small.holdout_days) == (20, 7)


@pytest.mark.parametrize(("broken", "expected"), [((0,), 0), ((0, 3, 2), 3), ((0, 4), 4)])
def test_the_first_broken_pipeline_gives_the_exit_code(broken: tuple[int, ...], expected: int) -> None:
    runs = [CiRun(f"p{at}", (), code) for at, code in enumerate(broken)]
    assert exit_code_of(runs) == expected
    assert render_markdown(runs).count("# ci of p") == len(runs)
