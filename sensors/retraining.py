"""Start the attempts that the watch has decided on: one sensor a pipeline and cause, each attempt by exactly one.

`<pipeline>_retraining` is the rhythm's, `<pipeline>_drift` has what L3 brings forward, `<pipeline>_performance` L4's.
A tick reads the ledger and the state of the watch, which hold cooldown and budget already, and measures nothing.
Added here: another cause of an attempt. Not here: when an attempt is due (`nightscore/watch/retraining.py`), or what it
does (`jobs/attempts.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from nightscore.catalog.decisions import Decision, newest_entries
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.retraining import BROUGHT_FORWARD, DUE
from orchestration.resources import Engine
from orchestration.run_tags import DECISION_TAG, PIPELINE_TAG

if TYPE_CHECKING:
    from nightscore.watch.state import MonitorState

ASK = "the watch leaves this promotion to a person"
_SECONDS_BETWEEN_TICKS = 30
_LOOKED_BACK = 50
"""Entries that are read, newest first: an attempt that is older than so many is stale."""
Entry = tuple[int, Decision]


@dataclass(frozen=True)
class Cause:
    """What puts the question: its rule in the ledger, and the level whose open incidents a tick tells of."""

    name: str
    rule: str
    level: str
    description: str


CAUSES = (
    Cause("retraining", DUE, "L1", "Starts the attempts of the rhythm"),
    Cause("drift", BROUGHT_FORWARD["L3"], "L3", "Starts the attempts that a shift of the inputs brings forward"),
    Cause("performance", BROUGHT_FORWARD["L4"], "L4", "Starts the attempts that outcomes bring forward"),
)


def build_retraining_sensors(pipeline: Pipeline) -> dg.Definitions:
    """A sensor a cause, on the pipeline's attempt job."""
    return dg.Definitions(sensors=[_build_sensor(pipeline, cause) for cause in CAUSES])


def _build_sensor(pipeline: Pipeline, cause: Cause) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{pipeline.name}_{cause.name}", job_name=f"{pipeline.name}_attempt", description=cause.description,
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS, default_status=dg.DefaultSensorStatus.RUNNING,
    )  # fmt: skip
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from nightscore.watch.verdicts import load_state

        with Engine().workspace().engine.connect() as connection:
            entries = newest_entries(connection, pipeline.name, "retrain", _LOOKED_BACK)
            state = load_state(connection, pipeline)
        return _answer(pipeline, cause, entries, state, context.cursor)

    return sensor


def _answer(
    pipeline: Pipeline, cause: Cause, entries: Sequence[Entry], state: "MonitorState", cursor: str | None
) -> dg.SensorResult:
    """The run of the newest attempt when it is this cause's and not begun, else why there is none; no older one is."""
    attempt = next((one for one in entries if one[1].verdict == "attempt"), None)
    if attempt is None or cause.rule not in attempt[1].evidence["rules"] or attempt[0] <= int(cursor or 0):
        reason = _why_nothing(pipeline, entries, state)
        return dg.SensorResult(skip_reason=f"{_open_incidents(cause, state)}; {reason}", cursor=cursor)
    obstacle = _find_obstacle(pipeline, attempt[1], state)
    if obstacle:
        reason = f"the attempt of {_night(attempt[1])} is not begun: {obstacle}"
        return dg.SensorResult(skip_reason=f"{_open_incidents(cause, state)}; {reason}", cursor=cursor)
    return dg.SensorResult(run_requests=[_request(pipeline, attempt)], cursor=str(attempt[0]))


def _find_obstacle(pipeline: Pipeline, attempt: Decision, state: "MonitorState") -> str:
    from nightscore.watch.retraining import find_obstacle

    night, rules = _night(attempt), pipeline.monitoring.retraining
    return find_obstacle(night, state.night or night, state.training, state.ledger.incidents, rules)


def _request(pipeline: Pipeline, attempt: Entry) -> dg.RunRequest:
    """Train for the night of the decision; without its leave the gate asks a person."""
    (decision_id, made), name = attempt, pipeline.name
    asked: dict[str, Any] = {"as_of": str(_night(made))}
    ask = "" if made.evidence["promotion"] == "gate" else ASK
    config = {
        f"{name}__model": {"config": asked | {"purpose": made.reason}},
        f"{name}__promotion": {"config": asked | {"reason": made.reason, "ask": ask}},
    }
    return dg.RunRequest(
        run_key=f"{name}:{_night(made)}:{made.evidence['policy']}", run_config={"ops": config},
        tags={PIPELINE_TAG: name, DECISION_TAG: str(decision_id)},
    )  # fmt: skip


def _why_nothing(pipeline: Pipeline, entries: Sequence[Entry], state: "MonitorState") -> str:
    """The newest word on training."""
    if state.night is None:
        return f"the watch has judged no night of {pipeline.name} yet"
    if not entries:
        return f"nothing has asked for training since {state.training.looked or state.night}"
    made = entries[0][1]
    if made.verdict == "attempt":
        starter = next((one.name for one in CAUSES if one.rule in made.evidence["rules"]), "nobody")
        return f"the attempt of {_night(made)} was for {pipeline.name}_{starter}; nothing has asked for training since"
    until = f" before {made.evidence['not_before']}" if made.evidence["not_before"] else ""
    said = "a person is asked" if made.verdict == "ask" else f"no attempt{until}"
    return f"{_night(made)}: {said}: {made.reason}"


def _open_incidents(cause: Cause, state: "MonitorState") -> str:
    named = [f"{one.incident_id} ({one.cause})" for one in state.ledger.open if cause.level in one.levels]
    return f"{cause.level} is open: {', '.join(named)}" if named else f"no {cause.level} is open"


def _night(made: Decision) -> date:
    return date.fromisoformat(made.evidence["night"])
