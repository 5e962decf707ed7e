"""`nightscore up` as a person starts it: UI and daemon answer, a night launched there is published, Ctrl-C ends all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.shop import make_shop

COMMAND = str(Path(sys.executable).parent / "nightscore")
LOADED = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  assetGroups { groupName } schedules { name scheduleState { status } } sensors { name } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"""
LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
FAILURES = """query($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection { events {
  ... on ExecutionStepFailureEvent { stepKey error { message causes { message } } }
  ... on RunFailureEvent { message error { message causes { message } } } } } } } }"""
STATUS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""


@dataclass(frozen=True)
class Running:
    """A started deployment: its process, its environment and the address of its UI."""

    process: "subprocess.Popen[str]"
    environment: dict[str, str]
    url: str

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"did not come about within {seconds} s")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="nightscore-up-"))
    folder.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTSCORE_", "DAGSTER_"))}
    root = make_shop(folder / "shop", 12)
    environment = kept | {"NIGHTSCORE_ROOT": str(root), "NIGHTSCORE_HOME": str(folder / "home"), "HOME": str(folder)}
    subprocess.run([COMMAND, "run", "visits", "--date", "2024-03-09"], env=environment, check=True, capture_output=True)
    log = (folder / "up.log").open("w+")
    process = subprocess.Popen([COMMAND, "up"], env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)
    try:
        said = wait_for(lambda: re.search(r"Dagster UI\s+(\S+)", (folder / "up.log").read_text()))
        deployment = Running(process, environment, said.group(1))
        wait_for(lambda: deployment.ask("{ version }"))
        yield deployment
    finally:
        if process.poll() is None:
            process.kill()
        subprocess.run([COMMAND, "db", "stop"], env=environment, check=False, capture_output=True)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_ui_shows_everything_and_the_daemons_are_well(running: Running) -> None:
    def healthy() -> Any:
        found = running.ask(LOADED)
        daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        return found if daemons and all(one["healthy"] for one in daemons) else None

    (loaded,) = wait_for(healthy)["repositoriesOrError"]["nodes"]
    assert sorted(group["groupName"] for group in loaded["assetGroups"]) == ["bi", "visits"]
    assert loaded["schedules"] == [
        {"name": name, "scheduleState": {"status": "RUNNING"}} for name in ("visits_drill_schedule", "visits_schedule")
    ]
    assert sorted(one["name"] for one in loaded["sensors"]) == [
        "alert_delivery", "publication_freshness", "unexplained_failures",
        "visits_drift", "visits_performance", "visits_retraining",
    ]  # fmt: skip


def test_a_night_launched_in_the_ui_is_published_by_the_daemon(running: Running) -> None:
    selector = {
        "repositoryName": "__repository__", "repositoryLocationName": "nightscore", "jobName": "visits_nightly"
    }  # fmt: skip
    tags = [{"key": "dagster/partition", "value": "2024-03-10"}]
    parameters = {"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": {}}
    launched = running.ask(LAUNCH, p=parameters)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def ended() -> Any:
        status = running.ask(STATUS, id=launched["run"]["runId"])["runOrError"]["status"]
        return status if status in {"SUCCESS", "FAILURE"} else None

    assert wait_for(ended, 120) == "SUCCESS", running.ask(FAILURES, id=launched["run"]["runId"])
    said = subprocess.run([COMMAND, "status", "--json"], env=running.environment, check=True, capture_output=True)
    assert json.loads(said.stdout)[0]["latest"]["score_date"] == "2024-03-10"


def test_nothing_is_written_into_the_home_of_the_person(running: Running) -> None:
    written = {path.name for path in Path(running.environment["HOME"]).iterdir()}
    assert written & {".dagster", ".dbt", ".dagster_telemetry"} == set()


def test_an_interrupt_ends_all_processes(running: Running) -> None:
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=60) == 0
    with pytest.raises(urllib.error.URLError):
        running.ask("{ version }")
