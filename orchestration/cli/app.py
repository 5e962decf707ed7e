"""The `nightscore` command: its groups, its exit codes, and how errors reach a person.

Added here: registration of a command. Not here: what a command does.
"""

import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from nightscore.errors import NightscoreError, SettingsError
from orchestration.cli import (
    attempts,
    backfills,
    cards,
    changes,
    ci,
    data,
    database,
    decisions,
    doctor,
    drills,
    ensembles,
    experiments,
    incidents,
    models,
    nights,
    policies,
    reports,
    reproduction,
    reviews,
    rollbacks,
    rollouts,
    slimming,
    specs,
    tune,
    up,
)

EPILOG = (
    "Exit codes: 0 done; 1 unexpected error; 2 repair something first (spec, data, settings); "
    "3 a gate held a night back; 4 try again later (lost connection, lock, disk); 5 made again, but not equal; "
    "6 cannot be made again; 7 a version is worse, or held back; 8 there is not enough evidence about a version."
)

app = typer.Typer(
    name="nightscore", no_args_is_help=True, pretty_exceptions_enable=False, epilog=EPILOG, add_completion=False,
    help="Nightly batch scoring: gates on data, a receipt for every prediction, evidence before action.",
)  # fmt: skip
app.command("run")(nights.run)
app.command("train")(nights.train)
app.command("attempt")(attempts.attempt)
app.command("tune")(tune.tune)
app.command("slim")(slimming.slim)
app.command("ci")(ci.ci)
app.command("status")(nights.status)
app.command("report")(reports.report)
app.command("backfill")(backfills.backfill)
app.command("reproduce")(reproduction.reproduce)
app.command("trace")(reproduction.trace)
app.command("drill")(drills.drill)
app.command("reproductions")(drills.reproductions)
app.command("decisions")(decisions.decisions)
app.command("rollback")(rollbacks.rollback)
app.command("validate")(specs.validate)
app.command("schema")(specs.schema)
app.command("doctor")(doctor.doctor)
app.command("up")(up.up)
models.app.command("card")(cards.card)
models.app.command("ensemble")(ensembles.ensemble)
app.add_typer(models.app, name="models")
app.add_typer(experiments.app, name="experiments")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(reviews.app, name="review")
app.add_typer(incidents.app, name="incidents")
app.add_typer(policies.app, name="policy")
app.add_typer(changes.app, name="changes")
app.add_typer(database.app, name="db")
app.add_typer(data.app, name="data")


@app.callback()
def common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each step and Dagster's own messages.")] = False,
) -> None:
    """Set up logging for the command that follows."""
    from orchestration.cli.output import configure_logging

    configure_logging(verbose)


def main() -> None:
    """Run the command line; errors of the engine are shown whole, without a traceback."""
    try:
        app()
    except NightscoreError as error:
        failed = error
    except ValidationError as error:
        failed = _settings_error(error)
    sys.stderr.write(f"{failed}\n")
    raise SystemExit(failed.exit_code)


def _settings_error(error: ValidationError) -> NightscoreError:
    if error.title != "Settings":
        raise error
    found = [f"NIGHTSCORE_{'__'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
    return SettingsError("Reading the settings", found, "correct these environment variables")
