"""`nightscore models`: versions and their aliases, the evidence between them, and every decision about them.

Added here: a command about versions. Not here: training (`nights.py`), attempts (`attempts.py`), rollouts
(`rollouts.py`), or how evidence is shown (`model_tables.py`).
"""

import sys
from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.changes import require_reason
from orchestration.cli.output import JSON_OPTION, print_json, print_table
from orchestration.cli.specs import find_pipeline, parse_version, require_pipeline_name

if TYPE_CHECKING:
    import sqlalchemy as sa

    from nightscore.catalog.decisions import Decision
    from nightscore.catalog.models import ModelVersion
    from nightscore.lake.workspace import Workspace
    from nightscore.registry.promotion import Proposal
    from nightscore.spec.pipeline import Pipeline

app = typer.Typer(help="Model versions: list, compare, propose, approve, take back.", no_args_is_help=True)
AsJson = Annotated[bool, JSON_OPTION]
Version = Annotated[str, typer.Argument(help="pipeline@version, such as flight_delay@1.")]
PipelineName = Annotated[str, typer.Argument(help="A pipeline.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the history.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Judge by what was known on this night; default: the newest with labels."),
]
EXIT_CODES = {"better": 0, "not_worse": 0, "worse": 7, "held_back": 7, "not_enough_evidence": 8}
"""What a verdict of the gate makes a command exit with."""


