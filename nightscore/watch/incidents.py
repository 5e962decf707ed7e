"""Incidents: one alarm for one cause, told once, followed until it is quiet, accepted or closed by a person.

Which signals are one incident: the same cause; what opens on the same night at the same level, or at L2 to L4 within
the nights that a cause needs to show; another check of the same column (an L1 is always told by itself, and explains
the drift of its column); and, on nights when rows, keys, schema or inputs are wrong, every distribution of that night,
and its labels.
Added here: a rule of grouping, opening or closing. Not here: thresholds (`levels.py`), or telling people (`alerts.py`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal

from pydantic import Field

from nightscore.errors import Permanent
from nightscore.spec.monitoring import Incidents
from nightscore.watch.evidence import Fact, NightDecision
from nightscore.watch.levels import NIGHT_WIDE, Level, Signal

QUARTER_DAYS = 91
_WEEK_DAYS = 7
_DRIFT = frozenset({"L2", "L3"})


class Cause(Fact):
    """One cause of an incident: how it was on its worst night."""

    key: str
    level: Level
    worst: Signal
    worst_on: date

    def seen(self, signal: Signal | None, night: date) -> "Cause":
        """With tonight's signal, when that is the worst."""
        worse = signal is not None and signal.fires and signal.ratio > self.worst.ratio
        return self.model_copy(update={"worst": signal, "worst_on": night}) if worse else self


class Incident(Fact):
    """A stateful alarm. `causes` open and close it, the first one names it; `also` holds what it explains.

    `nights` counts those on which a cause of its own showed, `quiet` the quiet ones in a row since.
    """

    incident_id: str
    pipeline: str
    level: Level
    status: Literal["open", "closed", "accepted"] = "open"
    opened: date
    last_seen: date
    closed: date | None = None
    nights: int = 1
    quiet: int = 0
    causes: tuple[Cause, ...]
    also: tuple[Cause, ...] = ()
    actor: str | None = None
    reason: str = ""
    false_alarm: bool = False

    @property
    def cause(self) -> str:
        """The key of the cause that it was opened for."""
        return self.causes[0].key

    @property
    def keys(self) -> frozenset[str]:
        """Its own causes."""
        return frozenset(cause.key for cause in self.causes)

    @property
    def levels(self) -> frozenset[str]:
        """The levels of its own causes."""
        return frozenset(cause.level for cause in self.causes)

    @property
    def columns(self) -> frozenset[str]:
        """The column that each of its own causes is most about."""
        return frozenset(cause.worst.columns[0] for cause in self.causes if cause.worst.columns)

    @property
    def messages(self) -> tuple[str, ...]:
        """The worst of each cause, in plain words."""
        return tuple(cause.worst.message for cause in self.causes)


class Baseline(Fact):
    """The level at which a person accepted a cause as normal, in multiples of its threshold."""

    ratio: float
    incident_id: str
    on: date
    actor: str
    reason: str


class Ledger(Fact):
    """What is known of incidents after a night.

    `streaks`: for causes that are of no open incident, whether they showed on the newest nights they were measured.
    """

    incidents: tuple[Incident, ...] = ()
    streaks: dict[str, tuple[bool, ...]] = Field(default_factory=dict)
    baselines: dict[str, Baseline] = Field(default_factory=dict)

    @property
    def open(self) -> tuple[Incident, ...]:
        """The incidents that are open, oldest first."""
        return tuple(one for one in self.incidents if one.status == "open")


class Tonight:
    """The signals of one night by their cause, rebased on what was accepted."""

    def __init__(
        self, pipeline: str, night: date, signals: Iterable[Signal], baselines: Mapping[str, Baseline], spec: Incidents
    ) -> None:
        self.pipeline, self.night, self.spec = pipeline, night, spec
        self.signals = [_rebase(signal, baselines.get(signal.cause), spec) for signal in signals]
        self.shown = [signal for signal in self.signals if signal.fires]
        self._by_cause = {signal.cause: signal for signal in self.signals}

    def measured(self, cause: str) -> Signal | None:
        """The signal of `cause`; a check that found nothing may speak for its whole family; None when unmeasured."""
        return self._by_cause.get(cause) or self._by_cause.get(cause.partition(":")[0])


