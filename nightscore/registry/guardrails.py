"""What a challenger may not break, whatever it gains: calibration, single segments, credibility, fairness.

Pure: paired rows in, figures and reasons out. Added here: another guardrail. Not here: the verdict (`gate.py`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nightscore.measures.bootstrap import Codes
from nightscore.measures.fairness import Disparity, disparities
from nightscore.measures.metrics import Mask, Vector, calibration_error, roc_auc
from nightscore.measures.paired import PairedEvidence, compare_by_date
from nightscore.registry.unseen import CHALLENGER_SCORE, CHAMPION_SCORE, PairedRows
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.promotion import FairnessLimit
from nightscore.spec.serving import TopK
from nightscore.training.matrix import SCORE_DATE

LEAK_MARGIN = 0.02
"""How far one feature must separate labels better than the whole champion does to be suspected."""
MOST_NAMED = 10
"""Suspects and levels beyond that many are counted, not named, so that the evidence stays small."""


@dataclass(frozen=True)
class Finding:
    """The figures of one guardrail, the reasons to hold a version back, and what is only worth saying."""

    name: str
    figures: Any
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Paired rows as arrays (rows,): labels, both scores, both losses, and the number of each row's date."""

    pipeline: Pipeline
    rows: PairedRows
    labels: Vector
    champion: Vector
    challenger: Vector
    champion_losses: Vector
    challenger_losses: Vector
    dates: Codes
    paired: PairedEvidence

    @property
    def segments(self) -> list[str]:
        """Segment columns that the rows have."""
        return [one.name for one in self.pipeline.features.columns if one.segment and one.name in self.rows.frame]

    @property
    def sensitive(self) -> list[str]:
        """Sensitive columns that the rows have."""
        return [one.name for one in self.pipeline.features.columns if one.sensitive and one.name in self.rows.frame]


def check_guardrails(comparison: Comparison, seed: int = 0) -> list[Finding]:
    """Every guardrail's finding, in a fixed order."""
    return [
        check_leaks(comparison), check_calibration(comparison), check_segments(comparison, seed),
        check_fairness(comparison, seed),
    ]  # fmt: skip


def check_calibration(comparison: Comparison) -> Finding:
    """Whether probabilities are further from what happens, by more than the margin; regression has no such figure."""
    if comparison.pipeline.task != "binary":
        return Finding("calibration", None)
    before, after = (
        calibration_error(comparison.labels, scores) for scores in (comparison.champion, comparison.challenger)
    )
    margin = comparison.pipeline.promotion.calibration_margin
    figures = {"champion": before, "challenger": after, "margin": margin}
    if before is None or after is None or after - before <= margin:
        return Finding("calibration", figures)
    said = f"calibration: its error is {after:.4f}, the champion's {before:.4f}: worse by more than {margin:g}"
    return Finding("calibration", figures, (said,))


def check_segments(comparison: Comparison, seed: int = 0) -> Finding:
    """Whether a level of a segment column, large enough to be judged, is credibly worse by more than allowed."""
    table = [row for column in comparison.segments for row in _levels(comparison, column, seed)]
    return Finding("segments", table, tuple(_worse_segments(table, comparison.pipeline)))


def _levels(comparison: Comparison, column: str, seed: int) -> Iterator[dict[str, Any]]:
    promotion, values = comparison.pipeline.promotion, _level_names(comparison.rows.frame[column])
    names, counts = np.unique(values, return_counts=True)
    for level in names[counts >= promotion.segment_share * len(values)]:
        of = values == level
        champion, challenger = comparison.champion_losses[of], comparison.challenger_losses[of]
        found = compare_by_date(champion, challenger, comparison.dates[of], promotion.confidence, seed=seed)
        yield {"column": column, "level": str(level), **found.as_json()}


def _worse_segments(table: list[dict[str, Any]], pipeline: Pipeline) -> Iterator[str]:
    allowed = pipeline.promotion.segment_loss
    for row in table:
        if row["upper"] is not None and row["upper"] < -allowed:
            yield (
                f"segment {row['column']} = {row['level']}: {_share(-row['gain'])} more loss, at least "
                f"{_share(-row['upper'])} with {_share(pipeline.promotion.confidence)} confidence, in {row['rows']} "
                f"rows; {_share(allowed)} is allowed"
            )


def check_leaks(comparison: Comparison) -> Finding:
    """Whether the gain is too good to be true, or one new feature alone separates labels better than the champion.

    A category is not measured alone, but is suspected when the gain is too large and the champion does not have it.
    """
    gain, limit = comparison.paired.gain, comparison.pipeline.promotion.max_gain
    baseline, alone = separation(comparison, comparison.champion), _separations(comparison)
    new, too_good = comparison.rows.new_features, gain is not None and gain > limit
    strong = {name for name, value in alone.items() if baseline is not None and value >= baseline + LEAK_MARGIN}
    suspected = _by_importance(strong | set(new) if too_good else strong & set(new), comparison.rows)
    told = [_suspect(name, alone, baseline, comparison) for name in suspected[:MOST_NAMED]]
    figures = {"gain": gain, "max_gain": limit, "champion_separation": baseline, "suspects": told}
    if too_good:
        named = "; ".join(map(_describe, told)) or "no feature stands out alone"
        said = f"too good to be true: {_share(gain)} less loss, above {_share(limit)}; look for a leak: {named}"
        return Finding("leaks", figures, (said,))
    reasons = tuple(f"leak suspected: one feature does more than the champion: {_describe(one)}" for one in told)
    return Finding("leaks", figures, reasons)


