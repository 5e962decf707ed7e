"""`nightscore rollback`: readers see earlier revisions of published nights again, at once, and undoably.

Added here: nothing but this command. Not here: rollback of a model.
"""

import sys
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json


def rollback(
    pipeline: Annotated[str, typer.Argument(help="A pipeline.")],
    to: Annotated[int | None, typer.Option(help="The publication that readers shall see again.")] = None,
    nights: Annotated[
        int | None, typer.Option(min=1, help="The last N published nights, each one revision back.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    stage: Annotated[bool, typer.Option(help="Only stage it, for review; readers see nothing new yet.")] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Point readers at earlier revisions, in one transaction; it is a changeset, so `changes undo` takes it back."""
    from getpass import getuser

    from nightscore.errors import SpecError
    from nightscore.lake.workspace import open_workspace
    from nightscore.publishing.changesets import approve, require_changeset
    from nightscore.publishing.rollback import earlier_revisions, open_rollback, revision_of
    from nightscore.settings import Settings
    from orchestration.cli.changes import require_reason
    from orchestration.cli.specs import find_pipeline

    wanted = require_reason(reason)
    if (to is None) == (nights is None):
        raise SpecError(
            "Reading how far back", "expected one of --to and --nights", "give --to PUBLICATION or --nights N"
        )
    workspace = open_workspace(Settings())
    spec = find_pipeline(workspace.settings, pipeline)
    moves = (
        revision_of(workspace, pipeline, to) if to is not None else earlier_revisions(workspace, pipeline, nights or 1)
    )
    opened = open_rollback(workspace, spec, moves, wanted, getuser())
    if not stage:
        approve(workspace, opened.changeset_id, getuser(), wanted)
    if as_json:
        print_json(vars(require_changeset(workspace, opened.changeset_id)))
        return
    _say(opened.changeset_id, {str(night): then for night, (_, then) in moves.items()}, stage)


def _say(changeset_id: int, moves: dict[str, int], stage: bool) -> None:
    verb = "would see" if stage else "see"
    for night, publication in moves.items():
        sys.stdout.write(f"{night}: readers {verb} publication {publication}\n")
    following = f"changes approve {changeset_id}" if stage else f"changes undo {changeset_id}"
    sys.stdout.write(f"Changeset {changeset_id}; what it changes: nightscore changes diff {changeset_id}\n")
    sys.stdout.write(f'{"Approve it" if stage else "Take it back"}: nightscore {following} --reason "…"\n')