def _rebase(signal: Signal, baseline: Baseline | None, spec: Incidents) -> Signal:
    if baseline is None:
        return signal
    beyond = max(baseline.ratio, 1.0) * spec.accepted_margin
    ratio = signal.ratio / beyond
    message = f"{signal.message}; accepted as normal up to {beyond:.3g} times that"
    return signal.model_copy(update={"ratio": ratio, "fires": signal.fires and ratio > 1, "message": message})


def follow(ledger: Ledger, tonight: Tonight) -> tuple[Ledger, list[NightDecision]]:
    """The incidents after tonight, and which of them opened, grew or closed."""
    followed = [_follow(one, tonight) if one.status == "open" else one for one in ledger.incidents]
    decisions = [
        _say(one, tonight.night, "closed", one.reason)
        for one, before in zip(followed, ledger.incidents, strict=True)
        if one.status != before.status
    ]
    claimed = {key for one in followed if one.status == "open" for key in one.keys}
    followed, free = _cover(followed, [signal for signal in tonight.shown if signal.cause not in claimed], tonight)
    streaks = _streaks(ledger.streaks, free, tonight)
    ripe = [one for one in free if one.at_once or sum(streaks[one.cause]) >= tonight.spec.needed]
    for group in _groups(ripe):
        # What opened a moment ago, at a more severe level, may explain the rest.
        followed, left = _cover(followed, group, tonight)
        if left:
            followed, decision = _open_or_join(followed, left, tonight)
            decisions.append(decision)
    claimed = {key for one in followed if one.status == "open" for key in (*one.keys, *(also.key for also in one.also))}
    streaks = {cause: shown for cause, shown in sorted(streaks.items()) if cause not in claimed}
    return ledger.model_copy(update={"incidents": tuple(followed), "streaks": streaks}), decisions


def _follow(incident: Incident, tonight: Tonight) -> Incident:
    """An open incident after tonight; a night that cannot measure every cause is neither quiet nor loud."""
    signals = [tonight.measured(cause.key) for cause in incident.causes]
    causes = tuple(cause.seen(signal, tonight.night) for cause, signal in zip(incident.causes, signals, strict=True))
    if any(signal is not None and signal.fires for signal in signals):
        update = {"causes": causes, "last_seen": tonight.night, "nights": incident.nights + 1, "quiet": 0}
        return incident.model_copy(update=update)
    if any(signal is not None and signal.ratio >= tonight.spec.quiet_below for signal in signals):
        return incident.model_copy(update={"quiet": 0})
    if any(signal is None for signal in signals):
        return incident
    quiet = incident.quiet + 1
    if quiet < tonight.spec.quiet_nights:
        return incident.model_copy(update={"quiet": quiet})
    words = f"quiet for {quiet} nights, below {tonight.spec.quiet_below:g} of every threshold"
    return incident.model_copy(update={"quiet": quiet, "status": "closed", "closed": tonight.night, "reason": words})


def _streaks(
    before: Mapping[str, tuple[bool, ...]], free: Sequence[Signal], tonight: Tonight
) -> dict[str, tuple[bool, ...]]:
    """Of causes that showed lately and that nothing explains; a night without a measure leaves them as they were."""
    shown = {signal.cause for signal in free}
    found = {}
    for cause in {*before, *shown}:
        measured = cause in shown or tonight.measured(cause) is not None
        newest = (*before.get(cause, ()), cause in shown) if measured else before[cause]
        if any(newest[-tonight.spec.of :]):
            found[cause] = newest[-tonight.spec.of :]
    return found


def _groups(signals: Sequence[Signal]) -> list[list[Signal]]:
    """By level, the most severe first; late labels are no drift."""
    groups: dict[tuple[str, bool], list[Signal]] = {}
    for signal in sorted(signals, key=lambda one: one.level):
        groups.setdefault((signal.level, signal.family == "labels"), []).append(signal)
    return list(groups.values())