def separation(comparison: Comparison, values: Vector) -> float | None:
    """How well `values` (rows,) alone order the labels, either way round: AUC, or |Spearman's rho| for regression.

    None where they order nothing: too few finite ones, or all equal.
    """
    known = np.isfinite(values)
    labels, there = comparison.labels[known], values[known]
    if len(there) < 2 or not np.ptp(there) or not np.ptp(labels):
        return None
    if comparison.pipeline.task == "binary":
        area = roc_auc(labels, there)
        return None if area is None else max(area, 1 - area)
    by_label, by_value = (pl.Series(one).rank("average").to_numpy() for one in (labels, there))
    return float(abs(np.corrcoef(by_label, by_value)[0, 1]))


def _separations(comparison: Comparison) -> dict[str, float]:
    """Of every feature that is a number or true or false."""
    kinds = {one.name: one.type for one in comparison.pipeline.features.columns}
    frame, skipped = comparison.rows.frame, {comparison.pipeline.label.column, CHAMPION_SCORE, CHALLENGER_SCORE}
    found = {}
    for name, dtype in frame.schema.items():
        numeric = dtype.is_numeric() or dtype == pl.Boolean
        if not numeric or name in skipped or kinds.get(name) in (None, "category"):
            continue
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        if (alone := separation(comparison, values)) is not None:
            found[name] = alone
    return found


def _by_importance(names: Iterable[str], rows: PairedRows) -> list[str]:
    return sorted(names, key=lambda name: (-(rows.importance or {}).get(name, 0.0), name))


def _suspect(name: str, alone: dict[str, float], baseline: float | None, comparison: Comparison) -> dict[str, Any]:
    importance = comparison.rows.importance or {}
    whole = sum(importance.values())
    return {
        "feature": name, "new": name in comparison.rows.new_features, "separation": alone.get(name),
        "champion_separation": baseline, "importance_share": importance.get(name, 0.0) / whole if whole else None,
        "measure": "AUC" if comparison.pipeline.task == "binary" else "rank correlation",
    }  # fmt: skip


def _describe(suspect: dict[str, Any]) -> str:
    parts = ["the champion does not have it"] if suspect["new"] else []
    if suspect["separation"] is not None:
        champion = suspect["champion_separation"]
        beside = "" if champion is None else f", the whole champion {champion:.2f}"
        parts.append(f"alone {suspect['measure']} {suspect['separation']:.2f}{beside}")
    if suspect["importance_share"] is not None:
        parts.append(f"{_share(suspect['importance_share'])} of the importance")
    return f"{suspect['feature']} ({', '.join(parts)})"


def check_fairness(comparison: Comparison, seed: int = 0) -> Finding:
    """Whether the challenger's decisions are further apart between levels than the spec allows, by the point value."""
    promotion = comparison.pipeline.promotion
    if comparison.pipeline.task != "binary" or not comparison.sensitive:
        return Finding("fairness", {})
    decided, found = _decided(comparison), {}
    for column in comparison.sensitive:
        found[column] = disparities(
            column, comparison.labels, decided, _level_names(comparison.rows.frame[column]), comparison.dates,
            promotion.fairness.min_share, promotion.confidence, seed=seed,
        )  # fmt: skip
    beyond = [
        (limit.severity, _unfair(one, limit))
        for limit in promotion.fairness.limits
        for column in found
        for one in found[column]
        if one.measure == limit.measure and _exceeds(one, limit)
    ]
    figures = {column: [_small(one) for one in measured] for column, measured in found.items()}
    reasons, warnings = (tuple(said for kind, said in beyond if kind == one) for one in ("block", "warn"))
    return Finding("fairness", figures, reasons, warnings)


def _decided(comparison: Comparison) -> Mask:
    """The challenger's decisions by the spec's rule alone; business rules hold for every version alike."""
    rule = comparison.pipeline.decision.rule
    if not isinstance(rule, TopK):
        return np.asarray(comparison.challenger >= rule.value)
    # Rows are sorted by key, so ranking in order of appearance gives ties to the smaller key.
    rank = pl.col(CHALLENGER_SCORE).rank("ordinal", descending=True).over(SCORE_DATE)
    return comparison.rows.frame.select(rank <= rule.k).to_series().to_numpy()


def _exceeds(one: Disparity, limit: FairnessLimit) -> bool:
    if one.value is None:
        return False
    return one.value < limit.limit if limit.measure.endswith("_ratio") else one.value > limit.limit


def _unfair(one: Disparity, limit: FairnessLimit) -> str:
    span = "" if one.lower is None or one.upper is None else f" ({one.lower:.3f} to {one.upper:.3f})"
    bound = "at least" if limit.measure.endswith("_ratio") else "at most"
    name = one.measure.replace("_", " ")
    return (
        f"fairness of {one.column}: {name} {one.value:.3f}{span} between {one.worst} (worst) and {one.best} (best), "
        f"expected {bound} {limit.limit:g}"
    )


def _small(one: Disparity) -> dict[str, Any]:
    largest = sorted(one.levels.items(), key=lambda level: -(level[1]["rows"] or 0))[:MOST_NAMED]
    return {**one.as_json(), "levels": {name: dict(figures) for name, figures in largest}, "of": len(one.levels)}


def _level_names(column: pl.Series) -> Any:
    """Levels as text (rows,); a missing one is a level of its own."""
    return column.cast(pl.String).fill_null("missing").to_numpy().astype(object)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.3g} %"
