"""Other benchmarks of the project on the same page: each a script of its own, whose lines are taken as they are.

Added here: a script that belongs on the page. Not here: what a script measures.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.bench.environments import ROOT, environ


def run_sections(rows: int, deployment: Path | None) -> dict[str, str]:
    """Title → what it printed. A backfill needs a deployment with published nights."""
    found = {}
    if (ROOT / "benchmarks/publishing.py").is_file():
        found["Publishing"] = _run(ROOT, "publishing.py", "--rows", str(rows))
    if deployment is not None:
        found["A backfill of ten nights"] = _run(deployment, "backfill_against_nights.py", "flight_delay", "2013-05-01")
    return found


def _run(folder: Path, script: str, *arguments: str) -> str:
    print(f"running {script}", flush=True)
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    variables = environ() | {"NIGHTSCORE_ROOT": str(folder)}
    done = subprocess.run(command, cwd=folder, env=variables, check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else f"failed:\n{done.stderr[-1000:]}"