def _cover(
    incidents: Sequence[Incident], signals: Sequence[Signal], tonight: Tonight
) -> tuple[list[Incident], list[Signal]]:
    """The incidents with the signals that they explain, and the signals that none does."""
    found, left = list(incidents), []
    for signal in signals:
        at = next((at for at, one in enumerate(found) if _explains(one, signal, tonight.night)), None)
        if at is None:
            left.append(signal)
        else:
            found[at] = _with(found[at], signal, tonight.night)
    return found, left


def _explains(incident: Incident, signal: Signal, night: date) -> bool:
    if incident.status != "open" or signal.level == "L4" or incident.level == "L4":
        return False
    if signal.family == "labels":  # they come with the rows, so what keeps those away explains them, that night
        return incident.level == "L1" and _distorts(incident, signal.level, night)
    if signal.level == "L1" and incident.level != "L1":
        return False
    return bool(incident.columns & set(signal.columns[:1])) or _distorts(incident, signal.level, night)


def _distorts(incident: Incident, level: Level, night: date) -> bool:
    """A wrong number of rows and the like distorts its own night, and every week with that night in it."""
    wide = any(NIGHT_WIDE & {cause.key, cause.worst.family} for cause in incident.causes)
    return wide and (night - incident.last_seen).days < (_WEEK_DAYS if level == "L3" else 1)


def _with(incident: Incident, signal: Signal, night: date) -> Incident:
    """A cause of its own, or, of drift below an L1, one that it explains and that does not keep it open."""
    own = signal.level == "L1" or incident.level in _DRIFT
    field = "causes" if own else "also"
    known = {cause.key: cause for cause in getattr(incident, field)}
    before = known.get(signal.cause)
    known[signal.cause] = before.seen(signal, night) if before else _cause(signal, night)
    update: dict[str, object] = {field: tuple(known.values())}
    if own:
        again = incident.nights + (incident.last_seen != night)
        update |= {"last_seen": night, "nights": again, "quiet": 0}
    return incident.model_copy(update=update)


def _cause(signal: Signal, night: date) -> Cause:
    return Cause(key=signal.cause, level=signal.level, worst=signal, worst_on=night)


def _open_or_join(
    incidents: list[Incident], group: Sequence[Signal], tonight: Tonight
) -> tuple[list[Incident], NightDecision]:
    """One incident for the group; below L1 that of the same level which opened a night or two ago."""
    night, lead = tonight.night, group[0]
    causes = tuple(_cause(signal, night) for signal in group)
    for at, one in enumerate(incidents):
        new = one.status == "open" and one.level == lead.level and (night - one.opened).days < tonight.spec.of
        if new and lead.level != "L1" and not any("labels" in (c.worst.family, lead.family) for c in one.causes):
            update = {"causes": (*one.causes, *causes), "last_seen": night, "quiet": 0}
            joined = one.model_copy(update={**update, "nights": one.nights + (one.last_seen != night)})
            decision = _say(joined, night, "joined", "; ".join(signal.message for signal in group))
            return [*incidents[:at], joined, *incidents[at + 1 :]], decision
    opened = Incident(
        incident_id=incident_id(tonight.pipeline, lead.cause, night), pipeline=tonight.pipeline, level=lead.level,
        opened=night, last_seen=night, causes=causes,
    )  # fmt: skip
    return [*incidents, opened], _say(opened, night, "opened", "; ".join(opened.messages), tell=True)


