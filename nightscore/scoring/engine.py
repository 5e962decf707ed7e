"""What evaluates a model in a run: our kernel where it is exact and pays, LightGBM (or the model's own code) otherwise.

The choice changes no bit of a score; it is told, and kept in the receipt.
Added here: another engine, or a reason to choose one. Not here: proving a run's scores (`scores.py`).
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nightscore.scoring.evaluate import Columns, Evaluate, compile_model
from nightscore.scoring.kernel import find_instructions
from nightscore.scoring.model_text import UnsupportedModel
from nightscore.training.algorithms import ConstantModel, Model
from nightscore.training.boosted import LightGbmModel
from nightscore.training.linear import LinearModel
from nightscore.training.matrix import Vector
from nightscore.training.rule import RuleModel

QUICKSCORER, OWN = "quickscorer", "own"
CHEAP_MODELS = (LinearModel, ConstantModel, RuleModel)
KERNEL_ROWS = 50_000
"""From so many rows on, compiling a forest and scoring a sample twice costs less than it saves."""


@dataclass(frozen=True)
class Engine:
    """How the rows of one model are scored: `name`, the kernel's `instructions`, and why it was not the kernel."""

    name: str
    reason: str
    model: Model = field(repr=False)
    threads: int
    instructions: str | None = None
    evaluate: Evaluate | None = field(default=None, repr=False)

    @property
    def is_costly(self) -> bool:
        """Whether reading an earlier night costs less than scoring its rows again."""
        return self.evaluate is None and not isinstance(self.model, CHEAP_MODELS)

    def score(self, columns: Columns) -> Vector:
        """Scores (rows,) of the model's columns, each (rows,)."""
        rows = len(columns[0]) if columns else 0
        evaluate = self.evaluate
        if evaluate is None or not rows:
            return self.score_by_model(columns)
        bounds = np.linspace(0, rows, self.threads + 1).astype(np.int64).tolist()
        spans = ([column[start:stop] for column in columns] for start, stop in itertools.pairwise(bounds))
        parts = self._pool.map(evaluate, spans)
        return np.concatenate(list(parts))

    def score_by_model(self, columns: Columns) -> Vector:
        """The same scores by the model's own code."""
        return self.model.predict(np.column_stack(columns), self.threads)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads)


@dataclass(frozen=True)
class EngineUse:
    """What evaluated a version's model and why not the kernel.

    Rows that proved it and those of them that differed, and rows whose score of an earlier night was taken.
    """

    version: int
    engine: str
    instructions: str | None
    reason: str
    checked: int = 0
    differing: int = 0
    reused: int = 0
    reused_from: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """What a receipt keeps."""
        return asdict(self)

    def __str__(self) -> str:
        if self.engine == QUICKSCORER:
            return f"{self.engine} ({self.instructions}), {self.checked:,} rows equal to LightGBM"
        reused = f", {self.reused:,} rows as an earlier night scored them" if self.reused else ""
        return f"{self.engine}: {self.reason}{reused}"


def told(engines: Sequence[EngineUse]) -> str:
    """What people read of a run's engines."""
    return "; ".join(dict.fromkeys(map(str, engines)))


def choose_engine(model: Model, rows: int, threads: int, *, refused: str = "") -> Engine:
    """The engine for so many rows of a model; `refused`: why the kernel must not be taken in this run."""
    own = "lightgbm" if isinstance(model, LightGbmModel) else OWN
    if reason := refused or _why_not(model, rows):
        return Engine(own, reason, model, threads)
    instructions = find_instructions()[-1]
    try:
        return Engine(QUICKSCORER, "", model, threads, instructions, compile_model(model, instructions))
    except (UnsupportedModel, ValueError) as error:  # LightGBM, which has loaded the text, is the one to say
        return Engine(own, str(error), model, threads)


def _why_not(model: Model, rows: int) -> str:
    if isinstance(model, CHEAP_MODELS):
        return f"{type(model).__name__} has no trees"
    if rows < KERNEL_ROWS:
        return f"fewer than {KERNEL_ROWS:,} rows"
    return "" if find_instructions() else "the kernel was not built here"
