"""`nightscore slim`: a version with fewer trees, as a version of its own.

Added here: nothing but this command. Not here: its way to the champion's place, which is that of any version.
"""

import sys
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json


def slim(
    version: Annotated[str, typer.Argument(help="pipeline@version, such as flight_delay@7.")],
    max_loss: Annotated[float, typer.Option(help="Share of its loss on held-out rows that may be lost.")] = 0.01,
    purpose: Annotated[str, typer.Option(help="What it is for; kept with the version.")] = "slimmed",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Register a LightGBM version with fewer trees: pruned, or distilled into new ones. Nothing is scored by it yet.

    Where more would be lost on held-out rows, the figures are told and nothing is registered.
    """
    from getpass import getuser

    from nightscore.registry.slimming import register_slimmed
    from orchestration.cli.models import find_model

    workspace, pipeline, found = find_model(version)
    made = register_slimmed(workspace, pipeline, found, max_loss, purpose, getuser(), "")
    if as_json:
        print_json(vars(made))
        return
    told = made.metrics["slimming"]
    sys.stdout.write(
        f"{made.name} is {found.name} with {told['trees']} of {told['full_trees']} trees, {told['kind']}\n"
        f"On {told['rows']:,} held-out rows {told['metric'].replace('_', ' ')} is {told['loss']:.6g} against "
        f"{told['full_loss']:.6g}: {100 * told['loss_share']:+.2g} %\n"
        f"Let the gate judge it: nightscore models propose {made.name}\n"
    )
