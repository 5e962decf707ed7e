"""The race end to end: contestants in turn, so many rounds, each run a process that is measured and checked.

Added here: what is done around a run. Not here: what is measured of it (`measure.py`), medians.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench.check import WrongRows, compare
from benchmarks.bench.contestants import Contestant
from benchmarks.bench.environments import environ, python_of
from benchmarks.bench.measure import Measurement, RunFailed, measure
from benchmarks.bench.work import Task, Work


@dataclass
class Outcome:
    """What a contestant did: its runs, how its rows agree with LightGBM, what it made beforehand, why it failed."""

    title: str
    runs: list[dict[str, float]] = field(default_factory=list)
    agreement: dict[str, Any] | None = None
    prepared: dict[str, float] | None = None
    output_mb: float = 0.0
    failed: str = ""


def race(work: Work, contestants: Sequence[Contestant], repeats: int) -> Iterator[dict[str, Outcome]]:
    """Run `contestants` in turn `repeats` times; gives what is known after each round.

    One that fails takes no further part.
    """
    outcomes = {one.name: Outcome(one.title) for one in contestants}
    for one in contestants:
        with noting_failure(outcomes[one.name]):
            outcomes[one.name].prepared = prepare_contestant(work, one)
    warm(work)
    for _ in range(repeats):
        for one in contestants:
            if not outcomes[one.name].failed:
                with noting_failure(outcomes[one.name]):
                    _run(work, one, outcomes[one.name])
        yield outcomes


@contextmanager
def noting_failure(outcome: Outcome) -> Iterator[None]:
    """A contestant that fails is said to have failed; the others go on."""
    try:
        yield
    except (RunFailed, WrongRows) as error:
        outcome.failed = str(error)
        print(f"{outcome.title} FAILED\n{error}", flush=True)


def prepare_contestant(work: Work, one: Contestant) -> dict[str, float] | None:
    """Make the environment, and what the model needs, once for a folder; what the second cost is kept and returned."""
    python_of(work.folder, one.environment)
    if not one.prepares:
        return None
    kept = work.prepared(f"{one.name}.json")
    if not kept.exists():
        print(f"{one.title}: preparing the model", flush=True)
        cost = run_once(work, one, Task(work, work.home), "prepare")
        kept.write_text(json.dumps(asdict(cost)))
    cost_kept: dict[str, float] = json.loads(kept.read_text())
    return cost_kept


def warm(work: Work) -> None:
    """Bring all files into the page cache."""
    for path in (*work.files, work.partition):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def _run(work: Work, one: Contestant, outcome: Outcome) -> None:
    target = work.home / f"out-{one.name}.parquet"
    remove(target)
    measured = run_once(work, one, Task(work, target, one.source))
    outcome.runs.append(asdict(measured))
    outcome.output_mb = _size_mb(target)
    if one.scores:
        outcome.agreement = asdict(compare(target, work.reference))
    remove(target)
    print(
        f"{one.title:36} {measured.wall_s:8.2f} s {measured.cpu_s:8.2f} CPU s {measured.peak_mb:7,.0f} MB   "
        f"others {measured.other_cores:.1f} cores",
        flush=True,
    )


def run_once(work: Work, one: Contestant, task: Task, *more: str) -> Measurement:
    """Measure one process of a contestant."""
    command = [python_of(work.folder, one.environment), "-m", one.module, task.as_json(), *more]
    return measure(command, environ() | dict(one.environ), work.home / f"{one.name}.log")


def remove(target: Path) -> None:
    """A file or a folder of predictions."""
    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)


def _size_mb(target: Path) -> float:
    files = [target] if target.is_file() else target.rglob("*.parquet")
    return sum(path.stat().st_size for path in files) / 1e6
