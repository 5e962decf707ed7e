"""What it takes to begin: imports and `--help`, beside those of what everybody knows.

Added here: a command that people wait for. Not here: work.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.bench.environments import environ
from benchmarks.bench.measure import measure
from benchmarks.bench.work import Work

BIN = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import nightscore": [sys.executable, "-c", "import nightscore"],
    "import nightscore.scoring.predictions": [sys.executable, "-c", "import nightscore.scoring.predictions"],
    "import pandas": [sys.executable, "-c", "import pandas"],
    "nightscore --help": [str(BIN / "nightscore"), "--help"],
    "dagster --help": [str(BIN / "dagster"), "--help"],
}


def race_starts(work: Work, repeats: int) -> dict[str, Any]:
    """Seconds of each command, in turn, after a first time that fills caches."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, command in COMMANDS.items():
            measured = measure(command, environ(), work.home / "starts.log")
            if turn:
                runs[name].append({"wall_s": measured.wall_s, "cpu_s": measured.cpu_s})
    return runs
