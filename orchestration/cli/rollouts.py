"""`nightscore rollout`: begin one, look at it, take the next step or stop; the nightly run does the same by the spec.

Added here: a command about rollouts. Not here: what follows from evidence (`nightscore/monitoring/rollouts.py`).
"""

import sys
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.changes import require_reason
from orchestration.cli.models import AsJson, AsOf, PipelineName, Reason, Version, actor, find_model, open_deployment
from orchestration.cli.output import print_json, print_table
from orchestration.cli.specs import find_pipeline

if TYPE_CHECKING:
    from nightscore.catalog.rollouts import Rollout
    from nightscore.lake.workspace import Workspace
    from nightscore.monitoring.readouts import Readout
    from nightscore.spec.pipeline import Pipeline

app = typer.Typer(help="Rollouts: start, look at, advance, stop.", no_args_is_help=True)


class Kind(StrEnum):
    """How a challenger is tried."""

    SHADOW = "shadow"
    CANARY = "canary"
    AB = "ab"


@app.command("start")
def start(
    version: Version,
    kind: Annotated[Kind | None, typer.Option(help="Default: the spec's; a shadow where it has none.")] = None,
    reason: Reason = None,
) -> None:
    """From the next scored night on, a version scores in the shadow, or the first share of entities."""
    from nightscore.registry.rollout import newest_night, open_rollout

    wanted = require_reason(reason)
    workspace, pipeline, found = find_model(version)
    night = newest_night(workspace, pipeline) or found.as_of
    opened = open_rollout(workspace, pipeline, found, night, actor(), wanted, None if kind is None else kind.value)
    sys.stdout.write(f"Rollout {opened.rollout_id}: {found.name} as {_stage(opened)} from {opened.step_from} on.\n")
    sys.stdout.write(f"Look at it:   nightscore rollout status {pipeline.name}\n")


