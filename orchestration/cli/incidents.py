"""`nightscore incidents`: what the watch found, what would end it, and what people decide of it.

Added here: a command about incidents. Not here: when one opens or closes (`nightscore/watch/incidents.py`), or trying
other thresholds (`policies.py`).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.changes import require_reason
from orchestration.cli.models import AsJson, Reason, actor, open_deployment
from orchestration.cli.output import print_json, print_table
from orchestration.cli.specs import find_pipeline, require_pipeline_name

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nightscore.catalog.decisions import Decision
    from nightscore.lake.workspace import Workspace
    from nightscore.spec.monitoring import Incidents
    from nightscore.spec.pipeline import Pipeline
    from nightscore.watch.incidents import Incident
    from nightscore.watch.state import IncidentAccepted, IncidentClosed, MonitorState

app = typer.Typer(help="Incidents of the watch: list, show, accept, close.", no_args_is_help=True)
IncidentId = Annotated[str, typer.Argument(metavar="INCIDENT_ID", help="Its id, or the beginning of it.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; default: you.")]
LEDGER_ENTRIES = 10_000
"""How far back decisions about an incident are looked for."""


class Status(StrEnum):
    """What became of an incident."""

    OPEN = "open"
    CLOSED = "closed"
    ACCEPTED = "accepted"


@app.command("list")
def list_all(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those that are this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Incidents, newest first: level, cause, and since when."""
    from nightscore.catalog.watch import list_incidents
    from nightscore.settings import Settings

    if pipeline is not None:
        require_pipeline_name(Settings(), pipeline)
    with open_deployment().engine.connect() as connection:
        found = list_incidents(connection, pipeline, status)
    if as_json:
        print_json(found)
        return
    rows = [
        (one["incident_id"], one["pipeline"], one["level"], one["status"], one["cause"], str(one["opened"]),
         str(one["last_seen"]), one["nights"], one["closed"], one["actor"] or "", one["reason"])
        for one in found
    ]  # fmt: skip
    columns = (
        "incident",
        "pipeline",
        "level",
        "status",
        "cause",
        "opened",
        "last seen",
        "nights",
        "closed",
        "by",
        "why",
    )
    print_table("Incidents", columns, rows)


@app.command("show")
def show(incident: IncidentId, as_json: AsJson = False) -> None:
    """One incident: how each cause was at its worst, what would end it, and every decision about it."""
    workspace, pipeline, found, _ = _require(incident)
    with workspace.engine.connect() as connection:
        decisions = _decisions(connection, found)
    ending, commands = _ending(found, pipeline.monitoring.incidents), _commands(found)
    if as_json:
        facts = {**found.model_dump(mode="json"), "cause": found.cause, "columns": sorted(found.columns),
                 "messages": found.messages}  # fmt: skip
        print_json({**facts, "ends": ending, "commands": commands, "decisions": [vars(one) for one in decisions]})
        return
    _print(found, ending, commands, decisions)


@app.command("accept")
def accept(incident: IncidentId, reason: Reason = None, by: By = None) -> None:
    """Call it the new normal: its causes show again only beyond their worst night."""
    from nightscore.watch.state import IncidentAccepted

    wanted = require_reason(reason)
    workspace, pipeline, found, on = _require(incident)
    event = IncidentAccepted(incident_id=found.incident_id, on=on, actor=_person(by), reason=wanted)
    freed = _tell(workspace, pipeline, event)
    margin = pipeline.monitoring.incidents.accepted_margin
    sys.stdout.write(f"Accepted incident {found.incident_id} ({found.level} {found.cause}) as of {on}.\n")
    beyond = "what has come true lately" if found.level == "L4" else f"{margin:g} times its worst night"
    sys.stdout.write(f"It shows again only beyond {beyond}.\n")
    if freed:
        sys.stdout.write(f"Held back until now; run again to publish:   {_run(pipeline.name, freed)}\n")


@app.command("close")
def close(
    incident: IncidentId,
    reason: Reason = None,
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="Nothing was wrong; it counts as false.")] = False,
    by: By = None,
) -> None:
    """End it; the same cause opens another one when it shows again."""
    from nightscore.watch.state import IncidentClosed

    wanted = require_reason(reason)
    workspace, pipeline, found, on = _require(incident)
    who, incident_id = _person(by), found.incident_id
    event = IncidentClosed(incident_id=incident_id, on=on, actor=who, reason=wanted, false_alarm=false_alarm)
    _tell(workspace, pipeline, event)
    said = " as a false alarm" if false_alarm else ""
    sys.stdout.write(f"Closed incident {incident_id} ({found.level} {found.cause}){said} as of {on}.\n")
    if found.level == "L1":
        sys.stdout.write("A night that it held back stays so until its data are mended and it is run again.\n")


def _person(by: str | None) -> str:
    return (by or "").strip() or actor()


