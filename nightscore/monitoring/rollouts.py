"""What follows, night by night, from what a rollout and a new champion have shown: go on, grow, promote, or take back.

Evidence is paired over mature score dates; labels that are not mature count for nothing; too few dates mean to wait.
Added here: a consequence of a read-out. Not here: the read-out (`readouts.py`), or how a step is taken
(`registry/rollout.py`, `publishing/retreat.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.rollouts import Rollout, running_rollout
from nightscore.errors import AliasMissing, ChangesetRefused
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import deliver_alerts, enqueue_alert
from nightscore.monitoring.readouts import Readout, read_rollout, read_watch
from nightscore.publishing.retreat import retreat
from nightscore.registry.aliases import require_alias
from nightscore.registry.names import CHAMPION, PREVIOUS
from nightscore.registry.promotion import promote
from nightscore.registry.rollout import KIND, days_to_wait, end_rollout, grow, next_percent
from nightscore.registry.versions import require_version
from nightscore.spec.pipeline import Pipeline

WATCH = "watch"
ACTOR = "nightscore"
GOOD = frozenset({"better", "not_worse"})
Action = Literal["none", "waiting", "grown", "promoted", "taken_back", "asked", "watched"]


@dataclass(frozen=True)
class Review:
    """What became of tonight's look at a rollout or at a new champion."""

    action: Action
    reason: str
    subject: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


