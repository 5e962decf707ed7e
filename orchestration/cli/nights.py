"""`nightscore run`, `train` and `status`: make nights, make models, and see what became of them.

Added here: a command about nights. Not here: how jobs are run (`launch.py`) or shown (`night_tables.py`).
"""

import sys
from datetime import datetime
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json, print_table
from orchestration.cli.specs import require_pipeline_name

PipelineName = Annotated[str, typer.Argument(help="Name of a pipeline, as in pipelines/<name>.yaml.")]
AsJson = Annotated[bool, JSON_OPTION]


def run(
    pipeline: PipelineName,
    date: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="One night.")] = None,
    from_: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First night.")] = None,
    to: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last night.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score and publish a night, or a range of nights; without a date, the next one.

    The next night is the one after the latest published, and the first night with a full training window when none
    is. A pipeline without a champion is bootstrapped first: its history is read and a first version trained.
    A night that is published already, and whose inputs did not change, is left as it is.
    """
    from orchestration.cli.night_runs import choose_nights, run_and_report

    given = [None if one is None else one.date() for one in (date, from_, to)]
    raise SystemExit(run_and_report(pipeline, lambda *known: choose_nights(*known, *given), as_json))


def train(
    pipeline: PipelineName,
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The night to train for; default: the next night.")
    ] = None,
    purpose: Annotated[str, typer.Option(help="Why; kept with the version.")] = "trained by hand",
    store_wheels: Annotated[
        bool, typer.Option(help="Keep the packages of the lock file in the lake, so that no index is needed later.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train and register a model version from what was mature by a night.

    The first version becomes champion; later ones are registered beside it. The same recipe on the same data is the
    version it was before.
    """
    from orchestration.cli.night_runs import train_and_report

    raise SystemExit(train_and_report(pipeline, as_of.date() if as_of else None, purpose, store_wheels, as_json))


def status(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    nights: Annotated[int, typer.Option(min=1, help="How many of the last nights to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """What readers see now, and which nights were held back or failed, with the reason."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.reports.status import read_status
    from nightscore.settings import Settings

    settings = Settings()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    names = [pipeline] if pipeline else sorted(path.stem for path in settings.pipelines_path.glob("*.yaml"))
    found = read_status(open_workspace(settings).engine, names, nights)
    if as_json:
        print_json([one.as_json() for one in found])
        return
    for one in found:
        latest = one.latest
        shown = f"{latest.score_date} (revision {latest.revision}, {latest.rows:,} rows)" if latest else "nothing yet"
        champion = f"{one.pipeline}@{one.champion}" if one.champion else "no champion"
        rows = [(str(n.score_date), n.status, f"{n.at:%Y-%m-%d %H:%M}Z", n.reason) for n in one.nights]
        title = f"{one.pipeline}: readers see {shown}; {champion}"
        print_table(title, ("night", "status", "since", "reason"), rows)
    sys.stdout.flush()