def _tell(
    workspace: "Workspace", pipeline: "Pipeline", event: "IncidentAccepted | IncidentClosed"
) -> list[date]:  # fmt: skip
    """Tell the watch; returns the nights that it held back, and does not any more."""
    from nightscore.monitoring.nights import tell_watch

    before = _state(workspace, pipeline).excluded_dates
    tell_watch(workspace, pipeline, event)
    after = _state(workspace, pipeline).excluded_dates
    return [night for night in before if night not in after]


def _run(pipeline: str, nights: Sequence[date]) -> str:
    """Nights between them that are published already are left as they are."""
    first, last = min(nights), max(nights)
    return f"nightscore run {pipeline} " + (f"--date {first}" if first == last else f"--from {first} --to {last}")


def _state(workspace: "Workspace", pipeline: "Pipeline") -> "MonitorState":
    from nightscore.watch.verdicts import load_state

    with workspace.engine.connect() as connection:
        return load_state(connection, pipeline)


def _require(wanted: str) -> "tuple[Workspace, Pipeline, Incident, date]":
    """The deployment, the spec, the incident that an id or its beginning names, and the night the watch stands at."""
    from nightscore.catalog.watch import list_incidents
    from nightscore.settings import Settings

    workspace = open_deployment()
    with workspace.engine.connect() as connection:
        row = _one(wanted, list_incidents(connection))
    pipeline = find_pipeline(Settings(), row["pipeline"])
    state = _state(workspace, pipeline)
    found = next(one for one in state.ledger.incidents if one.incident_id == row["incident_id"])
    return workspace, pipeline, found, state.night or found.last_seen


def _one(wanted: str, known: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    from nightscore.errors import IncidentRefused

    alike = [one for one in known if wanted and one["incident_id"].startswith(wanted)]
    if len(alike) == 1:
        return alike[0]
    told = alike or [one for one in known if one["status"] == Status.OPEN]
    facts = [f"{one['incident_id']}: {one['pipeline']}, {one['level']} {one['cause']}, {one['status']}" for one in told]
    first = f"{len(alike)} ids begin with that" if alike else f"no id begins with that; {len(facts) or 'none'} are open"
    remedy = "give more of the id" if alike else "see `nightscore incidents list`"
    raise IncidentRefused(f"Finding incident {wanted or 'without an id'}", [first, *facts], remedy)


def _decisions(connection: "sa.Connection", incident: "Incident") -> list["Decision"]:
    """Oldest first: its own entries, nights that it held back, and trainings that it asked for or forbade."""
    from nightscore.catalog.decisions import list_decisions

    made = list_decisions(connection, incident.pipeline, LEDGER_ENTRIES)
    return [one for one in reversed(made) if _concerns(one, incident)]


def _concerns(made: "Decision", incident: "Incident") -> bool:
    if made.kind == "publish":
        during = str(incident.opened) <= made.subject <= str(incident.last_seen)
        return during and bool(incident.keys & set(made.evidence.get("rules", ())))
    return incident.incident_id in (made.subject, *made.reason.split())


def _ending(incident: "Incident", rules: "Incidents") -> str:
    if incident.status != Status.OPEN:
        by = f", by {incident.actor}" if incident.actor else ""
        false = ", a false alarm" if incident.false_alarm else ""
        return f"it is {incident.status} since {incident.closed}{by}{false}: {incident.reason}"
    return (
        f"it closes after {rules.quiet_nights} nights in a row on which each of its causes is below "
        f"{rules.quiet_below:g} of its threshold; {incident.quiet} so far"
    )


def _commands(incident: "Incident") -> list[str]:
    if incident.status != Status.OPEN:
        return []
    start = "nightscore incidents"
    return [
        f'{start} accept {incident.incident_id} --reason "…"', f'{start} close {incident.incident_id} --reason "…"',
        f'{start} close {incident.incident_id} --false-alarm --reason "…"',
    ]  # fmt: skip


def _print(incident: "Incident", ending: str, commands: Sequence[str], decisions: Sequence["Decision"]) -> None:
    seen = f"opened {incident.opened}, last seen {incident.last_seen}, nights: {incident.nights}"
    columns = f"; columns: {', '.join(sorted(incident.columns))}" if incident.columns else ""
    title = f"{incident.incident_id}: {incident.level} of {incident.pipeline}, {incident.status}; {seen}{columns}"
    print_table(title, ("cause", "level", "worst on", "× threshold", "what"), list(_causes(incident)))
    sys.stdout.write(f"{ending[0].upper()}{ending[1:]}.\n")
    for one in decisions:
        night = one.evidence.get("night", "")
        sys.stdout.write(f"{night}  {one.kind} {one.verdict.replace('_', ' ')}, by {one.actor}: {one.reason}\n")
    for command in commands:
        sys.stdout.write(f"  {command}\n")


def _causes(incident: "Incident") -> Iterator[tuple[Any, ...]]:
    for kind, causes in (("", incident.causes), (" (explained by it)", incident.also)):
        for one in causes:
            yield f"{one.key}{kind}", one.level, str(one.worst_on), one.worst.ratio, one.worst.message
