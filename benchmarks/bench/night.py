"""A whole night of the reference rows in a deployment of its own: seconds of each step, and what is between the steps.

A pipeline learns from eight small days, then `nightscore run` makes one night of so many rows; the night's wall less
the engine's own steps is what orchestration costs, starting the process included. Added here: what a night is asked.
Not here: the pipeline (`spec.py`), scoring alone (`ours.py`).
"""

import json
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.bench.data import as_features
from benchmarks.bench.environments import ROOT, environ
from benchmarks.bench.measure import adopt_orphans, measure, reap_orphans
from benchmarks.bench.rows import TRAINING_SEED, labels_of, make_rows, matrix_of
from benchmarks.bench.spec import FIRST_DATE, NAME, dbt_files, spec_text
from benchmarks.bench.work import KEY, Work

COMMAND = str(Path(sys.executable).parent / "nightscore")
FIRST, SMALL_DAYS, SMALL_ROWS = date.fromisoformat(FIRST_DATE), 9, 25_000
STOP_PATIENCE_S = 60
SHARED = ("dbt_project.yml", "profiles.yml", "macros", "models/marts")


def run_night(work: Work) -> dict[str, Any]:
    """Seconds, CPU and memory of a night of `work.rows`, and of its steps; the deployment goes away afterwards."""
    # So that the database's processor time and memory count.
    adopt_orphans()
    root = work.home / "deployment"
    shutil.rmtree(root, ignore_errors=True)
    _lay_out(root)
    night = FIRST + timedelta(days=SMALL_DAYS)
    variables = environ() | {"NIGHTSCORE_ROOT": str(root), "NIGHTSCORE_THREADS": str(work.threads)}
    try:
        _call(variables, "run", NAME, "--date", str(night - timedelta(days=1)))
        _write_rows(root, night, work.rows)
        log = work.home / "night.log"
        command = [COMMAND, "run", NAME, "--date", str(night), "--json"]
        measured = measure(command, variables, log, leave_daemons=True)
        # The log holds the engine's own lines before the report.
        report, _ = json.JSONDecoder().raw_decode("{" + log.read_text().partition("\n{")[2])
        steps = [{name: one[name] for name in ("step", "seconds", "rows")} for one in report["steps"]]
    finally:
        # The server is a child of this process by now, which must see it end for others to see that.
        subprocess.Popen([COMMAND, "db", "stop"], env=variables, stdout=subprocess.DEVNULL)
        reap_orphans(STOP_PATIENCE_S)
        shutil.rmtree(root, ignore_errors=True)
    return {"measured": vars(measured), "steps": steps}


def _call(variables: dict[str, str], *arguments: str) -> None:
    print(f"nightscore {' '.join(arguments)}", flush=True)
    subprocess.run([COMMAND, *arguments], env=variables, check=True, stdout=subprocess.DEVNULL)


def _lay_out(root: Path) -> None:
    (root / "pipelines").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "pipelines" / f"{NAME}.yaml").write_text(spec_text(), encoding="utf-8")
    for name in SHARED:
        source, target = ROOT / "dbt" / name, root / "dbt" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for name, text in dbt_files().items():
        target = root / "dbt" / "models" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "requirements.lock", root)
    for day in range(SMALL_DAYS):
        _write_rows(root, FIRST + timedelta(days=day), SMALL_ROWS, with_outcomes=True)


def _write_rows(root: Path, day: date, rows: int, with_outcomes: bool = False) -> None:
    """One day's delivery: the rows, and of a day that the model learns from what came of them."""
    frame = make_rows(1, rows, TRAINING_SEED, day.toordinal())
    as_features(frame, day, "event_date").write_parquet(root / "data" / f"rows-{day}.parquet")
    if with_outcomes:
        labels = pl.Series("label", labels_of(matrix_of(frame), TRAINING_SEED), dtype=pl.Int64)
        outcomes = frame.select(pl.lit(day).alias("event_date"), KEY, labels)
        outcomes.write_parquet(root / "data" / f"outcomes-{day}.parquet")
