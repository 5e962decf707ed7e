"""The prediction alone: predictors in turn over the same rows in memory, each in a process of its own, to the bit.

Added here: which predictors race. Not here: the predictors (`predictors.py`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.contestants import Contestant
from benchmarks.bench.environments import environ, python_of
from benchmarks.bench.measure import measure
from benchmarks.bench.predictors import MATRIX
from benchmarks.bench.rounds import prepare_contestant
from benchmarks.bench.rows import SEED, make_rows, matrix_of
from benchmarks.bench.work import Task, Work
from nightscore.scoring.kernel import find_instructions

ROWS = 200_000
MODULE = "benchmarks.bench.predictors"


def race_predictors(work: Work, repeats: int, entered: Sequence[Contestant]) -> dict[str, Any]:
    """Of each predictor its runs and how its scores differ from LightGBM's, which runs first in every round.

    Beside it run our kernel, by every instruction set of this machine, and contestants whose model is prepared.
    """
    if not work.prepared(MATRIX).exists():
        np.save(work.prepared(MATRIX), matrix_of(make_rows(1, ROWS, SEED)))
    peers = [one for one in entered if one.prepares]
    for one in peers:
        prepare_contestant(work, one)
    environments = {"lightgbm": None, **{f"kernel:{name}": None for name in find_instructions()}}
    environments |= {one.name: one.environment for one in peers}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in environments}
    for _ in range(repeats):
        for name, environment in environments.items():
            runs[name].append(_run(work, name, environment))
    expected = np.load(_target(work, "lightgbm"))
    return {name: {"runs": runs[name], **_differences(np.load(_target(work, name)), expected)} for name in runs}


def _target(work: Work, name: str) -> Path:
    return work.prepared(f"scores-{name.replace(':', '-')}.npy")


def _run(work: Work, name: str, environment: str | None) -> dict[str, float]:
    log = work.prepared("predictor.log")
    command = [python_of(work.folder, environment), "-m", MODULE, Task(work, _target(work, name), name).as_json()]
    measured = measure(command, environ(), log)
    figures: dict[str, float] = json.loads(log.read_text().splitlines()[-1])
    print(f"predict alone: {name:20} {ROWS / figures['wall_s']:12,.0f} rows/s", flush=True)
    return figures | {"other_cores": measured.other_cores}


def _differences(scores: Any, expected: Any) -> dict[str, float]:
    return {
        "other_bits": int((scores.view(np.int64) != expected.view(np.int64)).sum()),
        "greatest": float(np.abs(scores - expected).max()),
    }
