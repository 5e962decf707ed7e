"""`nightscore report`: the report of a night, or the dashboard of a pipeline over a period, as a page or as Markdown.

Added here: another form of these reports. Not here: what they say (`nightscore/reports`).
"""

import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from nightscore.lake.workspace import Workspace
    from nightscore.spec.pipeline import Pipeline

_PERIOD = timedelta(days=90)
DATES = ["%Y-%m-%d"]


def report(
    pipeline: Annotated[str, typer.Argument(help="Name of a pipeline, as in pipelines/<name>.yaml.")],
    night: Annotated[
        datetime | None, typer.Argument(formats=DATES, help="A score date; default: the newest watched one.")
    ] = None,
    to: Annotated[
        Path, typer.Option(help="The folder that the page is written to; made when it is not there.")
    ] = Path(),
    from_: Annotated[datetime | None, typer.Option("--from", formats=DATES, help="First night of a dashboard.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=DATES, help="Its last night; default: the newest watched one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown on stdout, without charts.")] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """What became of a night, what was found and what readers see; with --from or --until, of all nights of a period.

    The page is one file without scripts or links: night-<pipeline>-<night>.html or dashboard-<pipeline>.html.
    """
    from nightscore.errors import SpecError
    from nightscore.lake.workspace import open_workspace
    from nightscore.reports.watch_facts import newest_watched_night
    from nightscore.settings import Settings
    from orchestration.cli.specs import find_pipeline

    if night is not None and (from_ or until):
        raise SpecError(
            "Choosing the report", "a night and a period are both given", "give NIGHT, or --from and --until"
        )
    settings = Settings()
    spec = find_pipeline(settings, pipeline)
    workspace = open_workspace(settings)
    if from_ or until:
        last = until.date() if until else newest_watched_night(workspace, pipeline)
        first = from_.date() if from_ else last - _PERIOD
        _report_period(workspace, spec, first, last, None if markdown or as_json else to, as_json)
    else:
        chosen = night.date() if night else newest_watched_night(workspace, pipeline)
        _report_night(workspace, spec, chosen, None if markdown or as_json else to, as_json)


def _report_night(workspace: "Workspace", spec: "Pipeline", night: date, to: Path | None, as_json: bool) -> None:
    from nightscore.reports.night_report import render_markdown, write_night_report
    from nightscore.reports.watch_facts import read_night_facts

    if to is not None:
        _say(write_night_report(workspace, spec, night, to))
    elif as_json:
        print_json(read_night_facts(workspace, spec, night).as_json())
    else:
        sys.stdout.write(render_markdown(read_night_facts(workspace, spec, night)))


def _report_period(
    workspace: "Workspace", spec: "Pipeline", first: date, last: date, to: Path | None, as_json: bool
) -> None:
    from nightscore.reports.dashboard import render_markdown, write_dashboard
    from nightscore.reports.watch_facts import read_period_facts

    if to is not None:
        _say(write_dashboard(workspace, spec, first, last, to))
    elif as_json:
        print_json(read_period_facts(workspace, spec, first, last).as_json())
    else:
        sys.stdout.write(render_markdown(read_period_facts(workspace, spec, first, last)))


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}\n")
