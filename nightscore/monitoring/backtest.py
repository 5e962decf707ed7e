"""A policy on trial: what the nights that were watched come to under another policy, beside the one in force.

Evidence is kept as it was measured, so whatever acts when a night is judged can be tried on it; nothing is written.
Added here: a figure that policies are compared by, or a setting that no replay can try. Not here: how nights are judged
(`nightscore/watch`), or what they are judged by (`nightscore/spec/monitoring.py`).
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, get_args

from pydantic import ValidationError

from nightscore.catalog.watch import events_of_watch
from nightscore.errors import NotEnoughData, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.nights import policy_hash, policy_of
from nightscore.spec.learning_rules import check_learning
from nightscore.spec.loader import MAX_BYTES, REMEDY
from nightscore.spec.monitoring import Policy
from nightscore.spec.pipeline import Finding, Location, Pipeline
from nightscore.spec.promotion import Promotion
from nightscore.spec.translation import translate
from nightscore.spec.yaml_nodes import Document, Fault, read_yaml, show
from nightscore.watch.evidence import NightDecision, NightEvidence
from nightscore.watch.incidents import QUARTER_DAYS, Incident
from nightscore.watch.levels import Level
from nightscore.watch.state import EVENTS, Event, IncidentAccepted, IncidentClosed, MonitorState, step
from nightscore.watch.verdicts import load_state

TRIED_OF_PROMOTION = ("approve", "cooldown_days", "max_in_30_days")
"""What a replay reads of `promotion`; the rest acts when versions are compared, which no replay repeats."""
NOT_TRIED: dict[Location, str] = {
    ("monitoring", "daily_variance_share"): "acts when the reference is measured",
    ("monitoring", "outcomes", "wait_days"): "acts when outcomes are measured",
    **{
        ("promotion", name): "acts when versions are compared"
        for name in Promotion.model_fields
        if name not in TRIED_OF_PROMOTION
    },
}
"""Settings that act before the evidence is kept, or after a decision: a replay is the same whatever they are."""

Sections = dict[str, Any]
"""Sections of a spec as plain data."""


@dataclass(frozen=True)
class Trial:
    """What all events came to under one policy; `skipped` are dates of decisions of people that met no incident."""

    policy: Policy
    state: MonitorState
    decisions: tuple[NightDecision, ...]
    skipped: tuple[date, ...]


@dataclass(frozen=True)
class LevelFigures:
    """Incidents of one level; days open count to the last night for one that still is, None where there is none."""

    opened: int
    false_alarms: int
    median_days_open: float | None


@dataclass(frozen=True)
class Figures:
    """One policy in figures over the nights compared; the rates are per 91 nights."""

    policy: str
    nights: int
    blocked: int
    levels: Mapping[str, LevelFigures]
    incidents_per_quarter: float
    false_per_quarter: float
    tolerated_per_quarter: int
    told: int
    attempts: int
    asks: int
    refusals: int
    skipped: int


@dataclass(frozen=True)
class Backtest:
    """Both policies over the nights from `first` to `last`, and the decisions that only one of them makes."""

    pipeline: str
    first: date
    last: date
    present: Figures
    other: Figures
    only_present: tuple[NightDecision, ...]
    only_other: tuple[NightDecision, ...]


def read_policy(path: Path, pipeline: Pipeline) -> Policy:
    """The policy in force with the sections that the YAML file has in their place, each as it would stand in the spec.

    SpecError names every finding as `file:line: key path: found …, expected …`; a setting that no replay can try is
    one, unless it is as in the spec.
    """
    document = _document(path)
    policy, findings = _validate(document.data, pipeline) if document.whole else (None, [])
    usable = [one for one in findings if not any(one[0][: len(hole)] == hole for hole in document.holes)]
    faults = [*document.faults, *(Fault(document.line_of(where), where, *said) for where, *said in usable)]
    if policy is None or faults:
        shown = [fault.render(path.name) for fault in sorted(faults, key=lambda fault: fault.line)]
        raise SpecError(f"Reading the policy {path}", shown, REMEDY)
    return policy


def _document(path: Path) -> Document:
    try:
        content = path.read_bytes()
        if len(content) <= MAX_BYTES:
            return read_yaml(content.decode("utf-8"))
        found = f"{len(content):,} bytes"
    except OSError as error:
        found = f"no readable file ({error.strerror})"
    except UnicodeDecodeError:
        found = "bytes that are not UTF-8"
    return Document(faults=[Fault(1, (), found, f"a YAML file in UTF-8 of at most {MAX_BYTES:,} bytes")])


def _validate(data: object, pipeline: Pipeline) -> tuple[Policy | None, list[Finding]]:
    given = data if isinstance(data, dict) else {}
    known = {name: given[name] for name in Policy.model_fields if name in given}
    allowed = " or ".join(Policy.model_fields)
    findings: list[Finding] = [((name,), "an unknown key", f"{allowed}") for name in given if name not in known]
    if not given:
        findings.append(((), show(data), f"a mapping with {allowed}"))
    standing = policy_of(pipeline).model_dump(mode="json")
    try:
        policy = Policy.model_validate_json(json.dumps(standing | known), strict=True)
    except ValidationError as error:
        findings += translate(error)
        return None, [*findings, *_not_tried(known, standing, {where for where, *_ in findings})]
    wanted = policy.model_dump(mode="json")
    return policy, [*findings, *_contradictions(policy, pipeline), *_not_tried(wanted, standing, set())]


def _contradictions(policy: Policy, pipeline: Pipeline) -> list[Finding]:
    """What the spec's own rules say of the sections, as if they stood in it."""
    trial = pipeline.model_copy(update=dict(policy))
    return [one for one in check_learning(trial) if one[0][:1] in {(name,) for name in Policy.model_fields}]


