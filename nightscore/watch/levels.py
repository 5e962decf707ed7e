"""Levels L1 to L4: each figure of a night against the threshold that the reference and the spec give it.

One cause has one key, such as `nulls:distance`, so that the same cause on a later night is known again. Signals come in
the order in which one fault explains the next: schema, keys, rows and freshness before columns.
Added here: a check of a level. Not here: what many signals make together, or over nights (`incidents.py`).
"""

import math
from collections.abc import Iterator
from datetime import date
from typing import Literal

from nightscore.measures import control
from nightscore.spec.monitoring import Monitoring, Outcomes, Shift
from nightscore.training.reference import SCORE
from nightscore.watch.evidence import ColumnNight, DomainClassifier, Fact, MatureOutcomes, NightEvidence

Level = Literal["L1", "L2", "L3", "L4"]

LARGEST_RATIO = 1000.0
"""Where a threshold is zero, or nothing came at all; JSON knows no infinity."""
NIGHT_WIDE = frozenset({"schema", "duplicate_keys", "rows:low", "rows:high", "freshness"})
"""Causes, or families of causes, that distort every distribution of the night they show on."""
_ZERO = 1e-9


class Signal(Fact):
    """One cause as measured tonight; it shows when `fires`.

    `ratio` is `value` over `threshold`, each from where all is well (0 for most, 0.5 for an AUC, the middle for a
    chart): 1 at the threshold. `columns` are those it is about. What shows `at_once` needs no second night.
    """

    level: Level
    cause: str
    columns: tuple[str, ...] = ()
    value: float
    threshold: float
    ratio: float
    fires: bool
    at_once: bool = False
    message: str

    @property
    def family(self) -> str:
        """The kind of check, without the column."""
        return self.cause.partition(":")[0]


class Judgement(Fact):
    """Every cause that could be measured, whether it shows or not, and what there was not enough evidence for."""

    signals: tuple[Signal, ...]
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Signal, ...]:
        """The signals that fire."""
        return tuple(signal for signal in self.signals if signal.fires)


class CusumState(Fact):
    """Both sums in standard deviations after `day`, the newest that counted, and the largest they were tonight.

    The tops are None on a night that brought no new mature day. `offset` is the accepted residual beyond its target,
    and `recent` the newest daily residuals from their target; all in standard deviations.
    """

    above: float = 0.0
    below: float = 0.0
    day: date | None = None
    top_above: float | None = None
    top_below: float | None = None
    offset: float = 0.0
    recent: tuple[float, ...] = ()

    def renewed(self) -> "CusumState":
        """From zero on: its alarm has been told."""
        return self.model_copy(update={"above": 0.0, "below": 0.0})

    def rebased(self) -> "CusumState":
        """From zero on, about the mean of the recent days: a person has accepted it."""
        offset = sum(self.recent) / len(self.recent) if self.recent else self.offset
        return self.model_copy(update={"above": 0.0, "below": 0.0, "offset": offset})


def judge(evidence: NightEvidence, spec: Monitoring, cusum: CusumState) -> Judgement:
    """Tonight's signals of every level; `cusum` is the state after tonight's outcomes (`advance_cusum`).

    Pure, and the part of L1 needs nothing but tonight's rows: it may be asked before the night is published.
    """
    lacking = lacking_outcomes(evidence.outcomes, spec.outcomes)
    signals = [*_judge_night(evidence, spec), *_judge_columns(evidence, spec), *_judge_labels(evidence)]
    signals += _judge_distributions(evidence, spec)
    signals += [*_judge_week(evidence, spec), *_judge_swaps(evidence)]
    if not lacking and evidence.outcomes is not None:
        signals += _judge_outcomes(evidence.outcomes, spec.outcomes, cusum)
    return Judgement(signals=tuple(signals), notes=lacking)


