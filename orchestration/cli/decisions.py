"""`nightscore decisions`: the ledger of restatements, promotions, rollouts and takings back, each with its evidence.

Added here: nothing but this command. Not here: deciding on a changeset (`changes.py`) or a version (`models.py`).
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from nightscore.catalog.decisions import Decision


def decisions(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """The newest hundred decisions, newest first: what was done, asked for or left alone, by whom, and why."""
    from nightscore.catalog.decisions import list_decisions
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings
    from orchestration.cli.specs import require_pipeline_name

    settings = Settings()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    with open_workspace(settings).engine.connect() as connection:
        made = list_decisions(connection, pipeline)
    if as_json:
        print_json([vars(one) for one in made])
        return
    for one in made:
        _say(one)


def _say(one: "Decision") -> None:
    """A few lines, not a row of a table: reasons are long, and commands are copied."""
    night = f", as of {one.evidence['as_of']}" if one.evidence.get("as_of") else ""
    verdict = one.verdict.replace("_", " ")
    lines = [f"{one.at:%Y-%m-%d %H:%M}  {one.pipeline}: {one.kind} of {one.subject}: {verdict}{night}, by {one.actor}"]
    lines += [f"  why:  {one.reason}"]
    lines += [f"  next: {one.evidence['command']}"] if one.evidence.get("command") else []
    sys.stdout.write("\n".join(lines) + "\n")