def review_rollout(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> Review:
    """Judge what runs, as known on `night`, and do what follows; without a rollout, watch the newest champion.

    People are told of what was decided, once it is committed.
    """
    review = _judge(workspace, pipeline, night, run_id)
    deliver_alerts(workspace)
    return review


def _judge(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> Review:
    with workspace.engine.connect() as connection:
        rollout = running_rollout(connection, pipeline.name)
    if rollout is None:
        return _watch(workspace, pipeline, night, run_id)
    readout = read_rollout(workspace, pipeline, rollout, night)
    if readout.outcome == "worse" and pipeline.rollout.rollback == "auto":
        return _take_back(workspace, pipeline, rollout, readout, night)
    if readout.outcome in {"worse", "held_back"}:
        command = f'nightscore rollout stop {pipeline.name} --reason "…"'
        return _decide(workspace, pipeline, KIND, "asked", _name(rollout), readout.reason, readout, night, command)
    return _go_on(workspace, pipeline, rollout, readout, night)


def _go_on(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, readout: Readout, night: date) -> Review:
    """The next step, when this one has lasted long enough."""
    waiting = days_to_wait(pipeline, rollout, night)
    if waiting:
        return Review("waiting", f"{waiting} more score dates at this step; {readout.reason}", _name(rollout))
    if rollout.kind == "canary" and next_percent(pipeline, rollout) < 100:
        return _grow(workspace, pipeline, rollout, readout, night)
    if readout.outcome in GOOD:
        return _complete(workspace, pipeline, rollout, readout, night)
    return _undecided(workspace, pipeline, rollout, readout, night)


def _name(rollout: Rollout) -> str:
    return f"{rollout.pipeline}@{rollout.version}"


def _take_back(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, readout: Readout, night: date) -> Review:
    reason = f"{rollout.kind} of {_name(rollout)}: {readout.reason}"
    title, now = f"Nightscore: {_name(rollout)} taken back", workspace.clock.now()

    def tell(connection: sa.Connection) -> None:
        occasion = f"rollout {rollout.rollout_id} taken back"
        enqueue_alert(connection, pipeline.name, _name(rollout), occasion, title, reason, now)

    end_rollout(workspace, rollout, "rolled_back", night, ACTOR, reason, readout.evidence, tell)
    return Review("taken_back", reason, _name(rollout), readout.evidence)


def _grow(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, readout: Readout, night: date) -> Review:
    percent = next_percent(pipeline, rollout)
    reason = f"from {rollout.percent:g} % to {percent:g} % of entities: {readout.reason}"
    grow(workspace, rollout, percent, night, ACTOR, reason, readout.evidence)
    return Review("grown", reason, _name(rollout), readout.evidence)


def _complete(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, readout: Readout, night: date) -> Review:
    """Champion of all rows; the move of the alias ends the rollout in the same transaction."""
    version = require_version(workspace, pipeline.name, rollout.version)
    reason = f"its {rollout.kind} is over: {readout.reason}"
    if pipeline.promotion.approve == "person":
        command = f'nightscore models promote {version.name} --reason "…"'
        return _decide(workspace, pipeline, KIND, "asked", version.name, reason, readout, night, command)
    promote(
        workspace, pipeline, version, ACTOR, reason, despite_gate=True, by="gate", as_of=night, readout=readout.evidence
    )
    return Review("promoted", reason, version.name, readout.evidence)


def _undecided(workspace: Workspace, pipeline: Pipeline, rollout: Rollout, readout: Readout, night: date) -> Review:
    """Evidence may still come, but not for ever: past `watch_days` a person is asked."""
    since = (night - rollout.step_from).days + 1
    if since < pipeline.rollout.watch_days:
        return Review("waiting", f"not enough evidence after {since} score dates; {readout.reason}", _name(rollout))
    command = f"nightscore rollout status {pipeline.name}"
    reason = f"not enough evidence after {since} score dates: {readout.reason}"
    return _decide(workspace, pipeline, KIND, "asked", _name(rollout), reason, readout, night, command)


def _watch(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> Review:
    """A new champion is compared with the one before it for `watch_days`; one that is credibly worse is taken back."""
    promoted_on = _promoted_on(workspace, pipeline)
    if promoted_on is None or night - promoted_on > timedelta(days=pipeline.rollout.watch_days):
        return Review("none", "no rollout runs, and no champion is new")
    champion = require_alias(workspace, pipeline.name, CHAMPION)
    previous = require_alias(workspace, pipeline.name, PREVIOUS)
    readout = read_watch(workspace, pipeline, previous, champion, promoted_on, night)
    if readout.outcome not in {"worse", "held_back"}:
        return Review("watched", readout.reason, champion.name, readout.evidence)
    reason = f"the new champion against {previous.name}: {readout.reason}"
    if readout.outcome == "held_back" or pipeline.rollout.rollback == "person":
        command = f'nightscore models rollback {pipeline.name} --reason "…"'
        return _decide(workspace, pipeline, WATCH, "asked", champion.name, reason, readout, night, command)
    return _retreat(workspace, pipeline, champion.name, reason, readout, night, run_id)


def _retreat(
    workspace: Workspace, pipeline: Pipeline, subject: str, reason: str, readout: Readout, night: date, run_id: str
) -> Review:
    try:
        done = retreat(workspace, pipeline, ACTOR, reason, run_id)
        held = f"; the night of {done.night} is held back: {'; '.join(done.blocked)}" if done.blocked else ""
    except ChangesetRefused as error:
        held = f"; the last night was not published again: {'; '.join(error.found)}"
    return _decide(workspace, pipeline, WATCH, "taken_back", subject, reason + held, readout, night)


def _promoted_on(workspace: Workspace, pipeline: Pipeline) -> date | None:
    """The score date on which the present champion took the place of another, by the ledger."""
    try:
        champion = require_alias(workspace, pipeline.name, CHAMPION)
        require_alias(workspace, pipeline.name, PREVIOUS)
    except AliasMissing:
        return None
    with workspace.engine.connect() as connection:
        made = list_decisions(connection, pipeline.name, kind="promotion")
    dates = [one.evidence.get("as_of") for one in made if one.verdict == "promoted" and one.subject == champion.name]
    return date.fromisoformat(dates[0]) if dates and dates[0] else None


def _decide(
    workspace: Workspace, pipeline: Pipeline, kind: str, verdict: Action, subject: str, reason: str, readout: Readout,
    night: date, command: str | None = None,
) -> Review:  # fmt: skip
    """Into the ledger, and to people; the same question is asked once."""
    evidence = {**readout.evidence, "as_of": str(night), "command": command}
    made = Decision(pipeline.name, kind, subject, verdict, reason, evidence, ACTOR, workspace.clock.now())
    with workspace.engine.begin() as connection:
        newest = next(iter(list_decisions(connection, pipeline.name, limit=1, kind=kind)), None)
        asked_before = newest is not None and (newest.verdict, newest.subject) == ("asked", subject) == (
            verdict,
            subject,
        )
        if not asked_before:
            record_decision(connection, made)
            _tell(connection, made, night, command)
    return Review(verdict, reason, subject, evidence)


def _tell(connection: sa.Connection, made: Decision, night: date, command: str | None) -> None:
    words = made.verdict.replace("_", " ")
    enqueue_alert(
        connection, made.pipeline, made.subject, f"{made.kind} {words} {night}", f"Nightscore: {made.subject} {words}",
        f"{made.reason}\n{command or ''}", made.at,
    )  # fmt: skip
