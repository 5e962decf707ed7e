"""One backfill of ten nights against ten backfills of one night each, features being there; and what 275 nights follow.

Run on a deployment whose nights are published: `.venv/bin/python benchmarks/backfill_against_nights.py flight_delay
2013-05-01`. Both are whole commands as a person types them, interleaved; what they staged is discarded.
"""

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter

NIGHTS, ALL = 10, 275
COMMAND = str(Path(sys.executable).parent / "nightscore")


def call(*arguments: str) -> str:
    """What a command prints; it must end well."""
    return subprocess.run([COMMAND, *arguments], check=True, capture_output=True, text=True).stdout


def backfill(pipeline: str, first: date, last: date) -> float:
    """Seconds of one backfill, which is discarded afterwards."""
    begun = perf_counter()
    call("backfill", pipeline, "--from", str(first), "--to", str(last), "--reason", "benchmark", "--yes")
    seconds = perf_counter() - begun
    newest = json.loads(call("changes", "list", pipeline, "--json"))[0]
    call("changes", "discard", str(newest["changeset_id"]), "--reason", "benchmark")
    return seconds


def main(pipeline: str, first: date) -> None:
    """Measure and print the ratios."""
    nights = [first + timedelta(days=day) for day in range(NIGHTS)]
    alone = [backfill(pipeline, night, night) for night in nights[: NIGHTS // 2]]
    together = backfill(pipeline, nights[0], nights[-1])
    alone += [backfill(pipeline, night, night) for night in nights[NIGHTS // 2 :]]
    one = sum(alone) / NIGHTS
    each = (together - one) / (NIGHTS - 1)
    print(
        f"{NIGHTS} nights: together {together:.1f} s, one by one {sum(alone):.1f} s, ratio {sum(alone) / together:.1f}"
    )
    print(f"{ALL} nights, from these figures: ratio {ALL * one / (one + (ALL - 1) * each):.1f}")


if __name__ == "__main__":
    main(sys.argv[1], date.fromisoformat(sys.argv[2]))
