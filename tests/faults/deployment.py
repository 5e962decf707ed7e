"""A shop whose nights run through Dagster in this process, as `nightscore run` does, beside readers of its own.

Added here: what tests of faults do to a deployment and see of it. Not here: tests.
"""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from nightscore.catalog.postgres import Server
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from tests.integration.night_chain import fresh_database, opened_shop, visits_of_shop


@dataclass(frozen=True)
class Deployment:
    """A shop and the environment that points commands at it."""

    workspace: Workspace
    pipeline: Pipeline

    @property
    def root(self) -> Path:
        """The project's folder, with the data that tests spoil and repair."""
        return self.workspace.settings.root

    def run(self, night: date) -> int:
        """`nightscore run visits --date <night>` without a process of its own; the exit code."""
        from orchestration.cli.night_runs import run_and_report

        # A command leaves its connections to the end of its process; here that end is now.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            code = run_and_report("visits", lambda *_: [night], as_json=True)
            gc.collect()
        return code

    def rows(self, query: str) -> list[dict[str, object]]:
        """What a BI reader gets for `query`."""
        with psycopg.connect(self.workspace.database.reader_url, row_factory=dict_row) as reader:
            return reader.execute(query.encode()).fetchall()

    def status(self, night: date) -> tuple[str, str]:
        """Status and reason of a night in `bi.partition_status`."""
        (row,) = self.rows(f"select status, reason from bi.partition_status where score_date = '{night}'")
        return str(row["status"]), str(row["reason"])

    def readers_see(self) -> list[tuple[object, object]]:
        """Each readable night with its number of rows."""
        query = "select score_date, count(*) as rows from bi.visits_current group by score_date order by score_date"
        return [(row["score_date"], row["rows"]) for row in self.rows(query)]


@contextmanager
def deployed_shop(server: Server, folder: Path, days: int) -> Iterator[Deployment]:
    """The shop as a deployment that this process's environment describes."""
    with (
        fresh_database(server) as name,
        opened_shop(server, name, folder, days) as workspace,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("NIGHTSCORE_ROOT", str(workspace.settings.root))
        patch.setenv("NIGHTSCORE_HOME", str(workspace.settings.home_path))
        patch.setenv("NIGHTSCORE_DATABASE_URL", server.url(name, driver="postgresql"))
        patch.setenv("NIGHTSCORE_READER_PASSWORD", server.reader_password)
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        yield Deployment(workspace, visits_of_shop(workspace))
