"""The gate between a challenger and the champion: paired rows in, a verdict with every reason out.

The score date is the unit of evidence. A new recipe must be credibly better; a refresh of the champion's recipe must
not be credibly worse. Either must break no guardrail. Pure: no catalog, no lake, no clock.
Added here: a rule of the verdict. Not here: which rows count (`unseen.py`), or what follows (`promotion.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from nightscore.measures.paired import PairedEvidence, compare_by_date, losses
from nightscore.measures.shift import psi
from nightscore.registry.guardrails import Comparison, Finding, check_guardrails
from nightscore.registry.unseen import CHALLENGER_SCORE, CHAMPION_SCORE, PairedRows, evidence_of
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.promotion import Promotion
from nightscore.training.matrix import SCORE_DATE

Outcome = Literal["better", "not_worse", "worse", "held_back", "not_enough_evidence"]
PROMOTABLE: tuple[Outcome, ...] = ("better", "not_worse")


@dataclass(frozen=True)
class Verdict:
    """What the gate says, every reason for it, and the evidence as JSON."""

    outcome: Outcome
    reasons: tuple[str, ...]
    evidence: dict[str, Any]

    @property
    def promotable(self) -> bool:
        """Whether the version may become champion."""
        return self.outcome in PROMOTABLE

    def as_json(self) -> dict[str, Any]:
        """The whole verdict."""
        return {"outcome": self.outcome, "reasons": list(self.reasons), **self.evidence}


def judge(pipeline: Pipeline, rows: PairedRows, is_refresh: bool, seed: int = 0) -> Verdict:
    """The verdict on a challenger; the same rows give the same verdict.

    `is_refresh`: the challenger's recipe is the champion's, on other data or cheaper to score with.
    """
    rows = _measurable(pipeline, rows)
    promotion, told = pipeline.promotion, {"is_refresh": is_refresh, **evidence_of(rows)}
    told |= {"allowance": rows.allowance} if rows.allowance else {}
    if not rows.dates:
        return Verdict("not_enough_evidence", (_too_few(promotion, 0),), told | _NOTHING)
    comparison = compare(pipeline, rows, seed)
    findings = check_guardrails(comparison, seed)
    told |= _evidence(comparison, findings)
    broken = tuple(reason for finding in findings for reason in finding.reasons)
    if len(rows.dates) < promotion.min_dates:
        return Verdict("not_enough_evidence", (_too_few(promotion, len(rows.dates)), *broken), told)
    outcome, reason = _outcome(comparison.paired, promotion, is_refresh, rows.allowance)
    if broken and outcome in PROMOTABLE:
        return Verdict("held_back", (*broken, f"without that it would be {outcome.replace('_', ' ')}: {reason}"), told)
    return Verdict(outcome, (reason, *broken), told)


def compare(pipeline: Pipeline, rows: PairedRows, seed: int = 0) -> Comparison:
    """Labels, scores and losses of at least one row, and the paired evidence; rows are sorted by key."""
    frame = rows.frame
    labels, champion, challenger = (
        frame[name].cast(pl.Float64).to_numpy() for name in (pipeline.label.column, CHAMPION_SCORE, CHALLENGER_SCORE)
    )
    _, dates = np.unique(frame[SCORE_DATE].to_numpy(), return_inverse=True)
    before, after = (losses(pipeline.task, labels, scores) for scores in (champion, challenger))
    paired = compare_by_date(before, after, dates, pipeline.promotion.confidence, seed=seed)
    return Comparison(pipeline, rows, labels, champion, challenger, before, after, dates, paired)


def _measurable(pipeline: Pipeline, rows: PairedRows) -> PairedRows:
    """Without rows that have no loss; a score that is none is no reason to fail."""
    if not rows.frame.height:
        return replace(rows, dates=())
    needed = (pipeline.label.column, CHAMPION_SCORE, CHALLENGER_SCORE)
    measurable = pl.all_horizontal(pl.col(name).cast(pl.Float64).is_finite().fill_null(False) for name in needed)
    frame = rows.frame.filter(measurable)
    dates = tuple(frame[SCORE_DATE].unique().sort())
    left_out = {night: "no row has two scores and a label" for night in rows.dates if night not in dates}
    dropped = rows.rows_left_out + rows.frame.height - frame.height
    return replace(rows, frame=frame, dates=dates, left_out={**rows.left_out, **left_out}, rows_left_out=dropped)


def power_sentence(paired: PairedEvidence) -> str | None:
    """What so many dates can show; None where that is not known."""
    if not paired.detectable:
        return None
    return f"with {paired.dates} dates a gain of {_percent(paired.detectable)} would be seen in 8 of 10 cases"


def _outcome(
    paired: PairedEvidence, promotion: Promotion, is_refresh: bool, allowance: float
) -> tuple[Outcome, str]:  # fmt: skip
    """`allowance`: the loss that a version of the champion's recipe may cost, credibly too, for being cheaper."""
    allowance = allowance if is_refresh else 0.0
    gain, lower, upper = paired.gain, paired.lower, paired.upper
    if gain is None or lower is None or upper is None:
        return "not_enough_evidence", "the champion has no loss, so there is no gain to measure"
    said, sure = _gain_sentence(gain, lower, upper), _percent(promotion.confidence)
    if upper < -allowance:
        beyond = f" than the {_percent(allowance)} that a cheaper version may cost" if allowance else ""
        return "worse", f"credibly worse{beyond}: {said} with {sure} confidence each"
    most = max(promotion.refresh_loss, allowance)
    if is_refresh and gain < -most:
        return "worse", f"a refresh that is worse by more than {_percent(most)}: {said}"
    if is_refresh:
        as_wanted = (
            "that is not credibly worse" if upper >= 0 else f"that is cheaper, for {_percent(allowance)} at most"
        )
        return "not_worse", f"a refresh of the champion's recipe {as_wanted}: {said}"
    if lower > 0:
        return "better", f"credibly better: {said} with {sure} confidence each"
    parts = [f"neither credibly better nor worse: {said}", power_sentence(paired)]
    return "not_enough_evidence", "; ".join(part for part in parts if part)


