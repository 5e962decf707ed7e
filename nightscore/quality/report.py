"""What is kept of a verdict: counts and expected bounds, never a value of the data.

Added here: a figure of a report. Not here: how a verdict is reached (`gate.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date

import polars as pl

from nightscore.errors import AccountingError
from nightscore.spec.base import Severity


@dataclass(frozen=True)
class ExpectationResult:
    """One line of a report; `unexpected` is the number of offending rows of `rows` (0 where no row can offend)."""

    name: str
    severity: Severity
    passed: bool
    rows: int
    unexpected: int
    detail: str

    @property
    def sentence(self) -> str:
        """The result as one sentence for an operator."""
        offending = f"{self.unexpected} of {self.rows} rows, " if self.unexpected else ""
        return f"{self.name}: {offending}{self.detail}"


@dataclass(frozen=True)
class GateReport:
    """The verdict on one candidate partition; its rows add up or AccountingError is raised."""

    dataset: str
    night: date
    passed: bool
    rows_in: int
    rows_out: int
    rows_quarantined: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    results: tuple[ExpectationResult, ...] = ()

    def __post_init__(self) -> None:
        excluded = sum(self.excluded.values())
        if self.rows_in != self.rows_out + self.rows_quarantined + excluded:
            raise AccountingError(
                f"accounting for the rows of {self.dataset} on {self.night}",
                f"{self.rows_in} in, {self.rows_out} out + {self.rows_quarantined} quarantined + {excluded} excluded",
                "this is a defect of the gate; keep the partition unpublished and report it",
            )

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each blocking expectation that failed; empty when the gate passed."""
        return tuple(one.sentence for one in self.results if one.severity == "block" and not one.passed)

    def as_json(self) -> dict[str, object]:
        """The report as JSON values, with its reasons."""
        return asdict(self) | {
            "night": self.night.isoformat(),
            "excluded": dict(self.excluded),
            "results": [asdict(one) for one in self.results],
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Gated:
    """A report with the rows let in and those set aside (these with `quarantine_reason`: names joined by '; ')."""

    report: GateReport
    accepted: pl.DataFrame
    quarantined: pl.DataFrame


@dataclass(frozen=True)
class GatedFile:
    """A report with the rows of a file let in and set aside as in `Gated`, each read anew in batches when called."""

    report: GateReport
    accepted: Callable[[], Iterator[pl.DataFrame]]
    quarantined: Callable[[], Iterator[pl.DataFrame]]