def _not_tried(wanted: Sections, standing: Sections, told: Collection[Location]) -> Iterator[Finding]:
    """Settings of `wanted` that differ and that no replay can try, but for those of which something else is `told`."""
    for where, why in NOT_TRIED.items():
        new, old = _at(wanted, where), _at(standing, where)
        if new not in (None, old) and where not in told:
            yield where, show(new), f"{show(old)}, as in the spec: it {why}, and no replay can try it"


def _at(sections: Sections, where: Location) -> Any:
    """The value at `where`; None when there is none."""
    found: Any = sections
    for name in where:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def backtest(
    workspace: Workspace, pipeline: Pipeline, policy: Policy, first: date | None = None, last: date | None = None
) -> Backtest:
    """Replay every night that was watched, and what people decided, under `policy` and under the one in force.

    The replay begins at the first night and ends on `last`; figures and differences are of the nights from `first` on.
    Raises NotEnoughData when the watch has judged none of them.
    """
    with workspace.engine.connect() as connection:
        kept = events_of_watch(connection, pipeline.name)
        causes = {one.incident_id: one.cause for one in load_state(connection, pipeline).ledger.incidents}
    events = EVENTS.validate_python([dict(one.body) for one in kept if last is None or one.score_date <= last])
    present, other = (try_policy(pipeline.name, events, one, causes) for one in (policy_of(pipeline), policy))
    nights = [one.score_date for one in events if isinstance(one, NightEvidence)]
    nights = [night for night in nights if first is None or night >= first]
    if not nights:
        watched = sorted({one.score_date for one in kept})
        found = f"the watch judged nights from {watched[0]} to {watched[-1]}" if watched else "no night was watched yet"
        raise NotEnoughData(f"Back-testing a policy of {pipeline.name}", found, "choose nights that were watched")
    return compare(present, other, nights)


def try_policy(pipeline: str, events: Iterable[Event], policy: Policy, causes: Mapping[str, str]) -> Trial:
    """All events in turn under `policy`, from the beginning.

    `causes` gives the cause of each incident that people decided on. A decision is taken for the open incident of the
    same id, or else of the same cause, which another policy may open on another night; without one it is skipped.
    """
    state, decisions, skipped = MonitorState(pipeline=pipeline), list[NightDecision](), list[date]()
    for event in events:
        if isinstance(event, IncidentAccepted | IncidentClosed):
            meant = _meant(event, state, causes)
            if meant is None:
                skipped.append(event.on)
                continue
            state, made = step(state, event.model_copy(update={"incident_id": meant}), policy)
        else:
            state, made = step(state, event, policy)
        decisions += made
    return Trial(policy, state, tuple(decisions), tuple(skipped))


def _meant(event: IncidentAccepted | IncidentClosed, state: MonitorState, causes: Mapping[str, str]) -> str | None:
    there = [one for one in state.ledger.open if one.opened <= event.on]
    same = [one.incident_id for one in there if one.incident_id == event.incident_id]
    alike = [one.incident_id for one in there if causes.get(event.incident_id) in one.keys]
    return next(iter([*same, *alike]), None)


def compare(present: Trial, other: Trial, nights: Sequence[date]) -> Backtest:
    """Two trials over the same `nights`, in order and at least one, as figures and as decisions that differ.

    Decisions are the same when night, kind, verdict, the incident's cause and who may promote are.
    """
    first, last = nights[0], nights[-1]
    mine, theirs = ([one for one in trial.decisions if first <= one.night <= last] for trial in (present, other))
    return Backtest(
        present.state.pipeline, first, last, _figures(present, mine, nights), _figures(other, theirs, nights),
        _only(mine, theirs), _only(theirs, mine),
    )  # fmt: skip


def _only(made: Sequence[NightDecision], elsewhere: Sequence[NightDecision]) -> tuple[NightDecision, ...]:
    known = {_identity(one) for one in elsewhere}
    return tuple(one for one in made if _identity(one) not in known)


def _identity(one: NightDecision) -> tuple[object, ...]:
    cause = one.rules[:1] if one.kind == "incident" else ()
    return one.night, one.kind, one.verdict, cause, one.promotion


def _figures(trial: Trial, decisions: Sequence[NightDecision], nights: Sequence[date]) -> Figures:
    first, last = nights[0], nights[-1]
    opened = [one for one in trial.state.ledger.incidents if first <= one.opened <= last]
    quarters = len(nights) / QUARTER_DAYS
    said = [(one.kind, one.verdict) for one in decisions]
    return Figures(
        policy=policy_hash(trial.policy), nights=len(nights), blocked=said.count(("publish", "blocked")),
        levels={level: _level([one for one in opened if one.level == level], last) for level in get_args(Level)},
        incidents_per_quarter=len(opened) / quarters,
        false_per_quarter=sum(one.false_alarm for one in opened) / quarters,
        tolerated_per_quarter=trial.policy.monitoring.incidents.false_per_quarter,
        told=sum(one.tell for one in decisions), attempts=said.count(("retrain", "attempt")),
        asks=said.count(("retrain", "ask")), refusals=said.count(("retrain", "no_attempt")),
        skipped=sum(first <= on <= last for on in trial.skipped),
    )  # fmt: skip


def _level(incidents: Sequence[Incident], last: date) -> LevelFigures:
    days = [((one.closed or last) - one.opened).days for one in incidents]
    false_alarms = sum(one.false_alarm for one in incidents)
    return LevelFigures(len(incidents), false_alarms, float(median(days)) if days else None)