def lacking_outcomes(outcomes: MatureOutcomes | None, spec: Outcomes) -> tuple[str, ...]:
    """Why L4 has not enough evidence; empty when it has."""
    if outcomes is None:
        return ("L4: not enough evidence: no outcomes are mature",)
    found = []
    if outcomes.days < spec.min_days:
        found.append(f"L4: not enough evidence: {outcomes.days} mature days, {spec.min_days} are needed")
    if outcomes.positives is not None and outcomes.positives < spec.min_positives:
        found.append(f"L4: not enough evidence: {outcomes.positives} positives, {spec.min_positives} are needed")
    if not outcomes.residual_sd:
        found.append("L4: not enough evidence: the reference gives no spread of daily residuals")
    return tuple(found)


def advance_cusum(state: CusumState, outcomes: MatureOutcomes | None, spec: Outcomes) -> CusumState:
    """The sums after the days that are new; days that came while evidence was lacking count for nothing.

    The rule is that of `measures/control.py`, but an alarm does not end the sums: the caller does, once it is told.
    """
    state = state.model_copy(update={"top_above": None, "top_below": None})
    if outcomes is None:
        return state
    new = sorted((one.day, one.mean) for one in outcomes.residuals if state.day is None or one.day > state.day)
    if not new:
        return state
    if lacking_outcomes(outcomes, spec) or not outcomes.residual_sd:
        return state.model_copy(update={"day": new[-1][0]})
    daily = [(mean - outcomes.residual_target) / outcomes.residual_sd for _, mean in new]
    rule = control.Cusum(state.offset, 1.0, spec.slack, math.inf)
    sums = [sums for sums, _ in control.replay(rule, daily, control.CusumState(state.above, state.below))]
    return CusumState(
        above=sums[-1].above, below=sums[-1].below, day=new[-1][0],
        top_above=max(one.above for one in sums), top_below=max(one.below for one in sums),
        offset=state.offset, recent=(*state.recent, *daily)[-spec.min_days :],
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _ratio(value: float, threshold: float) -> float:
    return min(value / max(threshold, _ZERO), LARGEST_RATIO)


def _count(cause: str, count: int, message: str) -> Signal:
    """Of something that must not be at all."""
    return Signal(
        level="L1", cause=cause, value=count, threshold=1, ratio=_ratio(count, 1), fires=count > 0, at_once=True,
        message=message,
    )  # fmt: skip


def _judge_night(evidence: NightEvidence, spec: Monitoring) -> Iterator[Signal]:
    findings = evidence.schema_findings
    yield _count("schema", len(findings), "the columns are not as declared: " + "; ".join(findings))
    repeated = evidence.duplicate_keys
    yield _count("duplicate_keys", repeated, f"{repeated} keys stand more than once, and none may")
    yield from _judge_rows(evidence, spec)
    for one in evidence.freshness:
        if one.kind == "feature":
            late = max(one.age_days - one.limit_days, 0)
            message = f"{one.name} is {one.age_days} days old, and at most {one.limit_days} is normal"
            yield _count(f"freshness:{one.name}", late, message).model_copy(update={"columns": (one.name,)})
    yield _judge_kernel(evidence.differing_bits)
    broken = evidence.scores_not_finite
    yield _count("scores:not_finite", broken, f"{broken} of {evidence.rows} scores are not finite, and all must be")
    if evidence.rows >= spec.min_rows:
        message = f"all {evidence.rows} scores are equal, and 2 different ones are the least"
        yield _count("scores:constant", int(evidence.scores_constant), message)


def _judge_kernel(differing: int) -> Signal:
    """Scores are right all the same, so nothing is held back; but a machine or a build cannot be trusted."""
    message = f"the scoring kernel gave {differing} sampled rows other bits than LightGBM, which scored the whole night"
    return _count("kernel:bits", differing, message).model_copy(update={"level": "L2"})


def _judge_rows(evidence: NightEvidence, spec: Monitoring) -> Iterator[Signal]:
    rules, rows = spec.blocking, evidence.rows
    if evidence.rows_min is not None:
        least = min(rules.rows_low * evidence.rows_min, evidence.rows_min - _chance(evidence.rows_min))
        message = f"{rows} rows, and at least {least:.0f} are normal (fewest on a {evidence.weekday}: "
        message += f"{evidence.rows_min})"
        ratio = _ratio(least, rows) if least > 0 else 0.0
        yield _fault("rows:low", (), rows, least, ratio, message)
    if evidence.rows_max is not None:
        most = max(rules.rows_high * evidence.rows_max, evidence.rows_max + _chance(evidence.rows_max))
        message = f"{rows} rows, and at most {most:.0f} are normal (most on a {evidence.weekday}: {evidence.rows_max})"
        yield _fault("rows:high", (), rows, most, _ratio(rows, most), message)


def _chance(rows: int) -> float:
    """What the count of a few rows moves by of itself: four standard deviations of Poisson's."""
    return 4 * math.sqrt(rows + 1)


def _fault(
    cause: str, columns: tuple[str, ...], value: float, threshold: float, ratio: float, message: str
) -> Signal:  # fmt: skip
    """Of L1: it shows above its threshold, on its first night."""
    return Signal(
        level="L1", cause=cause, columns=columns, value=value, threshold=threshold, ratio=ratio, fires=ratio > 1,
        at_once=True, message=message,
    )  # fmt: skip


def _judge_columns(evidence: NightEvidence, spec: Monitoring) -> Iterator[Signal]:
    """Rates of nulls, unseen levels and values out of range; a share that few rows make is as good as none."""
    for one in evidence.columns:
        if one.null_rate is not None:
            yield _judge_nulls(one, one.null_rate, evidence.rows, spec)
        limits = (
            ("unseen", one.unseen_share, spec.blocking.unseen_share, "hold a level that the reference never saw"),
            ("range", one.out_of_range_share, spec.blocking.out_of_range_share, "lie outside the reference's range"),
        )
        for family, share, limit, words in limits:
            if share is not None:
                message = f"{one.name}: {_percent(share)} of the rows {words}, and at most {_percent(limit)} is normal"
                counted = _counted(share, evidence.rows, spec)
                yield _fault(f"{family}:{one.name}", (one.name,), share, limit, _ratio(counted, limit), message)


def _judge_nulls(one: ColumnNight, rate: float, rows: int, spec: Monitoring) -> Signal:
    change = abs(rate - one.reference_null_rate)
    limit = max(spec.blocking.null_change, spec.blocking.null_deviations * one.null_deviation_q95)
    message = f"{one.name}: {_percent(rate)} of the rows are null, {_percent(one.reference_null_rate)} in the "
    message += f"reference; a change of {100 * change:.3g} points, and at most {100 * limit:.3g} is normal"
    ratio = _ratio(_counted(change, rows, spec), limit)
    return _fault(f"nulls:{one.name}", (one.name,), change, limit, ratio, message)


def _counted(share: float, rows: int, spec: Monitoring) -> float:
    # Half a row of room: a share of whole rows may come a rounding below them.
    return share if share * rows + 0.5 >= spec.blocking.min_affected_rows else 0.0


def _judge_labels(evidence: NightEvidence) -> Iterator[Signal]:
    """Late labels warn; an age does not fluctuate, so they need no second night."""
    for one in evidence.freshness:
        if one.kind == "label":
            late = max(one.age_days - one.limit_days, 0)
            yield Signal(
                level="L2", cause=f"labels:{one.name}", value=late, threshold=1, ratio=_ratio(late, 1), fires=late > 0,
                at_once=True, message=f"labels {one.name} are {one.age_days} days old, and at most {one.limit_days} is "
                "normal",
            )  # fmt: skip


def _judge_distributions(evidence: NightEvidence, spec: Monitoring) -> Iterator[Signal]:
    if evidence.rows < spec.min_rows:
        return
    loud = spec.incidents.at_once_ratio
    for one in evidence.columns:
        if one.chart is not None:
            yield _judge_chart(one)
        elif one.psi is not None:
            against = f"tonight against {evidence.weekday}s of the reference"
            signal = _judge_psi("L2", "psi_day", one.name, one.psi, one.psi_q99, spec.daily, against)
            yield signal.model_copy(update={"at_once": signal.ratio >= loud})


def _judge_chart(one: ColumnNight) -> Signal:
    assert one.chart is not None
    middle, half = (one.chart.low + one.chart.high) / 2, (one.chart.high - one.chart.low) / 2
    apart = abs(one.chart.value - middle)
    ratio = _ratio(apart, half) if apart > _ZERO * max(abs(middle), 1.0) else 0.0
    message = f"{one.name}: its daily value is {one.chart.value:.4g}, and {one.chart.low:.4g} to {one.chart.high:.4g} "
    return Signal(
        level="L2", cause=f"chart:{one.name}", columns=(one.name,), value=one.chart.value,
        threshold=one.chart.high if one.chart.value > middle else one.chart.low, ratio=ratio, fires=ratio > 1,
        message=message + "is normal",
    )  # fmt: skip


def _judge_psi(level: Level, family: str, name: str, psi: float, q99: float, rule: Shift, against: str) -> Signal:
    threshold = max(rule.psi_floor, rule.psi_factor * q99)
    return Signal(
        level=level, cause=f"{family}:{name}", columns=(name,), value=psi, threshold=threshold,
        ratio=_ratio(psi, threshold), fires=psi >= threshold,
        message=f"{name}: PSI {psi:.3f} {against}, and below {threshold:.3f} is normal",
    )  # fmt: skip


def _judge_week(evidence: NightEvidence, spec: Monitoring) -> Iterator[Signal]:
    """The score is held to more than inputs are: readers see it, and gross faults of inputs show as L1 or L2."""
    for one in evidence.week:
        rule = spec.weekly if one.name == SCORE else spec.weekly_inputs
        against = "of the trailing 7 days against the reference"
        yield _judge_psi("L3", "psi_week", one.name, one.psi, one.psi_q99, rule, against)
    if evidence.domain is not None:
        yield _judge_domain(evidence.domain)


def _judge_domain(found: DomainClassifier) -> Signal:
    """One cause whichever column is strongest, which may be another one each night of the same shift."""
    ratio = _ratio(max(found.auc - 0.5, 0.0), found.threshold - 0.5)
    fires = ratio >= 1
    message = f"a classifier tells the trailing 7 days from the reference with AUC {found.auc:.3f}, and below "
    message += f"{found.threshold:.3f} is normal; by {', '.join(found.columns) or 'no single column'}"
    message += f"; {found.detail}" if found.detail else ""
    return Signal(
        level="L3", cause="domain", columns=found.columns,
        value=found.auc, threshold=found.threshold, ratio=ratio, fires=fires, message=message,
    )  # fmt: skip


def _judge_swaps(evidence: NightEvidence) -> Iterator[Signal]:
    """No distribution shows it, and chance does not exchange two levels: it needs no second night."""
    for one in evidence.swaps:
        pairs = ", ".join(f"{first} and {second}" for first, second in one.pairs)
        message = f"{one.name}: the rows of {pairs} look like each other's rows of the reference: were codes swapped?"
        yield Signal(
            level="L3", cause=f"swap:{one.name}", columns=(one.name,), value=len(one.pairs), threshold=1,
            ratio=_ratio(len(one.pairs), 1), fires=bool(one.pairs), at_once=True, message=message,
        )  # fmt: skip


def _judge_outcomes(outcomes: MatureOutcomes, spec: Outcomes, cusum: CusumState) -> Iterator[Signal]:
    for side, top in (("above", cusum.top_above), ("below", cusum.top_below)):
        if top is not None:
            message = f"outcomes lie {side} the predictions: their CUSUM is {top:.3g} standard deviations, and at most "
            yield Signal(
                level="L4", cause=f"outcomes:{side}", value=top, threshold=spec.limit, ratio=_ratio(top, spec.limit),
                fires=top > spec.limit, message=f"{message}{spec.limit:g} is normal{_losses(outcomes)}",
            )  # fmt: skip


def _losses(outcomes: MatureOutcomes) -> str:
    """The champion beside its held-out figure and the constant, as far as they are known."""
    beside = (("", outcomes.champion_loss), (" held out", outcomes.held_out_loss), (" of the constant",
              outcomes.constant_loss))  # fmt: skip
    known = [f"{loss:.4f}{words}" for words, loss in beside if loss is not None]
    return f"; {outcomes.loss} over {outcomes.days} mature days: {', '.join(known)}" if known else ""
