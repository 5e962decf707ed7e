"""What a changeset would change: the difference of a night as facts that add up, and their sum over nights.

A night's difference is stored as JSON, and a review is assembled from stored ones. Added here: another such fact.
Not here: comparing rows (`compare.py`), or how it is shown (`nightscore/reports/changeset.py`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from nightscore.measures.metrics import Metrics
from nightscore.measures.shift import Sketch, churn_of_counts, merge_sketches, psi_of_sketches

QUANTILES: Mapping[str, float] = {
    "p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99,
}  # fmt: skip

T = TypeVar("T")
State = Literal["new", "changed", "identical"]


@dataclass(frozen=True)
class Rows:
    """Row counts: before = removed + changed + identical, after = added + changed + identical."""

    before: int = 0
    after: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    identical: int = 0


@dataclass(frozen=True)
class Flips:
    """Of `rows` that are there before and after, how many decisions turn to yes and how many to no."""

    rows: int = 0
    to_yes: int = 0
    to_no: int = 0


@dataclass(frozen=True)
class SegmentFlips:
    """The flips of one level (as text; None: unknown) of one segment column."""

    column: str
    level: str | None
    flips: Flips


@dataclass(frozen=True)
class Top:
    """Rows that are in the top before and after, and the size of the larger top."""

    kept: int = 0
    size: int = 0


@dataclass(frozen=True)
class Performance:
    """Figures on the rows that have a label and a score; no rows: immature."""

    rows: int = 0
    figures: Metrics | None = None


@dataclass(frozen=True)
class Tally:
    """What adds up over nights. Sketches of scores hold only nights that were published before.

    `columns`: column → common rows in which it differs. `models_*`: model version → rows.
    """

    rows: Rows
    columns: dict[str, int]
    flips: Flips
    segments: tuple[SegmentFlips, ...]
    shift: Sketch
    scores_before: Sketch
    scores_after: Sketch
    top: Top
    models_before: dict[int, int]
    models_after: dict[int, int]
    performance_before: Performance
    performance_after: Performance

    @property
    def psi(self) -> float | None:
        """PSI of the scores, from sketches; None when nothing was published before."""
        return psi_of_sketches(self.scores_before, self.scores_after)

    @property
    def churn(self) -> float | None:
        """The share of the top that is other rows; over several nights the mean by size."""
        return churn_of_counts(self.top.kept, self.top.size)

    @property
    def shift_quantiles(self) -> dict[str, float | None]:
        """Quantiles of score after - score before on common rows, and `max_abs`."""
        values = self.shift.quantiles(list(QUANTILES.values()))
        return {**dict(zip(QUANTILES, values, strict=True)), "max_abs": self.shift.max_abs}


@dataclass(frozen=True)
class NightDifference:
    """One night: `psi` by the night's own exact deciles; `night` is None when there are no rows at all."""

    night: date | None
    new: bool
    psi: float | None
    tally: Tally

    @property
    def state(self) -> State:
        """`new`: nothing was published before; `identical`: nothing but provenance differs."""
        rows = self.tally.rows
        return "new" if self.new else "changed" if rows.added or rows.removed or rows.changed else "identical"

    def as_json(self) -> dict[str, Any]:
        """Plain values, the tally's beside the night's own; `from_json` is the inverse."""
        return _flat(_night_adapter().dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "NightDifference":
        """The inverse of `as_json`."""
        return _night_adapter().validate_python({**value, "tally": value})


@dataclass(frozen=True)
class NightLine:
    """One night of a changeset, without what is only needed to add nights up."""

    night: date | None
    state: State
    rows: Rows
    flips: Flips
    psi: float | None
    churn: float | None


@dataclass(frozen=True)
class ChangesetDifference:
    """All nights of a changeset: their sum, and a line each in order of date."""

    tally: Tally
    nights: tuple[NightLine, ...]

    @property
    def states(self) -> dict[State, int]:
        """Nights that are new, changed and identical."""
        found = Counter(line.state for line in self.nights)
        return {"new": found["new"], "changed": found["changed"], "identical": found["identical"]}

    def largest_psi(self, nights: int) -> list[NightLine]:
        """The `nights` with the largest PSI, largest first, earlier ones first among equals."""
        known = [line for line in self.nights if line.psi]
        return sorted(known, key=lambda line: -(line.psi or 0))[:nights]

    def as_json(self) -> dict[str, Any]:
        """Plain values as of a night, with the figures that follow from them; `from_json` is the inverse."""
        tally = self.tally
        derived = {
            "states": self.states,
            "psi": tally.psi,
            "churn": tally.churn,
            "shift_quantiles": tally.shift_quantiles,
        }
        return {**derived, **_flat(_changeset_adapter().dump_python(self, mode="json"))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ChangesetDifference":
        """The inverse of `as_json`."""
        return _changeset_adapter().validate_python({**value, "tally": value})


def merge(differences: Iterable[NightDifference]) -> ChangesetDifference:
    """The nights of a changeset together, whatever their order."""
    nights = sorted(differences, key=lambda one: one.night or date.min)
    return ChangesetDifference(merge_tallies([one.tally for one in nights]), tuple(_line(one) for one in nights))


def _line(one: NightDifference) -> NightLine:
    return NightLine(one.night, one.state, one.tally.rows, one.tally.flips, one.psi, one.tally.churn)


def merge_tallies(tallies: Sequence[Tally]) -> Tally:
    """The sum. Counts and sketches are those of all rows at once; so are log loss, Brier score and RMSE.

    ROC AUC does not add up: its mean over nights, by labelled rows, is given.
    """

    def every(field: str) -> list[Any]:
        return [getattr(one, field) for one in tallies]

    def total(field: str) -> dict[Any, int]:
        return dict(sorted(sum(map(Counter, every(field)), Counter()).items()))

    return Tally(
        rows=_sum_counts(Rows, every("rows")), flips=_sum_counts(Flips, every("flips")),
        top=_sum_counts(Top, every("top")), columns=total("columns"),
        segments=merge_segments([one for night in every("segments") for one in night]),
        shift=merge_sketches(every("shift")), scores_before=merge_sketches(every("scores_before")),
        scores_after=merge_sketches(every("scores_after")),
        models_before=total("models_before"), models_after=total("models_after"),
        performance_before=_merge_performance(every("performance_before")),
        performance_after=_merge_performance(every("performance_after")),
    )  # fmt: skip


def merge_segments(segments: Iterable[SegmentFlips]) -> tuple[SegmentFlips, ...]:
    """One entry a column and level, in that order, an unknown level last."""
    groups: dict[tuple[str, str | None], list[Flips]] = {}
    for one in segments:
        groups.setdefault((one.column, one.level), []).append(one.flips)
    ordered = sorted(groups, key=lambda group: (group[0], group[1] is None, group[1] or ""))
    return tuple(SegmentFlips(*group, _sum_counts(Flips, groups[group])) for group in ordered)


def _merge_performance(given: Sequence[Performance]) -> Performance:
    known = [(one.rows, one.figures) for one in given if one.figures]
    if not known:
        return Performance()
    names = dict.fromkeys(name for _, figures in known for name in figures)
    figures = {name: _mean_by_rows(name, [(rows, one.get(name)) for rows, one in known]) for name in names}
    return Performance(sum(rows for rows, _ in known), figures)


def _mean_by_rows(name: str, values: Sequence[tuple[int, float | None]]) -> float | None:
    power = 2 if name == "rmse" else 1
    known = [(rows, value**power) for rows, value in values if value is not None]
    if not known:
        return None
    mean = math.fsum(rows * value for rows, value in known) / sum(rows for rows, _ in known)
    return math.sqrt(mean) if power == 2 else mean


def _sum_counts(kind: type[T], given: Sequence[Any]) -> T:
    return kind(*(sum(column) for column in zip(*(vars(one).values() for one in given), strict=True)))


def _flat(dumped: dict[str, Any]) -> dict[str, Any]:
    tally: dict[str, Any] = dumped.pop("tally")
    return {**dumped, **tally}


@cache
def _night_adapter() -> TypeAdapter[NightDifference]:
    return TypeAdapter(NightDifference)


@cache
def _changeset_adapter() -> TypeAdapter[ChangesetDifference]:
    return TypeAdapter(ChangesetDifference)
