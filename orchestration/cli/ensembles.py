"""`nightscore models ensemble`: versions of a pipeline averaged by weight, as a version of its own.

Added here: nothing but this command. Not here: its way to the champion's place, which is that of any version.
"""

import sys
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json


def ensemble(
    pipeline: Annotated[str, typer.Argument(help="A pipeline.")],
    members: Annotated[list[str], typer.Argument(help="Two versions or more, each with its weight: 3=0.5 7=0.5.")],
    purpose: Annotated[str, typer.Option(help="What it is for; kept with the version.")] = "ensemble",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Register the weighted mean of versions; weights are divided by their sum. Nothing is scored by it yet.

    The same members with the same weights are the version they were before.
    """
    from getpass import getuser

    from nightscore.lake.workspace import open_workspace
    from nightscore.registry.ensembles import register_ensemble
    from nightscore.registry.versions import require_version
    from nightscore.settings import Settings
    from orchestration.cli.specs import find_pipeline

    weights = _parse_members(members)
    workspace = open_workspace(Settings())
    spec = find_pipeline(workspace.settings, pipeline)
    versions = [(require_version(workspace, pipeline, number), weight) for number, weight in weights]
    made = register_ensemble(workspace, spec, versions, purpose, getuser(), "")
    if as_json:
        print_json(vars(made))
        return
    parts = ", ".join(f"{pipeline}@{one['version']} ({one['weight']:.4g})" for one in made.metrics["members"])
    sys.stdout.write(f"{made.name} is the weighted mean of {parts}\n")
    sys.stdout.write(f"Unseen by all of them: {made.metrics['held_out']['rows']:,} labelled rows\n")
    sys.stdout.write(f"See it: nightscore models show {made.name}\n")


def _parse_members(members: list[str]) -> list[tuple[int, float]]:
    from nightscore.errors import SpecError

    found = [f"{one!r} is not VERSION=WEIGHT" for one in members if _parse(one) is None]
    if found:
        raise SpecError("Reading the members", found, "write them as 3=0.5 7=0.5")
    return [pair for one in members if (pair := _parse(one)) is not None]


def _parse(text: str) -> tuple[int, float] | None:
    number, _, weight = text.partition("=")
    try:
        return (int(number), float(weight))
    except ValueError:
        return None
