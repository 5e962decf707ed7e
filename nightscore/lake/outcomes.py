"""What a step did to each night: one shape for every step, so that reports and the orchestrator need no other.

Added here: a fact that every step has. Not here: facts of one step, which go into `facts`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import Any, Literal

import structlog

from nightscore.catalog.gates import RowAccount, record_account
from nightscore.catalog.nights import StepTime, night_status, record_night, record_step
from nightscore.lake.workspace import Workspace


@dataclass(frozen=True)
class NightOutcome:
    """One night of one step; `reasons` is empty unless it was blocked."""

    dataset: str
    night: date
    result: Literal["made", "reused", "blocked"]
    rows: int
    reasons: tuple[str, ...] = ()
    report: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class StepLog:
    """Collects a step's outcomes while it runs."""

    outcomes: list[NightOutcome] = field(default_factory=list)


@contextmanager
def timed_step(
    workspace: Workspace, pipeline: str, step: str, nights: Sequence[date], run_id: str
) -> Iterator[StepLog]:
    """Record what a step did and cost, log one line, and mark blocked nights as gated; also when it raises."""
    log, begun = StepLog(), perf_counter()
    try:
        yield log
    finally:
        seconds = perf_counter() - begun
        _record(workspace, pipeline, step, nights, run_id, log.outcomes, seconds)


def _record(
    workspace: Workspace, pipeline: str, step: str, nights: Sequence[date], run_id: str,
    outcomes: Sequence[NightOutcome], seconds: float,
) -> None:  # fmt: skip
    counts = {result: sum(o.result == result for o in outcomes) for result in ("made", "reused", "blocked")}
    rows, now = sum(outcome.rows for outcome in outcomes), workspace.clock.now()
    cost = StepTime(
        pipeline, step, min(nights), max(nights), counts["made"], counts["reused"], counts["blocked"],
        rows, seconds, run_id, now,
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        record_step(connection, cost)
        for one in outcomes:
            if one.result == "blocked":
                reason = f"{one.dataset}: {'; '.join(one.reasons)}"
                record_night(connection, pipeline, one.night, "gated", reason, run_id, now)
    structlog.get_logger("nightscore").info(step, **counts, rows=rows, seconds=round(seconds, 2))


def record_accounts(workspace: Workspace, accounts: Sequence[RowAccount], run_id: str) -> None:
    """Store row accounts; the database refuses one that does not balance."""
    with workspace.engine.begin() as connection:
        for account in accounts:
            record_account(connection, account, run_id, workspace.clock.now())


def mark_prepared(workspace: Workspace, pipeline: str, outcomes: Sequence[NightOutcome], run_id: str) -> None:
    """Nights that were gated or failed before, and whose features have passed now, are no longer called so."""
    blocked = {one.night for one in outcomes if one.result == "blocked"}
    now, reason = workspace.clock.now(), "its features have passed their gates; not published yet"
    with workspace.engine.begin() as connection:
        for night in sorted({one.night for one in outcomes} - blocked):
            standing = night_status(connection, pipeline, night)
            if standing is not None and standing.status in {"gated", "failed"}:
                record_night(connection, pipeline, night, "prepared", reason, run_id, now)