@app.command("list")
def list_models(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every registered version with its aliases, what became of it, and its family: F1 refreshes F1."""
    from nightscore.catalog.models import list_model_events, list_versions
    from nightscore.settings import Settings
    from orchestration.cli.model_tables import family_marks

    if pipeline is not None:
        require_pipeline_name(Settings(), pipeline)
    with open_deployment().engine.connect() as connection:
        versions = list_versions(connection, pipeline)
        names = sorted({one.pipeline for one in versions})
        aliases = {alias: held for name in names for alias, held in _aliases(connection, name).items()}
        events = {f"{name}@{one['version']}": one["event"] for name in names
                  for one in list_model_events(connection, name)}  # fmt: skip
    marks = family_marks(versions)
    if as_json:
        print_json([
            vars(one) | {"aliases": aliases.get(one.name, []), "champion": "champion" in aliases.get(one.name, []),
                         "status": events.get(one.name, one.status), "family_mark": marks[one.name]}
            for one in versions
        ])  # fmt: skip
        return
    rows = [
        (one.name, ", ".join(aliases.get(one.name, [])), events.get(one.name, one.status).replace("_", " "),
         marks[one.name], one.algorithm, str(one.as_of), one.function_hash[:12], one.created_by,
         f"{one.created_at:%Y-%m-%d %H:%M}Z", one.purpose)
        for one in versions
    ]  # fmt: skip
    columns = ("version", "alias", "status", "family", "algorithm", "trained for", "function", "by", "at", "purpose")
    print_table("Models", columns, rows)


@app.command("show")
def show_model(version: Version, as_json: AsJson = False) -> None:
    """One version: identity, data, held-out metrics, the most important features, the gate's verdict, decisions."""
    from nightscore.catalog.models import list_model_events
    from nightscore.registry.versions import require_version
    from orchestration.cli.model_tables import print_judgement, print_version

    name, number = parse_version(version)
    workspace = open_deployment()
    found = require_version(workspace, name, number)
    with workspace.engine.connect() as connection:
        aliases = _aliases(connection, name).get(found.name, [])
        events = list_model_events(connection, name, number)
        judged = _newest_judgement(connection, found)
    if as_json:
        print_json(vars(found) | {"aliases": aliases, "events": events, "judged": vars(judged) if judged else None})
        return
    print_version(found, aliases)
    rows = [(one["event"].replace("_", " "), one["actor"], one["reason"], f"{one['at']:%Y-%m-%d %H:%M}Z")
            for one in events]  # fmt: skip
    if rows:
        print_table("What became of it", ("event", "by", "why", "at"), rows)
    if judged is not None:
        print_judgement(judged)


@app.command("history")
def history(pipeline: PipelineName, as_json: AsJson = False) -> None:
    """Every move of an alias, every event of a version and every decision on one, oldest first."""
    from nightscore.settings import Settings

    require_pipeline_name(Settings(), pipeline)
    with open_deployment().engine.connect() as connection:
        told = _read_history(connection, pipeline)
    if as_json:
        print_json(told)
        return
    # One decision moves several aliases, all for one reason, which is said once.
    reasons = ["", *(one["reason"] for one in told)]
    rows = [
        (f"{one['at']:%Y-%m-%d %H:%M}Z", one["what"], one["version"], one["actor"],
         "" if one["reason"] == before else one["reason"])
        for one, before in zip(told, reasons, strict=False)
    ]  # fmt: skip
    print_table(f"Versions of {pipeline}", ("at", "what", "version", "by", "why"), rows)


@app.command("compare")
def compare(
    champion: Version,
    challenger: Annotated[str, typer.Argument(help="The version that is judged against it.")],
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """The gate's verdict on the second version against the first, on the same rows; nothing changes."""
    from nightscore.registry.families import is_refresh
    from nightscore.registry.gate import judge
    from nightscore.registry.unseen import paired_rows
    from orchestration.cli.model_tables import held_out_figures, print_evidence, print_figures, print_verdict

    workspace, pipeline, first = find_model(champion)
    second = _same_pipeline(workspace, first, challenger)
    night = evidence_night(workspace, pipeline, as_of)
    verdict = judge(pipeline, paired_rows(workspace, pipeline, first, second, night), is_refresh(first, second))
    if as_json:
        figures = {one.name: held_out_figures(one) for one in (first, second)}
        print_json({"as_of": night, **verdict.as_json(), "held_out": figures})
    else:
        print_evidence(verdict.evidence)
        print_figures([first, second])
        print_verdict(f"{second.name} against {first.name} as of {night}", verdict.outcome, verdict.reasons)
    raise SystemExit(EXIT_CODES[verdict.outcome])


@app.command("propose")
def propose_model(
    version: Version,
    as_of: AsOf = None,
    as_new_recipe: Annotated[
        bool, typer.Option("--as-new-recipe", help="Ask it to be better, as of a new recipe, even if it is a refresh.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let the gate judge a version against the champion, and do what the spec says follows; it is kept either way."""
    from nightscore.registry.promotion import propose

    workspace, pipeline, found = find_model(version)
    night = evidence_night(workspace, pipeline, as_of)
    starter = _rollout_starter(workspace, pipeline, f"proposed as of {night}")
    proposal = propose(workspace, pipeline, found, night, actor(), as_new_recipe or None, starter)
    if as_json:
        told = {"version": found.name, "champion": proposal.champion.name, "as_of": night}
        print_json(told | {"action": proposal.action, "reason": proposal.reason, "gate": proposal.verdict.as_json()})
    else:
        _print_proposal(proposal, night)
    raise SystemExit(EXIT_CODES[proposal.verdict.outcome])


@app.command("approve")
def approve_model(version: Version, reason: Reason = None) -> None:
    """Let a version go on that the gate found good and that waits for a person: champion, or its rollout begins."""
    from nightscore.registry.promotion import approve

    wanted = require_reason(reason)
    workspace, pipeline, found = find_model(version)
    action = approve(workspace, pipeline, found, actor(), wanted, _rollout_starter(workspace, pipeline, wanted))
    done = "is the champion" if action == "promoted" else f"goes on by a rollout: {pipeline.rollout.kind}"
    sys.stdout.write(f"{found.name} {done}.\n{_way_back(pipeline.name, action)}")


@app.command("reject")
def reject_model(version: Version, reason: Reason = None) -> None:
    """Rule a version out; it stays registered and reproducible, and cannot become champion."""
    from nightscore.registry.promotion import reject

    wanted = require_reason(reason)
    workspace, pipeline, found = find_model(version)
    reject(workspace, pipeline, found, actor(), wanted)
    sys.stdout.write(f"{found.name} is rejected.\n")


@app.command("promote")
def promote_model(
    version: Version,
    reason: Reason = None,
    despite_gate: Annotated[
        bool, typer.Option("--despite-gate", help="Even if the gate has not found it good; the history says so.")
    ] = False,
) -> None:
    """Make a version champion of all rows from the next night on, without a rollout."""
    from nightscore.registry.promotion import promote
    from nightscore.registry.rollout import newest_night

    wanted = require_reason(reason)
    workspace, pipeline, found = find_model(version)
    night = newest_night(workspace, pipeline)
    done = promote(workspace, pipeline, found, actor(), wanted, despite_gate, as_of=night)
    if not done.moved:
        sys.stdout.write(f"{found.name} is the champion already.\n")
        return
    sys.stdout.write(f"{found.name} is the champion; before: {done.before or 'none'}.\n{_way_back(pipeline.name)}")


@app.command("rollback")
def roll_back(pipeline: PipelineName, reason: Reason = None, as_json: AsJson = False) -> None:
    """The champion before this one takes its place again, and readers see the last night as that one scores it."""
    from nightscore.publishing.retreat import retreat
    from nightscore.settings import Settings

    wanted = require_reason(reason)
    spec = find_pipeline(Settings(), pipeline)
    done = retreat(open_deployment(), spec, actor(), wanted)
    if as_json:
        print_json(vars(done) | {"champion": done.champion.name})
        return
    taken = f"{pipeline}@{done.taken_back} is taken back; " if done.taken_back is not None else ""
    sys.stdout.write(f"{taken}{done.champion.name} is the champion.\n")
    if done.blocked:
        sys.stdout.write(f"The night of {done.night} could not be published again: {'; '.join(done.blocked)}\n")
    elif done.changeset_id is not None:
        sys.stdout.write(f"Readers see {done.night} as it scores it; changeset {done.changeset_id}\n")


def open_deployment() -> "Workspace":
    """The deployment that the environment describes."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    return open_workspace(Settings())


def actor() -> str:
    """Who is asking."""
    from getpass import getuser

    return getuser()


def find_model(text: str) -> "tuple[Workspace, Pipeline, ModelVersion]":
    """The deployment, the spec and the version that `pipeline@7` names."""
    from nightscore.registry.versions import require_version
    from nightscore.settings import Settings

    name, number = parse_version(text)
    pipeline = find_pipeline(Settings(), name)
    workspace = open_deployment()
    return workspace, pipeline, require_version(workspace, name, number)


def evidence_night(workspace: "Workspace", pipeline: "Pipeline", given: datetime | None) -> date:
    """The night that was given, or the newest one whose labels are in the lake; NotEnoughData without any."""
    from nightscore.errors import NotEnoughData
    from nightscore.spec.datasets import labels_dataset

    if given is not None:
        return given.date()
    known = workspace.lake.current(labels_dataset(pipeline.name), pipeline.score_dates.start, date.max)
    if not known:
        found, remedy = "the lake has no labels", f"run `nightscore train {pipeline.name}` first, or give --as-of"
        raise NotEnoughData(f"Choosing the night to judge {pipeline.name} by", found, remedy)
    return max(known)


def _rollout_starter(
    workspace: "Workspace", pipeline: "Pipeline", reason: str
) -> "Callable[[ModelVersion], None]":  # fmt: skip
    def start(version: "ModelVersion") -> None:
        from nightscore.registry.rollout import begin_rollout

        begin_rollout(workspace, pipeline, version, actor(), reason)

    return start


def _same_pipeline(workspace: "Workspace", first: "ModelVersion", text: str) -> "ModelVersion":
    from nightscore.errors import SpecError
    from nightscore.registry.versions import require_version

    name, number = parse_version(text)
    if name != first.pipeline:
        found = f"{first.name} and {text} are of two pipelines"
        raise SpecError("Comparing two versions", found, "name two versions of one pipeline")
    return require_version(workspace, name, number)


def _aliases(connection: "sa.Connection", pipeline: str) -> dict[str, list[str]]:
    """Every alias that a version holds, by the version's name."""
    from nightscore.catalog.models import holders_of

    held: dict[str, list[str]] = {}
    for alias, version in sorted(holders_of(connection, pipeline).items()):
        held.setdefault(f"{pipeline}@{version}", []).append(alias)
    return held


def _newest_judgement(connection: "sa.Connection", version: "ModelVersion") -> "Decision | None":
    from nightscore.catalog.decisions import list_decisions

    made = list_decisions(connection, version.pipeline, limit=1000, kind="promotion")
    return next((one for one in made if one.subject == version.name and "gate" in one.evidence), None)


def _read_history(connection: "sa.Connection", pipeline: str) -> list[dict[str, Any]]:
    from nightscore.catalog.decisions import list_decisions
    from nightscore.catalog.models import list_alias_events, list_model_events

    told = [
        {"at": one["at"], "what": f"alias {one['alias']}", "version": _name(pipeline, one["version"]),
         "actor": one["actor"], "reason": one["reason"]}
        for one in list_alias_events(connection, pipeline)
    ]  # fmt: skip
    told += [
        {"at": one["at"], "what": one["event"].replace("_", " "), "version": _name(pipeline, one["version"]),
         "actor": one["actor"], "reason": one["reason"]}
        for one in list_model_events(connection, pipeline)
    ]  # fmt: skip
    told += [
        {"at": one.at, "what": f"{one.kind}: {one.verdict.replace('_', ' ')}", "version": one.subject,
         "actor": one.actor, "reason": one.reason}
        for kind in ("promotion", "rollout", "watch")
        for one in reversed(list_decisions(connection, pipeline, limit=1000, kind=kind))
    ]  # fmt: skip
    return sorted(told, key=lambda one: one["at"])


def _name(pipeline: str, version: int | None) -> str:
    return "nobody" if version is None else f"{pipeline}@{version}"


def _print_proposal(proposal: "Proposal", night: date) -> None:
    from orchestration.cli.model_tables import print_evidence, print_verdict

    verdict, version = proposal.verdict, proposal.version
    print_evidence(verdict.evidence)
    title = f"{version.name} against {proposal.champion.name} as of {night}"
    print_verdict(title, verdict.outcome, verdict.reasons)
    sys.stdout.write(f"{version.name}: {proposal.action}: {proposal.reason}\n")
    if proposal.action in ("asked", "waiting"):
        sys.stdout.write(f'Approve it:   nightscore models approve {version.name} --reason "…"\n')
    sys.stdout.write(_way_back(version.pipeline, proposal.action))


def _way_back(pipeline: str, action: str = "promoted") -> str:
    ways = {"promoted": f"models rollback {pipeline}", "rollout": f"rollout stop {pipeline}"}
    return f'Take it back:   nightscore {ways[action]} --reason "…"\n' if action in ways else ""