@app.command("status")
def status(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every rollout, and of those that run: the step, how long to wait, what it has shown so far, arm by arm."""
    from nightscore.catalog.rollouts import RUNNING, list_rollouts
    from nightscore.settings import Settings
    from orchestration.cli.specs import require_pipeline_name

    settings, workspace = Settings(), open_deployment()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    with workspace.engine.connect() as connection:
        found = list_rollouts(connection, pipeline)
    running = [_look(workspace, find_pipeline(settings, one.pipeline), one) for one in found if one.status == RUNNING]
    if as_json:
        print_json({"rollouts": [vars(one) for one in found], "running": running})
        return
    rows = [
        (str(one.rollout_id), f"{one.pipeline}@{one.version}", f"{one.pipeline}@{one.base_version}", one.kind,
         one.status.replace("_", " "), f"{one.percent:g} %", str(one.step_from), one.opened_by,
         f"{one.opened_at:%Y-%m-%d %H:%M}Z")
        for one in found
    ]  # fmt: skip
    columns = ("id", "version", "against", "kind", "status", "share", "since", "by", "at")
    print_table("Rollouts", columns, rows)
    for one in running:
        _print_running(one)


@app.command("advance")
def advance(
    pipeline: PipelineName,
    reason: Reason = None,
    early: Annotated[bool, typer.Option("--early", help="Before the days to wait are over.")] = False,
) -> None:
    """Take the next step now: a larger share, or after the last one the champion's place."""
    from nightscore.monitoring.readouts import read_rollout
    from nightscore.registry.rollout import grow, next_percent

    wanted = require_reason(reason)
    workspace, spec, rollout, night = _running(pipeline, "Advancing")
    if not early:
        _require_waited(spec, rollout, night)
    readout = read_rollout(workspace, spec, rollout, night)
    percent = next_percent(spec, rollout)
    if rollout.kind != Kind.CANARY or percent >= 100:
        _finish(workspace, spec, rollout, readout, night, wanted)
        return
    grown = grow(workspace, rollout, percent, night, actor(), wanted, readout.evidence)
    sys.stdout.write(f"Rollout {grown.rollout_id}: {_stage(grown)} from {grown.step_from} on.\n")


@app.command("stop")
def stop(pipeline: PipelineName, reason: Reason = None) -> None:
    """End what runs: from the next night on the champion scores every row."""
    from nightscore.registry.rollout import end_rollout

    wanted = require_reason(reason)
    workspace, _, rollout, night = _running(pipeline, "Stopping")
    end_rollout(workspace, rollout, "stopped", night, actor(), wanted, {})
    sys.stdout.write(f"Rollout {rollout.rollout_id} is stopped; the champion scores every row from now on.\n")


@app.command("review")
def review(pipeline: PipelineName, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Judge what runs, or a new champion, and do what follows; what the nightly run does after each night."""
    from nightscore.monitoring.rollouts import review_rollout
    from nightscore.settings import Settings

    workspace, spec = open_deployment(), find_pipeline(Settings(), pipeline)
    night = _newest_night(workspace, spec) if as_of is None else as_of.date()
    made = review_rollout(workspace, spec, night, "")
    if as_json:
        print_json({"as_of": night, **vars(made)})
        return
    subject = f" of {made.subject}" if made.subject else ""
    sys.stdout.write(f"{pipeline} as of {night}: {made.action.replace('_', ' ')}{subject}: {made.reason}\n")


def _running(name: str, doing: str) -> "tuple[Workspace, Pipeline, Rollout, date]":
    """The deployment, the spec, the rollout that runs and the newest night; PromotionRefused when none runs."""
    from nightscore.catalog.rollouts import running_rollout
    from nightscore.errors import PromotionRefused
    from nightscore.settings import Settings

    workspace, spec = open_deployment(), find_pipeline(Settings(), name)
    with workspace.engine.connect() as connection:
        rollout = running_rollout(connection, name)
    if rollout is None:
        remedy = f"start one with `nightscore rollout start {name}@VERSION`"
        raise PromotionRefused(f"{doing} the rollout of {name}", "no rollout runs", remedy)
    return workspace, spec, rollout, _newest_night(workspace, spec)


def _newest_night(workspace: "Workspace", pipeline: "Pipeline") -> date:
    from nightscore.errors import PublicationMissing
    from nightscore.registry.rollout import newest_night

    night = newest_night(workspace, pipeline)
    if night is None:
        found, remedy = "no night is published", f"run `nightscore run {pipeline.name}`"
        raise PublicationMissing(f"Looking for the newest night of {pipeline.name}", found, remedy)
    return night


def _require_waited(pipeline: "Pipeline", rollout: "Rollout", night: date) -> None:
    from nightscore.errors import PromotionRefused
    from nightscore.registry.rollout import days_to_wait

    waiting = days_to_wait(pipeline, rollout, night)
    if waiting:
        found = f"{waiting} more score dates are asked for at this step, which began on {rollout.step_from}"
        raise PromotionRefused(f"Advancing rollout {rollout.rollout_id}", found, "wait, or add --early")


def _finish(
    workspace: "Workspace", pipeline: "Pipeline", rollout: "Rollout", readout: "Readout", night: date, reason: str
) -> None:
    """Champion of all rows; a read-out that is not good leaves the gate's own verdict to decide."""
    from nightscore.monitoring.rollouts import GOOD
    from nightscore.registry.promotion import promote
    from nightscore.registry.versions import require_version

    version = require_version(workspace, pipeline.name, rollout.version)
    promote(
        workspace,
        pipeline,
        version,
        actor(),
        reason,
        despite_gate=readout.outcome in GOOD,
        as_of=night,
        readout=readout.evidence,
    )
    sys.stdout.write(f"{version.name} is the champion of all rows: {readout.reason}\n")
    sys.stdout.write(f'Take it back:   nightscore models rollback {pipeline.name} --reason "…"\n')


def _stage(rollout: "Rollout") -> str:
    return "a shadow" if rollout.kind == Kind.SHADOW else f"{rollout.kind} of {rollout.percent:g} % of entities"


def _look(workspace: "Workspace", pipeline: "Pipeline", rollout: "Rollout") -> dict[str, Any]:
    """A running rollout with its steps, days to wait, history and newest read-out."""
    from nightscore.catalog.rollouts import events_of_rollout
    from nightscore.monitoring.readouts import read_rollout
    from nightscore.registry.rollout import days_to_wait, newest_night

    night = newest_night(workspace, pipeline)
    readout = None if night is None else read_rollout(workspace, pipeline, rollout, night)
    with workspace.engine.connect() as connection:
        events = events_of_rollout(connection, rollout.rollout_id)
    return {
        "rollout_id": rollout.rollout_id, "version": f"{rollout.pipeline}@{rollout.version}", "stage": _stage(rollout),
        "steps": [] if rollout.kind == Kind.SHADOW else list(pipeline.rollout.steps), "step_from": rollout.step_from,
        "as_of": night, "days_to_wait": None if night is None else days_to_wait(pipeline, rollout, night),
        "events": events, "readout": None if readout is None else vars(readout),
    }  # fmt: skip


def _print_running(one: dict[str, Any]) -> None:
    from orchestration.cli.model_tables import print_arms, print_evidence, print_verdict

    steps = " → ".join(f"{step:g} %" for step in one["steps"]) or "none, all rows in the shadow"
    facts = [("stage", one["stage"]), ("steps", steps), ("since", one["step_from"]), ("as of", one["as_of"]),
             ("score dates to wait", one["days_to_wait"])]  # fmt: skip
    shown = [(name, "" if value is None else str(value)) for name, value in facts]
    print_table(f"Rollout {one['rollout_id']} of {one['version']}", ("fact", "value"), shown)
    rows = [(event["event"].replace("_", " "), f"{event['percent']:g} %", str(event["score_date"]), event["actor"],
             event["reason"]) for event in one["events"]]  # fmt: skip
    print_table("What became of it", ("event", "share", "after night", "by", "why"), rows)
    readout = one["readout"]
    if readout is None:
        return
    print_evidence(readout["evidence"])
    if "arms" in readout["evidence"]:
        print_arms(readout["evidence"]["arms"])
    print_verdict(f"So far, as of {one['as_of']}", readout["outcome"], [readout["reason"]])
