"""The watch of a night, told and kept: evidence in, state, incidents and decisions out, in one transaction.

A night that comes again on other evidence takes the place of what it was; what people decided since is told again.
A night before the newest only gets its verdict. Added here: what is kept when the watch moves. Not here: how it moves
(`nightscore/watch/state.py`), or what is known after a night is published (`follow_up.py`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.watch import (
    NIGHT,
    WatchVerdict,
    append_watch_event,
    events_of_watch,
    lock_watch,
    nights_of_events,
    replace_incidents,
    replace_signals,
    supersede_events,
)
from nightscore.errors import IncidentRefused, Permanent
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import enqueue_decision
from nightscore.monitoring.outcomes import label_arrival, label_freshness, mature_outcomes
from nightscore.spec.datasets import predictions_dataset
from nightscore.spec.monitoring import Policy
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.evidence import NightDecision, NightEvidence
from nightscore.watch.gather import gather_night, open_scored
from nightscore.watch.levels import Signal, judge
from nightscore.watch.state import EVENTS, Event, GatePromoted, IncidentAccepted, IncidentClosed, MonitorState, step
from nightscore.watch.verdicts import judge_content, load_state

ACTOR = "watch"


def policy_of(pipeline: Pipeline) -> Policy:
    """The sections of the spec that the watch follows."""
    return Policy(monitoring=pipeline.monitoring, promotion=pipeline.promotion)


def policy_hash(policy: Policy) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a policy: what a decision was made under."""
    content = json.dumps(policy.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def watch_nights(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Judge the current predictions of `nights`, in order, and move the watch on; what L1 shows on is blocked."""
    with timed_step(workspace, pipeline.name, "watch", nights, run_id) as log:
        for predictions in workspace.lake.require(predictions_dataset(pipeline.name), sorted(nights)):
            log.outcomes.append(_watch(workspace, pipeline, predictions, run_id))
    return log.outcomes


def _watch(workspace: Workspace, pipeline: Pipeline, predictions: PartitionVersion, run_id: str) -> NightOutcome:
    evidence = gather_evidence(workspace, pipeline, predictions)
    with workspace.engine.begin() as connection:
        lock_watch(connection, pipeline.name)
        _tell_promotions(connection, pipeline, evidence.score_date, run_id, workspace.clock.now())
        decisions = _tell_night(connection, pipeline, evidence, run_id, workspace.clock.now())
        verdict = judge_content(connection, workspace, pipeline, predictions, evidence, run_id)
    return _outcome(predictions, verdict, evidence, decisions, is_new=verdict.run_id == run_id)


def gather_evidence(workspace: Workspace, pipeline: Pipeline, predictions: PartitionVersion) -> NightEvidence:
    """All that is known of a night before it is published: its rows, the week behind it, and what has come true."""
    scored = open_scored(workspace, pipeline, predictions)
    rows, night = gather_night(workspace, pipeline, scored), scored.night
    labels = label_freshness(workspace, pipeline, night)
    return rows.model_copy(
        update={
            "freshness": (*rows.freshness, *([labels] if labels else [])),
            "outcomes": mature_outcomes(workspace, pipeline, scored.version, scored.capsule, night),
            "labels": label_arrival(workspace, pipeline, scored.version, night),
        }
    )


def tell_watch(workspace: Workspace, pipeline: Pipeline, event: IncidentAccepted | IncidentClosed) -> NightDecision:
    """What a person decided of an incident. Raises IncidentRefused where it is not open, and for a night to come."""
    with workspace.engine.begin() as connection:
        lock_watch(connection, pipeline.name)
        before = load_state(connection, pipeline)
        try:
            after, decisions = step(before, event, policy_of(pipeline))
        except Permanent as error:
            raise IncidentRefused(error.attempted, error.found, error.remedy) from error
        _keep(connection, pipeline, event, event.on, after, decisions, event.actor, "", workspace.clock.now())
    return decisions[0]


def _tell_night(
    connection: sa.Connection, pipeline: Pipeline, evidence: NightEvidence, run_id: str, now: datetime
) -> Sequence[NightDecision]:
    """Move the state on by a night; nothing for one before the newest, or that has not changed."""
    state, policy, night = load_state(connection, pipeline), policy_of(pipeline), evidence.score_date
    if state.night is not None and night < state.night:
        return ()
    if night == state.night:
        return _tell_again(connection, pipeline, evidence, run_id, now)
    after, decisions = step(state, evidence, policy)
    _keep(connection, pipeline, evidence, night, after, decisions, ACTOR, run_id, now)
    _keep_signals(connection, pipeline, evidence, after, now)
    return decisions


def _tell_again(
    connection: sa.Connection, pipeline: Pipeline, evidence: NightEvidence, run_id: str, now: datetime
) -> Sequence[NightDecision]:
    """The newest night on other evidence: from the state before it, and then what people have decided since."""
    policy, night = policy_of(pipeline), evidence.score_date
    since = next(told for told, day in nights_of_events(connection, pipeline.name, NIGHT) if day == night)
    again, unchanged = load_state(connection, pipeline, before=since), load_state(connection, pipeline)
    after, decisions = step(again, evidence, policy)
    if after.fingerprint == unchanged.fingerprint:
        return ()
    later = events_of_watch(connection, pipeline.name, since)
    known = {_said(one) for one in _decisions_of(connection, pipeline, night)}
    fresh = [one for one in decisions if _said(one) not in known]
    first = _keep(connection, pipeline, evidence, night, after, fresh, ACTOR, run_id, now)
    supersede_events(connection, pipeline.name, since, first)
    _keep_signals(connection, pipeline, evidence, after, now)
    for event in EVENTS.validate_python([dict(one.body) for one in later]):
        if not isinstance(event, NightEvidence):
            _tell_if_it_still_holds(connection, pipeline, event, run_id, now)
    return fresh


def _tell_if_it_still_holds(
    connection: sa.Connection, pipeline: Pipeline, event: IncidentAccepted | IncidentClosed | GatePromoted,
    run_id: str, now: datetime,
) -> None:  # fmt: skip
    """A decision on an incident that the new evidence does not show is void."""
    try:
        after, _ = step(load_state(connection, pipeline), event, policy_of(pipeline))
    except Permanent:
        return
    _keep(connection, pipeline, event, event.on, after, (), ACTOR, run_id, now)


def _said(one: Decision | NightDecision) -> tuple[str, ...]:
    """What makes two decisions of a night the same; a night has one answer on training, whatever figures it names."""
    return (one.kind, one.subject, one.verdict, *(() if one.kind == "retrain" else (one.reason,)))


def _decisions_of(connection: sa.Connection, pipeline: Pipeline, night: date) -> list[Decision]:
    recent = list_decisions(connection, pipeline.name, limit=200)
    return [one for one in recent if one.evidence.get("night") == str(night)]


def _tell_promotions(
    connection: sa.Connection, pipeline: Pipeline, night: date, run_id: str, now: datetime
) -> None:  # fmt: skip
    """Promotions by the gate, up to the night, that the ledger has and the watch was not told of yet."""
    told = {on for _, on in nights_of_events(connection, pipeline.name, "promoted")}
    made = list_decisions(connection, pipeline.name, kind="promotion", limit=1000)
    by_gate = [one for one in made if one.verdict == "promoted" and one.evidence.get("by") == "gate"]
    made_on = {date.fromisoformat(one.evidence["as_of"]) for one in by_gate}
    for on in sorted(day for day in made_on - told if day <= night):
        event = GatePromoted(on=on)
        after, _ = step(load_state(connection, pipeline), event, policy_of(pipeline))
        _keep(connection, pipeline, event, on, after, (), ACTOR, run_id, now)


def _keep(
    connection: sa.Connection, pipeline: Pipeline, event: Event, night: date, after: MonitorState,
    decisions: Sequence[NightDecision], actor: str, run_id: str, now: datetime,
) -> int:  # fmt: skip
    """The event, the state after it, its incidents, decisions and alerts; returns the event's id."""
    body, state = event.model_dump(mode="json"), after.model_dump(mode="json")
    event_id = append_watch_event(connection, pipeline.name, event.kind, night, body, state, run_id, now)
    replace_incidents(connection, pipeline.name, incident_rows(after, now))
    policy = policy_hash(policy_of(pipeline))
    for one in decisions:
        evidence = one.model_dump(mode="json", include={"rules", "not_before", "promotion", "night"})
        made = Decision(
            pipeline.name, one.kind, one.subject, one.verdict, one.reason, evidence | {"policy": policy}, actor, now
        )
        record_decision(connection, made)
        enqueue_decision(connection, one, now)
    return event_id


def incident_rows(state: MonitorState, now: datetime) -> list[Mapping[str, Any]]:
    """The incidents of a state, as readers and commands see them."""
    return [
        {
            "pipeline": one.pipeline, "incident_id": one.incident_id, "level": one.level, "status": one.status,
            "cause": one.cause, "columns": sorted(one.columns), "messages": list(one.messages),
            "opened": one.opened, "last_seen": one.last_seen, "closed": one.closed, "nights": one.nights,
            "actor": one.actor, "reason": one.reason, "false_alarm": one.false_alarm, "at": now,
        }
        for one in state.ledger.incidents
    ]  # fmt: skip


def _keep_signals(
    connection: sa.Connection, pipeline: Pipeline, evidence: NightEvidence, after: MonitorState, now: datetime
) -> None:
    signals = judge(evidence, pipeline.monitoring, after.cusum).signals
    rows = [_signal_row(one, evidence, now) for one in signals]
    replace_signals(connection, pipeline.name, evidence.score_date, rows)


def _signal_row(one: Signal, evidence: NightEvidence, now: datetime) -> Mapping[str, Any]:
    return {
        "pipeline": evidence.pipeline, "score_date": evidence.score_date, "cause": one.cause, "level": one.level,
        "column_name": one.columns[0] if one.columns else None, "value": one.value, "threshold": one.threshold,
        "ratio": one.ratio, "fires": one.fires, "message": one.message, "reference": evidence.reference, "at": now,
    }  # fmt: skip


def _outcome(
    predictions: PartitionVersion, verdict: WatchVerdict, evidence: NightEvidence, decisions: Sequence[NightDecision],
    *, is_new: bool,
) -> NightOutcome:  # fmt: skip
    said = [f"{one.kind} {one.verdict}: {one.reason}" for one in decisions]
    facts = {"reference": evidence.reference, "columns": len(evidence.columns), "decisions": said}
    passed: Literal["made", "reused"] = "made" if is_new else "reused"
    return NightOutcome(
        predictions.dataset, predictions.score_date, passed if verdict.passed else "blocked", predictions.rows,
        tuple(verdict.reasons), facts=facts,
    )  # fmt: skip
