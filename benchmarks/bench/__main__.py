"""`python -m benchmarks.bench`: prepare, race, check, and write the page. Results of each size are kept for the page.

Added here: an option. Not here: what it turns on.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.bench.contestants import Contestant, chosen
from benchmarks.bench.data import prepare
from benchmarks.bench.environments import ROOT
from benchmarks.bench.machine import describe_machine
from benchmarks.bench.measure import RunFailed
from benchmarks.bench.night import run_night
from benchmarks.bench.page import render
from benchmarks.bench.predicting import race_predictors
from benchmarks.bench.rounds import race
from benchmarks.bench.sections import run_sections
from benchmarks.bench.starts import race_starts
from benchmarks.bench.work import Work

PARTS = ("race", "predict", "starts", "night", "sections")


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3, help="rounds, each with every contestant")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="contestants, divided by commas; all by default")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="data, environments and results")
    parser.add_argument("--page", type=Path, default=ROOT / "benchmarks" / "RESULTS.md")
    parser.add_argument("--date", type=date.fromisoformat, required=True, help="day of the run, for the page")
    parser.add_argument("--deployment", type=Path, help="a project folder with published nights, for a backfill")
    return parser.parse_args()


def main() -> None:
    """Run the parts asked for, keep their results beside those of earlier runs of the same rows, write the page."""
    asked = options()
    work = Work(asked.folder.resolve(), asked.rows, asked.threads)
    entered = chosen(asked.only)
    # A race of some alone would stand on the page beside ratios of another time; it has a page of its own.
    kept = work.folder / ("results-of-some" if asked.only else "results") / f"{work.rows:012}.json"
    said = {"rows": work.rows, "threads": work.threads, "date": str(asked.date)}
    print(f"making what is absent of {work.rows:,} rows under {work.folder}", flush=True)
    prepare(work)
    failed = []
    for part in (one for one in PARTS if one in asked.parts.split(",")):
        print(f"{part}, {work.rows:,} rows", flush=True)
        try:
            for found in run_part(part, work, entered, asked):
                keep(kept, {part: found} | said)
        except (RunFailed, CalledProcessError) as error:
            failed.append(f"{part} failed: {error}")
    text = render([json.loads(path.read_text()) for path in sorted(kept.parent.glob("*.json"))], describe_machine())
    if not asked.only:
        asked.page.write_text(text, encoding="utf-8")
    print(text, *failed, sep="\n")
    raise SystemExit(len(failed))


def run_part(part: str, work: Work, entered: Sequence[Contestant], asked: argparse.Namespace) -> Iterator[object]:
    """One part's results as plain values; of a race, after each round anew."""
    if part == "race":
        for outcomes in race(work, entered, asked.repeats):
            yield {name: asdict(one) for name, one in outcomes.items()}
    elif part == "predict":
        yield race_predictors(work, asked.repeats, entered)
    elif part == "starts":
        yield race_starts(work, asked.repeats)
    else:
        yield run_night(work) if part == "night" else run_sections(work.rows, asked.deployment)


def keep(path: Path, found: dict[str, object]) -> None:
    """Add what was found to what is kept of the same rows; parts that were not run stay as they were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | found, indent=1))


if __name__ == "__main__":
    main()
