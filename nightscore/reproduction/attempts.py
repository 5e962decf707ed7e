"""One attempt at reproducing something, from its beginning to the row that the catalog keeps of it.

Added here: what every attempt records. Not here: what is attempted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from time import perf_counter
from typing import Any, Literal

from nightscore.catalog.reproductions import Outcome, Reproduction, record_reproduction
from nightscore.errors import CannotReproduce, Permanent
from nightscore.lake.workspace import Workspace
from nightscore.reproduction.compare import Comparison


@dataclass
class Attempt:
    """What is attempted and, as it goes on, what became of it."""

    pipeline: str
    kind: Literal["model", "night"]
    version: int
    score_date: date | None
    receipt_id: int | None
    asked_by: str
    run_id: str
    facts: dict[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None
    made: Reproduction | None = None

    def recorded(self) -> Reproduction:
        """What the catalog has of it."""
        assert self.made is not None
        return self.made


@contextmanager
def attempted(workspace: Workspace, attempt: Attempt) -> Iterator[None]:
    """Record how the attempt came out; permanent errors become CannotReproduce, naming the kind, and are recorded."""
    begun = perf_counter()
    try:
        yield
    except Permanent as error:
        reason = error if isinstance(error, CannotReproduce) else _renamed(error)
        attempt.facts |= {"error": type(error).__name__, "found": list(reason.found), "remedy": reason.remedy}
        _record(workspace, attempt, "cannot", reason.found[0], begun)
        if reason is error:
            raise
        raise reason from error
    comparison = attempt.comparison
    assert comparison is not None
    attempt.facts |= {
        "required_level": comparison.required, "differences": [asdict(one) for one in comparison.differences],
    }  # fmt: skip
    _record(
        workspace, attempt, "reproduced" if comparison.equal else "not equal", comparison.first_difference, begun
    )  # fmt: skip


def _renamed(error: Permanent) -> CannotReproduce:
    found = [f"{type(error).__name__}: {one}" for one in error.found]
    return CannotReproduce(error.attempted, found, error.remedy)


def _record(workspace: Workspace, attempt: Attempt, outcome: Outcome, difference: str | None, begun: float) -> None:
    level = attempt.comparison.level if attempt.comparison is not None and outcome == "reproduced" else None
    attempt.made = Reproduction(
        attempt.pipeline, attempt.kind, attempt.version, attempt.score_date, attempt.receipt_id, outcome, level,
        difference, attempt.facts, attempt.asked_by, attempt.run_id, perf_counter() - begun, workspace.clock.now(),
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        record_reproduction(connection, attempt.made)
