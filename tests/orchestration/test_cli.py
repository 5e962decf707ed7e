"""The command line by itself: what it imports, prints and exits with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightscore.catalog.postgres import Server
from tests.shop import make_shop

COMMAND = str(Path(sys.executable).parent / "nightscore")
HEAVY = ("dagster", "polars", "pandas", "sqlalchemy", "great_expectations", "dbt", "lightgbm")


@pytest.fixture
def environment(server: Server, database_name: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTSCORE_", "DAGSTER_"))}
    return kept | {
        "NIGHTSCORE_ROOT": str(make_shop(tmp_path / "shop", 12)),
        "NIGHTSCORE_HOME": str(tmp_path / "home"),
        "NIGHTSCORE_DATABASE_URL": server.url(database_name, driver="postgresql"),
    }


def call(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["models", "list", "--help"], ["db", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from orchestration.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(repr(sorted(set({HEAVY!r}) & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nowhere"], 2, "pipelines are: visits"),
        (["run", "visits", "--date", "2024-03-02"], 2, "before the first night with a full training window"),
        (["run", "visits", "--from", "2024-03-12", "--to", "2024-03-10"], 2, "--to 2024-03-10 is before --from"),
        (["run", "visits", "--date", "2024-03-10", "--to", "2024-03-11"], 2, "give one or the other"),
        (["run", "visits", "--from", "2024-03-10"], 2, "give both"),
        (["models", "show", "visits"], 2, "flight_delay@1"),
        (["models", "show", "visits@7"], 2, "visits@7"),
        (["validate", "no/such.yaml"], 2, "no readable file"),
    ],
)
def test_a_wrong_call_says_what_to_do(environment: dict[str, str], arguments: list[str], code: int, said: str) -> None:
    done = call(environment, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_does_not_answer_is_something_to_try_again(environment: dict[str, str]) -> None:
    done = call(environment | {"NIGHTSCORE_DATABASE_URL": "postgresql://x:secret@127.0.0.1:1/z"}, "status")
    assert (done.returncode, "Connection refused" in done.stderr, "secret" in done.stderr) == (4, True, False)


def test_an_invalid_spec_is_named_by_every_command_that_needs_it(environment: dict[str, str]) -> None:
    spec = Path(environment["NIGHTSCORE_ROOT"]) / "pipelines" / "visits.yaml"
    spec.write_text(spec.read_text().replace("task: regression", "task: guess"))
    for arguments in (["validate"], ["run", "visits"], ["train", "visits"]):
        done = call(environment, *arguments)
        assert (done.returncode, "visits.yaml:4: task: found 'guess'" in done.stderr) == (2, True)


def test_reading_commands_speak_json_on_stdout_alone(environment: dict[str, str]) -> None:
    def spoken(*arguments: str) -> Any:
        done = call(environment, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert spoken("status")[0]["latest"] is None
    assert spoken("models", "list") == []
    assert spoken("db", "status") == {"server": "external", "state": "answers"}
    assert spoken("db", "url")["role"] == "bi_reader"
    assert [one["name"] for one in spoken("validate")] == ["visits"]
    assert {one["check"]: one["well"] for one in spoken("doctor")} == dict.fromkeys(
        ["python", "packages", "kernel", "disk", "database", "lake", "dbt", "specs", "clock", "alerts"], True
    )


def test_the_schema_is_printed_for_editors(environment: dict[str, str]) -> None:
    assert json.loads(call(environment, "schema").stdout)["$schema"].endswith("2020-12/schema")
