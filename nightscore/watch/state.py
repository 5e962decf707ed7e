"""The watch as one machine: (state, event) → (state, decisions), pure, and all of it goes to JSON and back.

An event is the evidence of a night, or what a person or the gate did in between. Whoever keeps the events can replay
them under another policy. A night that is judged again on other evidence starts from the state before it.
Added here: the order in which the parts of the watch act, and what they share. Not here: the rules of a part.
"""

import hashlib
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from nightscore.errors import Permanent
from nightscore.spec.monitoring import Monitoring, Policy
from nightscore.watch.evidence import Fact, NightDecision, NightEvidence
from nightscore.watch.incidents import Ledger, Tonight, accept, close, follow, retire
from nightscore.watch.levels import CusumState, Signal, advance_cusum, judge
from nightscore.watch.retraining import History, decide_retraining


class Excluded(Fact):
    """A night that training leaves out, and the L1 causes that showed on it."""

    night: date
    causes: tuple[str, ...]

    def without(self, accepted: frozenset[str]) -> "Excluded":
        """The same, but for causes that a person has called normal."""
        return self.model_copy(update={"causes": tuple(cause for cause in self.causes if cause not in accepted)})


class MonitorState(Fact):
    """All that the watch of a pipeline remembers after `night`; `fingerprint` is that of the night's evidence."""

    pipeline: str
    night: date | None = None
    fingerprint: str = ""
    reference: str = ""
    ledger: Ledger = Ledger()
    cusum: CusumState = CusumState()
    training: History = History()
    excluded: tuple[Excluded, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def excluded_dates(self) -> tuple[date, ...]:
        """Score dates that no training may use."""
        return tuple(one.night for one in self.excluded)


class IncidentAccepted(Fact):
    """A person calls an incident the new normal."""

    kind: Literal["accept"] = "accept"
    incident_id: str
    on: date
    actor: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class IncidentClosed(Fact):
    """A person ends an incident, and says whether it was a false alarm."""

    kind: Literal["close"] = "close"
    incident_id: str
    on: date
    actor: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    false_alarm: bool = False


class GatePromoted(Fact):
    """The gate made a version champion without a person."""

    kind: Literal["promoted"] = "promoted"
    on: date


Event = Annotated[NightEvidence | IncidentAccepted | IncidentClosed | GatePromoted, Field(discriminator="kind")]
EVENTS: TypeAdapter[list[Event]] = TypeAdapter(list[Event])
"""Reads and writes a list of events as JSON."""
Answer = tuple[MonitorState, tuple[NightDecision, ...]]


def step(state: MonitorState, event: Event, policy: Policy) -> Answer:
    """The state after any event, and what was decided."""
    match event:
        case NightEvidence():
            return advance(state, event, policy)
        case IncidentAccepted():
            return _accept(state, event, policy)
        case IncidentClosed():
            ledger, decision = close(
                state.ledger, event.incident_id, event.on, event.actor, event.reason, event.false_alarm
            )
            return state.model_copy(update={"ledger": ledger}), (decision,)
        case GatePromoted():
            return state.model_copy(update={"training": state.training.with_promotion(event.on)}), ()


def replay(events: Iterable[Event], policy: Policy, state: MonitorState) -> Answer:
    """All events in turn, from `state` on: the last state, and every decision in order."""
    decisions: list[NightDecision] = []
    for event in events:
        state, made = step(state, event, policy)
        decisions += made
    return state, tuple(decisions)


def advance(state: MonitorState, evidence: NightEvidence, policy: Policy) -> Answer:
    """The state after the night of `evidence`, and what was decided on it.

    The same evidence again changes and decides nothing. Raises Permanent for a night that is not after the state's, for
    its night with other evidence, and for another pipeline.
    """
    fingerprint = hashlib.sha256(evidence.model_dump_json().encode()).hexdigest()
    if (evidence.pipeline, evidence.score_date, fingerprint) == (state.pipeline, state.night, state.fingerprint):
        return state, ()
    _require_next(state, evidence)
    renewed = state.reference not in ("", evidence.reference)
    state = _forget_reference(state) if renewed else state
    cusum = advance_cusum(state.cusum, evidence.outcomes, policy.monitoring.outcomes)
    judged, ledger = judge(evidence, policy.monitoring, cusum), state.ledger
    tonight = Tonight(
        evidence.pipeline, evidence.score_date, judged.signals, ledger.baselines, policy.monitoring.incidents
    )
    ledger, retired = retire(ledger, tonight, evidence.reference) if renewed else (ledger, [])
    ledger, changed = follow(ledger, tonight)
    training, retrain = decide_retraining(
        evidence.pipeline, evidence.score_date, policy, state.training, evidence.labels, ledger.open
    )
    after = MonitorState(
        pipeline=state.pipeline, night=evidence.score_date, fingerprint=fingerprint, reference=evidence.reference,
        ledger=ledger, cusum=_told(cusum, ledger, tonight), training=training,
        excluded=(*state.excluded, *_excluded(tonight)), notes=judged.notes,
    )  # fmt: skip
    return after, (*_blocked(tonight), *retired, *changed, *([retrain] if retrain else []))


def find_blocking(state: MonitorState, evidence: NightEvidence, spec: Monitoring) -> tuple[Signal, ...]:
    """The L1 signals that hold the predictions of a night back, whatever the night: they need nothing but its rows.

    What a person has accepted as normal against the same reference does not.
    """
    baselines = state.ledger.baselines if state.reference in ("", evidence.reference) else {}
    judged = judge(evidence, spec, CusumState())
    tonight = Tonight(evidence.pipeline, evidence.score_date, judged.signals, baselines, spec.incidents)
    return tuple(one for one in tonight.shown if one.level == "L1")


def _require_next(state: MonitorState, evidence: NightEvidence) -> None:
    night, attempted = evidence.score_date, f"Watching the night of {evidence.score_date} of {evidence.pipeline}"
    if evidence.pipeline != state.pipeline:
        raise Permanent(attempted, f"the state is that of {state.pipeline}", "give the state of the same pipeline")
    if state.night is not None and night < state.night:
        found = f"the state stands at {state.night} already: nights are judged in order"
        raise Permanent(attempted, found, f"start from the state before {night}, and judge every later night again")
    if night == state.night:
        found = "the night was judged already, on other evidence"
        raise Permanent(attempted, found, f"start from the state before {night}")


def _forget_reference(state: MonitorState) -> MonitorState:
    """What was measured or accepted against another reference says nothing about this one."""
    ledger = state.ledger.model_copy(update={"streaks": {}, "baselines": {}})
    return state.model_copy(update={"ledger": ledger, "cusum": CusumState(day=state.cusum.day)})


def _told(cusum: CusumState, ledger: Ledger, tonight: Tonight) -> CusumState:
    """The sums begin anew once their alarm is an incident."""
    known = {key for one in ledger.open for key in one.keys}
    told = any(one.level == "L4" and one.cause in known for one in tonight.shown)
    return cusum.renewed() if told else cusum


def _l1(tonight: Tonight) -> list[str]:
    return [one.cause for one in tonight.shown if one.level == "L1"]


def _excluded(tonight: Tonight) -> list[Excluded]:
    causes = _l1(tonight)
    return [Excluded(night=tonight.night, causes=tuple(causes))] if causes else []


def _blocked(tonight: Tonight) -> list[NightDecision]:
    """L1 holds the night back on every night that it shows; the incident tells people, and only once."""
    shown = [one for one in tonight.shown if one.level == "L1"]
    if not shown:
        return []
    return [
        NightDecision(
            pipeline=tonight.pipeline, night=tonight.night, kind="publish", subject=str(tonight.night),
            verdict="blocked", reason="; ".join(one.message for one in shown), rules=tuple(_l1(tonight)),
        )
    ]  # fmt: skip


def _accept(state: MonitorState, event: IncidentAccepted, policy: Policy) -> Answer:
    """Nights that only the accepted causes spoke against are fit for training again."""
    ledger, decision = accept(
        state.ledger, event.incident_id, event.on, event.actor, event.reason, policy.monitoring.incidents
    )
    accepted = next(one for one in ledger.incidents if one.incident_id == event.incident_id)
    excluded = [one.without(accepted.keys) if one.night >= accepted.opened else one for one in state.excluded]
    cusum = state.cusum.rebased() if "L4" in accepted.levels else state.cusum
    kept = tuple(one for one in excluded if one.causes)
    return state.model_copy(update={"ledger": ledger, "excluded": kept, "cusum": cusum}), (decision,)