def incident_id(pipeline: str, cause: str, opened: date) -> str:
    """The same for the same cause and night, whoever computes it: 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps([pipeline, cause, opened.isoformat()]).encode()).hexdigest()[:12]


def _say(
    incident: Incident, night: date, verdict: Literal["opened", "joined", "closed", "accepted"], reason: str,
    tell: bool = False,
) -> NightDecision:  # fmt: skip
    return NightDecision(
        pipeline=incident.pipeline, night=night, kind="incident", subject=incident.incident_id, verdict=verdict,
        reason=f"{incident.level} {incident.cause}: {reason}", rules=tuple(one.key for one in incident.causes),
        tell=tell,
    )  # fmt: skip


def retire(ledger: Ledger, tonight: Tonight, reference: str) -> tuple[Ledger, list[NightDecision]]:
    """After a change of the reference: causes that it does not measure are gone, and incidents of nothing else end."""
    found, decisions = [], []
    for one in ledger.incidents:
        causes = tuple(cause for cause in one.causes if tonight.measured(cause.key) is not None)
        if one.status != "open" or len(causes) == len(one.causes):
            found.append(one)
        elif causes:
            found.append(one.model_copy(update={"causes": causes}))
        else:
            reason = f"the reference is now that of {reference}, which does not measure it"
            found.append(one.model_copy(update={"status": "closed", "closed": tonight.night, "reason": reason}))
            decisions.append(_say(found[-1], tonight.night, "closed", reason))
    return ledger.model_copy(update={"incidents": tuple(found)}), decisions


def accept(
    ledger: Ledger, wanted: str, on: date, actor: str, reason: str, spec: Incidents
) -> tuple[Ledger, NightDecision]:  # fmt: skip
    """The incident is the new normal: its causes show again only beyond their worst night. Permanent unless open.

    For L4 the sums are to be rebased too (`CusumState.rebased`): no multiple of a threshold stops a sum.
    """
    incident = _require_open(ledger, wanted, on, "Accepting")
    baselines = dict(ledger.baselines)
    for cause in (one for one in incident.causes if one.level != "L4"):
        before = baselines.get(cause.key)
        already = max(before.ratio, 1.0) * spec.accepted_margin if before else 1.0
        baselines[cause.key] = Baseline(
            ratio=cause.worst.ratio * already, incident_id=wanted, on=on, actor=actor, reason=reason
        )
    update = {"status": "accepted", "closed": on, "actor": actor, "reason": reason}
    accepted = incident.model_copy(update=update)
    kept = _replaced(ledger, accepted).model_copy(update={"baselines": dict(sorted(baselines.items()))})
    return kept, _say(accepted, on, "accepted", f"{actor}: {reason}")


def close(
    ledger: Ledger, wanted: str, on: date, actor: str, reason: str, false_alarm: bool = False
) -> tuple[Ledger, NightDecision]:  # fmt: skip
    """A person ends the incident; the same cause opens another when it shows again. Permanent unless open."""
    incident = _require_open(ledger, wanted, on, "Closing")
    update = {"status": "closed", "closed": on, "actor": actor, "reason": reason, "false_alarm": false_alarm}
    closed = incident.model_copy(update=update)
    return _replaced(ledger, closed), _say(closed, on, "closed", f"{actor}: {reason}")


def _replaced(ledger: Ledger, incident: Incident) -> Ledger:
    found = tuple(incident if one.incident_id == incident.incident_id else one for one in ledger.incidents)
    return ledger.model_copy(update={"incidents": found})


def _require_open(ledger: Ledger, wanted: str, on: date, doing: str) -> Incident:
    incident = next((one for one in ledger.incidents if one.incident_id == wanted), None)
    if incident is None:
        found = f"there is no such incident; open are: {', '.join(one.incident_id for one in ledger.open) or 'none'}"
    elif incident.status != "open":
        found = f"it is {incident.status} since {incident.closed}: {incident.reason}"
    elif on < incident.opened:
        found = f"it was opened on {incident.opened}, after {on}"
    else:
        return incident
    raise Permanent(f"{doing} incident {wanted}", found, "see `nightscore incidents list`")


def false_alarms(incidents: Iterable[Incident], until: date, days: int = QUARTER_DAYS) -> int:
    """Incidents opened in the `days` up to `until` that a person called false; what the budget is held against."""
    return sum(one.false_alarm and 0 <= (until - one.opened).days < days for one in incidents)