def _gain_sentence(gain: float, lower: float, upper: float) -> str:
    direction = "less" if gain >= 0 else "more"
    span = f"gain between {_percent(lower)} and {_percent(upper)}"
    return f"{_percent(abs(gain))} {direction} loss than the champion ({span})"


def _evidence(comparison: Comparison, findings: list[Finding]) -> dict[str, Any]:
    paired = comparison.paired
    return {
        "metric": "log_loss" if comparison.pipeline.task == "binary" else "mse",
        "paired": paired.as_json(),
        "power": power_sentence(paired),
        "by_date": list(_by_date(comparison)),
        "guardrails": {one.name: one.figures for one in findings if one.name != "segments"},
        "segments": next(one.figures for one in findings if one.name == "segments"),
        "score_psi": psi(comparison.champion, comparison.challenger),
        "warnings": [warning for one in findings for warning in one.warnings],
    }


_NOTHING: dict[str, Any] = {
    "metric": None, "paired": None, "power": None, "by_date": [], "guardrails": {}, "segments": [], "score_psi": None,
    "warnings": [],
}  # fmt: skip


def _by_date(comparison: Comparison) -> Iterator[dict[str, Any]]:
    rows = np.bincount(comparison.dates)
    sums = [np.bincount(comparison.dates, one) for one in (comparison.champion_losses, comparison.challenger_losses)]
    for night, count, champion, challenger in zip(comparison.rows.dates, rows, *sums, strict=True):
        yield {
            "score_date": str(night), "rows": int(count), "champion_loss": float(champion / count),
            "challenger_loss": float(challenger / count),
        }  # fmt: skip


def _too_few(promotion: Promotion, dates: int) -> str:
    return f"{dates} common mature dates, at least {promotion.min_dates} are needed"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
