"""`nightscore drill` and `reproductions`: make a random piece of the past again, and list what was made again so far.

Added here: a command about attempts in general. Not here: reproducing something that was named (`reproduction.py`).
"""

from typing import Annotated, Any

import typer

from orchestration.cli.isolation import leave_module_path
from orchestration.cli.output import JSON_OPTION, print_json, stdout
from orchestration.cli.reproduction import CANNOT, NOT_EQUAL

AsJson = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="A pipeline.")]


def drill(
    pipeline: Name,
    budget: Annotated[float | None, typer.Option(min=1, help="Seconds it may take; default: the spec's.")] = None,
    seed: Annotated[str | None, typer.Option(help="What the choice follows from; default: this instant.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make one published night and one model version of the past again, chosen by lot, and say how it came out.

    Exit codes: 0 all reproduced; 2 there is nothing to drill; 5 something is not equal, or stands as broken from an
    earlier drill; 6 something cannot be made.
    """
    leave_module_path()
    from nightscore.lake.workspace import open_workspace
    from nightscore.reproduction.drill import run_drill
    from nightscore.settings import Settings
    from orchestration.cli.specs import find_pipeline, require_pipeline_name

    settings = Settings()
    require_pipeline_name(settings, pipeline)
    seconds = budget or find_pipeline(settings, pipeline).schedule.drill_budget_minutes * 60
    workspace = open_workspace(settings)
    result = run_drill(workspace, pipeline, seed or workspace.clock.now().isoformat(), seconds)
    _require_attempts(result)
    _print_drill(result, as_json)
    raise SystemExit(_exit_code(result))


def _require_attempts(result: Any) -> None:
    from nightscore.errors import PublicationMissing, SpecError

    attempted = f"Drilling {result.pipeline}"
    if result.is_empty:
        raise PublicationMissing(attempted, result.skipped, f"score a night first: `nightscore run {result.pipeline}`")
    if not result.attempts:
        raise SpecError(attempted, result.skipped, "give more time with --budget, or schedule.drill_budget_minutes")


def _print_drill(result: Any, as_json: bool) -> None:
    from orchestration.cli.reproduction_tables import print_attempts

    if as_json:
        print_json(vars(result) | {"attempts": [vars(one) for one in result.attempts], "passed": result.passed})
        return
    print_attempts(f"Drill of {result.pipeline}, seed {result.seed}", result.attempts)
    for reason in result.skipped:
        stdout().print(f"Left out: {reason}")
    for title in result.standing:
        stdout().print(f"Broken: {title}")
    stdout().print(f"Streak: {result.streak} drill attempts in a row were reproduced", style="bold")


def _exit_code(result: Any) -> int:
    outcomes = {one.outcome for one in result.attempts}
    if "cannot" in outcomes and "not equal" not in outcomes:
        return CANNOT
    return NOT_EQUAL if result.standing else 0


def reproductions(pipeline: Name, as_json: AsJson = False) -> None:
    """The newest hundred attempts at making something of a pipeline again, newest first."""
    from nightscore.catalog.reproductions import list_reproductions
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings
    from orchestration.cli.reproduction_tables import print_attempts
    from orchestration.cli.specs import require_pipeline_name

    settings = Settings()
    require_pipeline_name(settings, pipeline)
    with open_workspace(settings).engine.connect() as connection:
        attempts = list_reproductions(connection, pipeline)
    if as_json:
        print_json([vars(one) for one in attempts])
    else:
        print_attempts(f"Reproductions of {pipeline}", attempts)
