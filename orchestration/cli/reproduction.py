"""`nightscore reproduce` and `trace`: make the past again and say whether it came out the same.

Added here: a command that proves something of the past. Not here: how it is printed (`reproduction_tables.py`).
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from orchestration.cli.isolation import leave_module_path
from orchestration.cli.output import JSON_OPTION, print_json

AsJson = Annotated[bool, JSON_OPTION]
NOT_EQUAL, CANNOT = 5, 6
Night = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="A published night.")]
PublicationId = Annotated[int | None, typer.Option(help="A revision of the night; default: the current one.")]


def reproduce(
    subject: Annotated[
        str, typer.Argument(help="pipeline@version, such as flight_delay@1; or a pipeline, with --night.")
    ],
    night: Night = None,
    publication: PublicationId = None,
    as_json: AsJson = False,
) -> None:
    """Train a model version again, or make a published night again, and compare to the byte.

    Sources, packages and data are those of the time: unpacked from the capsule or the receipt, installed from its lock
    file, restored from its snapshot and hashed again. Exit codes: 0 reproduced; 5 not equal, with the first
    difference; 6 cannot, with what is missing.
    """
    leave_module_path()
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings
    from orchestration.cli.reproduction_tables import print_reproduction

    workspace = open_workspace(Settings())
    made = _reproduce(workspace, subject, night, publication)
    if as_json:
        print_json(vars(made))
    else:
        print_reproduction(made)
    raise SystemExit(0 if made.outcome == "reproduced" else NOT_EQUAL)


def _reproduce(workspace: Any, subject: str, night: datetime | None, publication: int | None) -> Any:
    from getpass import getuser

    from nightscore.errors import SpecError
    from nightscore.publishing.revisions import choose_publication
    from nightscore.registry.versions import require_version
    from nightscore.reproduction.nights import reproduce_night
    from nightscore.reproduction.versions import reproduce_version
    from orchestration.cli.specs import parse_version

    if night is None:
        if publication is not None:
            raise SpecError("Reading the subject", "--publication without --night", "give the night of the publication")
        name, number = parse_version(subject)
        return reproduce_version(workspace, require_version(workspace, name, number), getuser())
    if "@" in subject:
        raise SpecError("Reading the subject", f"{subject} and --night", "a night knows its version: leave @ out")
    return reproduce_night(workspace, choose_publication(workspace, subject, night.date(), publication), getuser())


def trace(
    pipeline: Annotated[str, typer.Argument(help="A pipeline.")],
    date: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The night of the row.")],
    key: Annotated[list[str], typer.Option(help="column=value of the entity key, once a column; or all as a,b,c.")],
    publication: PublicationId = None,
    as_of: Annotated[str | None, typer.Option(help="What readers saw then: 2026-11-21T07:00:00Z.")] = None,
    as_json: AsJson = False,
) -> None:
    """From one published row back to everything that made it, and its score computed again: EQUAL or not.

    Exit codes: 0 equal; 5 not equal; 6 it cannot be computed again, with what is missing.
    """
    leave_module_path()
    from getpass import getuser

    from nightscore.lake.workspace import open_workspace
    from nightscore.publishing.revisions import choose_publication
    from nightscore.reproduction.trace import trace_as_json, trace_row
    from nightscore.settings import Settings
    from orchestration.cli.reproduction_tables import print_trace

    workspace = open_workspace(Settings())
    chosen = choose_publication(workspace, pipeline, date.date(), publication, _parse_instant(as_of))
    traced = trace_row(workspace, chosen, key, getuser())
    if as_json:
        print_json(trace_as_json(traced))
    else:
        print_trace(traced)
    raise SystemExit({"EQUAL": 0, "NOT EQUAL": NOT_EQUAL, "CANNOT SAY": CANNOT}[traced.verdict])


def _parse_instant(text: str | None) -> datetime | None:
    from nightscore.errors import SpecError

    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError("Reading --as-of", f"found {text!r}", "write it as 2026-11-21T07:00:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
